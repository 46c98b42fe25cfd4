"""How a fit is made: written in the sweep's `analysis:` block, or chosen on the line."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from scaling.cli._quantity import Quantity

if TYPE_CHECKING:
    from scaling.analysis.settings import Settings
    from scaling.analysis.study import Study
    from scaling.laws.isoflop import Curve

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class FitOptions:
    """What was chosen on the line; None stands for what the sweep, or the default, says."""

    columns: Mapping[str, str] | None = None
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
        names = [field.name for field in fields(self) if field.name != "columns"]
        chosen = {name: value for name in names if (value := getattr(self, name)) is not None}
        return replace(written, **chosen)


class Width(Quantity):
    """The width of a Huber objective: a positive number, or `auto`."""

    name = "number|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number, `auto`, or a usage error."""
        return value if value == "auto" else super().convert(value, param, ctx)


class LawOption(click.Option):
    """`--law`, whose help lists the forms there are (read when help is asked for: they load NumPy)."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Name and text of the option."""
        from scaling.laws.forms import FORMS

        self.help = "One of " + ", ".join(FORMS) + "."
        return super().get_help_record(ctx)


class ColumnNames(click.ParamType[dict[str, str]]):
    """Names of a foreign table's columns: params=N,tokens=D,loss=L."""

    name = "ours=theirs,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, str]:
        """Our name -> their name, or a usage error."""
        if isinstance(value, dict):
            return value
        pairs = [part.partition("=") for part in str(value).split(",")]
        if not all(ours and sign and theirs for ours, sign, theirs in pairs):
            self.fail(f"{value!r} is not a list such as params=N,tokens=D,loss=L", param, ctx)
        names = {ours.strip(): theirs.strip() for ours, _, theirs in pairs}
        if len(names) < len(pairs):
            self.fail(f"{value!r} names one of our columns twice", param, ctx)
        return names


def _pairs(context: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, str] | None:
    """`NAME=WORD`, given any number of times, as a mapping; None where it was not given."""
    pairs = [value.partition("=") for value in values]
    for value, (name, sign, word) in zip(values, pairs, strict=True):
        if not (name and sign and word):
            raise click.BadParameter(f"{value!r} is not such as {param.metavar}", context, param)
    return {name.strip(): word.strip() for name, _, word in pairs} or None


def _numbers(context: click.Context, param: click.Parameter, values: Sequence[str]) -> dict[str, float] | None:
    """`_pairs` with a number on the right."""
    named = _pairs(context, param, values)
    try:
        return None if named is None else {name: float(word) for name, word in named.items()}
    except ValueError as error:
        raise click.BadParameter(str(error), context, param) from error


def fit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Options of a verb that fits; it takes them as the one argument `options`."""
    options: Sequence[Option] = (
        click.option(
            "--columns",
            type=ColumnNames(),
            help="What a foreign table calls its columns: params=N,tokens=D,loss=L. It may also have family, "
            "rank_ratio, flops, budget, seed, weight; for the rank laws factorized_params and relative_rank; for "
            "data_constrained unique_tokens and unique_params.",
        ),
        click.option("--law", cls=LawOption),
        click.option("--objective", type=click.Choice(["log_huber", "log_mse", "mse", "huber"])),
        click.option("--delta", type=Width(), help="Of the Huber objectives (default 1e-3), or auto."),
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
    def with_options(**values: Any) -> Any:
        chosen = {field.name: values.pop(field.name) for field in fields(FitOptions)}
        return function(options=FitOptions(**chosen), **values)

    decorated: Callable[..., Any] = with_options
    for option in reversed(options):
        decorated = option(decorated)
    return decorated


def study_of(table: Path, root: Path | None, options: FitOptions) -> Study:
    """The study of a sweep's last launch, or of a foreign table; options given on the line replace the settings."""
    from scaling.analysis.settings import Settings
    from scaling.analysis.study import settings_for_table, study_rows
    from scaling.analysis.table_reader import read_table
    from scaling.laws.forms import form_named

    if options.law is not None:
        form_named(options.law)
    if table.suffix in (".yaml", ".yml"):
        if options.columns:
            raise click.UsageError("--columns is for foreign tables; a sweep's table has our own columns")
        from scaling.cli._project import open_project

        project = open_project(table, root)
        return project.study(options.settings(project.settings))
    rows = read_table(table, columns=options.columns)
    return study_rows(rows, settings=settings_for_table(rows, options.settings(Settings())))
