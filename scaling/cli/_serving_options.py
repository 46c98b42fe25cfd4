"""What will be served, as options of `compare`; keys of the same names stand under `analysis.serving`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import click

from scaling.cli._quantity import Quantity

if TYPE_CHECKING:
    from scaling.analysis.settings import Settings

_PRECISIONS = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32", "int8": "int8"}


class Whole(Quantity):
    """A positive whole number as people write it: 4096, 4k."""

    name = "tokens"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number, or a usage error."""
        number = super().convert(value, param, ctx)
        if number != int(number):
            self.fail(f"{value!r} is not a whole number", param, ctx)
        return int(number)


@dataclass(frozen=True)
class ServingOptions:
    """What was given on the line; None stands for what the sweep, or the default, says."""

    served: float | None = None
    device: str | None = None
    batch: int | None = None
    context: int | None = None
    prompt: int | None = None
    precision: str | None = None
    usd_per_hour: float | None = None
    compute: float | None = None
    loss: float | None = None

    def settings(self, written: Settings) -> Settings:
        """`written` with what was given in its place.

        Raises:
            UsageError: something of serving is said, and neither the line nor the sweep says how many tokens.
        """
        from scaling.analysis.settings import ServingQuestion

        given = {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}
        if not given:
            return written
        if written.serving is None and self.served is None:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise click.UsageError(f"{names}: say how many tokens will be served too: --served 1T")
        if self.loss is not None and self.compute is not None:
            raise click.UsageError(
                "serve at a loss (--loss 2.31) or at what a compute reaches (--compute 1e22), not both"
            )
        if self.loss is not None or self.compute is not None:
            given = {"loss": None, "compute": None} | given
        question = written.serving or ServingQuestion(self.served or 0.0)
        return replace(written, serving=replace(question, **given))


def serving_options(function: Callable[..., object]) -> Callable[..., object]:
    """Options of a verb that decides what to serve; it takes them as the one argument `serving`.

    A number given to `--loss`, which otherwise names a column, is the loss to serve at.
    """
    options: Sequence[Callable[[Callable[..., object]], Callable[..., object]]] = (
        click.option("--served", type=Quantity(), help="Tokens that will be served: which line, and what it costs."),
        click.option("--device", help="Where it is served: a row of the hardware table (default h100)."),
        click.option("--batch", type=Whole(), help="Sequences served at once (default 1)."),
        click.option("--context", type=Whole(), help="Tokens of each sequence (default: the length of training)."),
        click.option("--prompt", type=Whole(), help="Tokens of each sequence that are given and not decoded."),
        click.option(
            "--precision",
            type=click.Choice(list(_PRECISIONS)),
            help="Of the weights (default bf16).",
        ),
        click.option("--usd-per-hour", type=Quantity(), help="Price of one device; without it costs are device hours."),
        click.option(
            "--compute", type=Quantity(), help="Serve at the loss the reference reaches with these training FLOPs."
        ),
    )

    @functools.wraps(function)
    def with_options(**values: Any) -> object:
        names = [one.name for one in fields(ServingOptions) if one.name != "loss"]
        given = {name: values.pop(name) for name in names}
        if given["precision"] is not None:
            given["precision"] = _PRECISIONS[given["precision"]]
        return function(serving=ServingOptions(**given), **values)

    decorated: Callable[..., object] = with_options
    for option in reversed(options):
        decorated = option(decorated)
    return decorated
