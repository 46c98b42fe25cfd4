"""How a foreign table is read, as options of the verbs that fit one."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from scaling.analysis.table.reading import TableOptions

Option = Callable[[Callable[..., object]], Callable[..., object]]


class Pairs(click.ParamType[dict[str, str]]):
    """Pairs such as params=N,tokens=D,loss=L, or params=M,tokens=B."""

    def __init__(self, name: str, example: str, left: str) -> None:
        self.name, self._example, self._left = name, example, left

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """Left -> right, or a usage error."""
        if isinstance(value, dict):
            return value
        pairs = [part.partition("=") for part in str(value).split(",")]
        if not all(left and sign and right for left, sign, right in pairs):
            self.fail(f"{value!r} is not a list such as {self._example}", param, ctx)
        named = {left.strip(): right.strip() for left, _, right in pairs}
        if len(named) < len(pairs):
            self.fail(f"{value!r} names one of {self._left} twice", param, ctx)
        return named


TABLE_OPTIONS: Sequence[Option] = (
    click.option(
        "--columns",
        type=Pairs("ours=theirs,...", "params=N,tokens=D,loss=L", "our columns"),
        help="What a foreign table calls its columns, where its names are not recognised: params=N,tokens=D,loss=L. "
        "It may also have family, rank_ratio, flops, budget, seed, weight; for the rank laws factorized_params and "
        "relative_rank; for data_constrained unique_tokens and unique_params.",
    ),
    click.option(
        "--loss", metavar="COLUMN", multiple=True, help="The loss of a foreign table; repeated, a law for each."
    ),
    click.option(
        "--unit",
        type=Pairs("column=unit,...", "params=M,tokens=B", "the columns"),
        multiple=True,
        help="Units of a foreign table: params=M,tokens=B,flops=1e21,loss=ppl (nats, bits, bpb, ppl).",
    ),
    click.option("--where", metavar="EXPRESSION", help="Rows of a table to keep: \"width > 256 and corpus == 'c4'\"."),
    click.option(
        "--exclude",
        metavar="ROWS",
        multiple=True,
        help="Rows of a table to leave out: lines 5,9, a run, or an expression.",
    ),
    click.option("--last-per", metavar="COLUMN", help="Keep the row with the most tokens for each value of a column."),
    click.option(
        "--name-pattern",
        metavar="REGEX",
        help="Read columns from names of files or runs: '(?P<params>\\d+M)-(?P<mult>\\d+)xC'.",
    ),
)


@dataclass(frozen=True)
class TableChoice:
    """What was given on the line of how a table is read; the fields have the names of the options."""

    columns: Mapping[str, str] | None = None
    loss: tuple[str, ...] = ()
    unit: tuple[Mapping[str, str], ...] = ()
    where: str | None = None
    exclude: tuple[str, ...] = ()
    last_per: str | None = None
    name_pattern: str | None = None

    def options(self) -> list[TableOptions]:
        """How the table is read, once for each loss."""
        from scaling.analysis.table.reading import TableOptions

        units = {column: unit for pairs in self.unit for column, unit in pairs.items()}
        return [
            TableOptions(
                columns=self.columns or {},
                loss=loss,
                units=units,
                where=self.where,
                exclude=self.exclude,
                last_per=self.last_per,
                name_pattern=self.name_pattern,
            )
            for loss in self.loss or (None,)
        ]

    def arguments(self) -> list[str]:
        """The options as they are written on the line."""
        written = []
        for field in fields(self):
            value = getattr(self, field.name)
            for one in value if isinstance(value, tuple) else [] if value is None else [value]:
                pairs = ",".join(f"{left}={right}" for left, right in one.items()) if isinstance(one, Mapping) else one
                written += [f"--{field.name.replace('_', '-')}", pairs]
        return written

    def refuse_for_ours(self, why: str = "a sweep's table has our own columns") -> None:
        """A usage error where something was given, for a source that needs none of it."""
        if given := [field.name for field in fields(self) if getattr(self, field.name)]:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise click.UsageError(f"{names}: for foreign tables; {why}")


def table_options(function: Callable[..., object]) -> Callable[..., object]:
    """Options of a verb that reads a foreign table; it takes them as the one argument `choice`."""

    @functools.wraps(function)
    def with_options(**values: Any) -> object:
        choice = TableChoice(**{one.name: values.pop(one.name) for one in fields(TableChoice)})
        return function(choice=choice, **values)

    decorated: Callable[..., object] = with_options
    for option in reversed(TABLE_OPTIONS):
        decorated = option(decorated)
    return decorated
