"""Numbers on the command line."""

from __future__ import annotations

import click

from scaling.quantity import parse_number


class Quantity(click.ParamType[float]):
    """A positive number as people write it: 1e22, 1.3B."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or a usage error."""
        try:
            number = float(parse_number(value))
        except ValueError as error:
            self.fail(f"{value!r} is {error}", param, ctx)
        if number <= 0:
            self.fail(f"{value!r} is not positive", param, ctx)
        return number
