"""How a fit is made: written in the sweep's `analysis:` block, or chosen on the line."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import click

from scaling.cli._quantity import Quantity
from scaling.cli._table_options import TABLE_OPTIONS, Option, TableChoice
from scaling.laws.forms import FORMS
from scaling.quantity import parse_number

if TYPE_CHECKING:
    from scaling.analysis.settings import Settings
    from scaling.laws.isoflop import Curve


@dataclass(frozen=True)
class FitOptions:
    """What was chosen on the line; None stands for what the sweep, or the default, says."""

    table: TableChoice = field(default_factory=TableChoice)
    law: str | None = None
    objective: str | None = None
    delta: float | Literal["auto"] | None = None
    bootstrap: int | None = None
    drop_highest: int | None = None
    seed: int | None = None
    fixed: Mapping[str, float] | None = None
    tied: Mapping[str, str] | None = None
    curve: Curve | None = None

    def settings(self, written: Settings) -> Settings:
        """`written` with what was chosen in its place."""
        chosen = {name: value for name in _CHOSEN if (value := getattr(self, name)) is not None}
        return replace(written, **chosen)


_CHOSEN = tuple(one.name for one in fields(FitOptions) if one.name != "table")


class Width(click.ParamType[float | Literal["auto"]]):
    """The width of a Huber objective: a positive number, or `auto`."""

    name = "number|auto"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | Literal["auto"]:
        """The number, `auto`, or a usage error."""
        return "auto" if value == "auto" else Quantity().convert(value, param, ctx)


def _pairs(context: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, str] | None:
    """`NAME=WORD`, given any number of times, as a mapping; None where it was not given."""
    pairs = [value.partition("=") for value in values]
    for value, (name, sign, word) in zip(values, pairs, strict=True):
        if not (name and sign and word):
            raise click.BadParameter(f"{value!r} is not such as {param.metavar}", context, param)
    return {name.strip(): word.strip() for name, _, word in pairs} or None


def _numbers(context: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, float] | None:
    """`_pairs` with a number on the right."""
    numbers = {}
    for name, word in (_pairs(context, param, values) or {}).items():
        try:
            numbers[name] = float(parse_number(word))
        except ValueError as error:
            raise click.BadParameter(
                f"{name}={word}: {word!r} is {error}; such as {param.metavar}", context, param
            ) from error
    return numbers or None


def fit_options(function: Callable[..., object]) -> Callable[..., object]:
    """Options of a verb that fits; it takes them as the one argument `options`."""
    options: Sequence[Option] = (
        *TABLE_OPTIONS,
        click.option("--law", help=f"One of {', '.join(FORMS)}."),
        click.option("--objective", type=click.Choice(["log_huber", "log_mse", "mse", "huber"])),
        click.option("--delta", type=Width(), help="Of the Huber objectives: auto, the default, or 1e-3."),
        click.option(
            "--fix",
            "fixed",
            metavar="E=1.69",
            multiple=True,
            callback=_numbers,
            help="Keep a parameter at a value; may be repeated.",
        ),
        click.option(
            "--tie",
            "tied",
            metavar="alpha=beta",
            multiple=True,
            callback=_pairs,
            help="Make a parameter equal to another one; may be repeated.",
        ),
        click.option(
            "--curve", type=click.Choice(["parabola", "cubic", "akima"]), help="Of the isoFLOP profiles (approach 2)."
        ),
        click.option("--bootstrap", type=click.IntRange(0, 100_000), help="Draws for the intervals; 0 for none."),
        click.option("--drop-highest", type=click.IntRange(0), help="Leave out the K highest losses of each line."),
        click.option("--seed", type=click.IntRange(0), help="Of the draws (default 0)."),
    )

    @functools.wraps(function)
    def with_options(**values: Any) -> object:
        table = TableChoice(**{one.name: values.pop(one.name) for one in fields(TableChoice)})
        chosen = {name: values.pop(name) for name in _CHOSEN}
        return function(options=FitOptions(table, **chosen), **values)

    decorated: Callable[..., object] = with_options
    for option in reversed(options):
        decorated = option(decorated)
    return decorated
