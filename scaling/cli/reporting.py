"""`scaling collect`, `fit`, `predict`, `compare`, `report`, `laws`: from finished runs to laws, tables and figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scaling.checks import Check
from scaling.cli.calibration import calibrated
from scaling.cli.options import json_option, root_option, sweep_argument, table_argument
from scaling.cli.screen import print_checks, print_json, print_table, say
from scaling.errors import ScalingError
from scaling.quantity import format_number, parse_number
from scaling.results.collect import collect as collect_rows
from scaling.results.collect import refuse_vanishing
from scaling.results.launches import Launch
from scaling.results.status import RunStatus, counts
from scaling.results.store import Store
from scaling.rows import RunRow, write_runs

if TYPE_CHECKING:
    from scaling.analysis.study import Study
    from scaling.cli.project import Project
    from scaling.inference.measure import MeasuredCost
    from scaling.report.html import WrittenReport

Option = Callable[[Callable[..., Any]], Callable[..., Any]]


class Quantity(click.ParamType[float]):
    """A positive number as people write it: 1e22, 1.3B."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or a usage error."""
        try:
            number = float(parse_number(value))
        except ValueError as error:
            self.fail(f"{value!r} is {error}", param, ctx)
        if number <= 0:
            self.fail(f"{value!r} is not positive", param, ctx)
        return number


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


def fit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How a fit is made: written in the sweep's `analysis:` block, or chosen on the line."""
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
        click.option("--bootstrap", type=click.IntRange(0, 100_000), help="Draws for the intervals; 0 for none."),
        click.option(
            "--drop-highest", type=click.IntRange(0), default=0, help="Leave out the K highest losses of each line."
        ),
        click.option("--seed", type=click.IntRange(0), help="Of the draws (default 0)."),
    )
    for option in reversed(options):
        function = option(function)
    return function


@click.command()
@sweep_argument
@click.option("--records", is_flag=True, help="Also records.jsonl, which `scaling import` reads, and curves.csv.")
@root_option
def collect(sweep: Path, records: bool, root: Path | None) -> None:
    """Write the store's results of the last launch to results/<sweep>/runs.csv."""
    from scaling.cli.project import Project
    from scaling.results.curves import write_curves
    from scaling.results.records import write_records

    project = Project.open(sweep, root)
    launch = project.launch()
    runs = project.statuses(launch)
    write_table(project, launch, runs)
    path = project.results / "runs.csv"
    tally = ", ".join(f"{count} {name}" for name, count in counts(runs).items() if count)
    say(f"{path}: {len(runs)} runs, {tally}")
    if records:
        store = Store(Path(launch.store))
        written, problems = write_records(project.results, runs, store)
        for problem in problems:
            say(f"without its records: {problem}")
        points = write_curves(project.results, runs, store)
        say(f"{project.results}: records of {written} runs, {points} points of curves")


@click.command()
@table_argument
@click.option(
    "--approach", type=click.Choice(["1", "2", "3"]), help="Only this approach (default: all that the points allow)."
)
@fit_options
@root_option
@json_option
def fit(table: Path, approach: str | None, root: Path | None, as_json: bool, **choices: Any) -> None:
    """Laws of a sweep's finished runs, or of any table of params, tokens and loss, with intervals."""
    from scaling.report.documents import fits_json
    from scaling.report.terminal import fit_text

    study = study_of(table, root, choices)
    if as_json:
        document = fits_json(study)
        document["fits"] = [fit for fit in document["fits"] if approach in (None, str(fit["approach"]))]
        print_json(document)
    else:
        click.echo(fit_text(study, approach=None if approach is None else int(approach)) or _nothing(study, approach))
    study.require_law()


def _nothing(study: Study, approach: str | None) -> str:
    """Why no line has the approach asked for."""
    name = {"1": "envelope", "2": "isoflop"}.get(approach or "", "")
    reasons = [
        f"{line.name}: {line.law.skipped[name]}" for line in study.lines if line.law and name in line.law.skipped
    ]
    return "\n".join([f"Approach {approach} has nothing to read here.", *reasons])


@click.command()
@click.argument("table", metavar="[SWEEP|FILE]", required=False, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--compute", "-c", type=Quantity(), multiple=True, help="Training FLOPs; may be repeated.")
@click.option("--published", metavar="NAME", help="Predict from this published law; `scaling laws` lists them.")
@fit_options
@root_option
@json_option
def predict(
    table: Path | None,
    compute: tuple[float, ...],
    published: str | None,
    root: Path | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Compute-optimal N, D and loss of every line at a training compute, each with an interval."""
    if published is not None and table is not None:
        raise click.UsageError("predict from a sweep or a table, or from a published law, not from both")
    if published is not None:
        document = _predict_published(published, compute)
    elif table is not None:
        document = _predict_study(table, root, compute, choices)
    else:
        raise click.UsageError("name a sweep or a table, or a published law with --published NAME")
    if as_json:
        print_json(document)
        return
    header = ("line", "FLOPs", "N", "", "D", "", "loss", "")
    print_table(header, (_prediction_row(one) for one in document["predictions"]))
    print_checks(Check.from_json(check) for one in document["predictions"] for check in one["checks"])


@click.command()
@sweep_argument
@click.option("--measure", is_flag=True, help="Also time the largest model of every line here, factorized and merged.")
@root_option
@json_option
def compare(sweep: Path, measure: bool, root: Path | None, as_json: bool) -> None:
    """Inference cost of the families at equal loss, and their difference in loss at equal compute."""
    from scaling.report.documents import comparisons_json
    from scaling.report.serving_document import measured_json
    from scaling.report.terminal import compare_text

    study = study_of(sweep, root, {})
    rows = measured_rows(study) if measure else []
    if as_json:
        measured = {"measured": [measured_json(line, row) for line, row in rows]} if measure else {}
        print_json(comparisons_json(study) | measured)
        return
    click.echo(compare_text(study))
    if rows:
        click.echo()
        header = ("line", "form", "batch", "N", "predicted", "measured", "tokens/s")
        shown = (
            (
                line,
                row.predicted.form,
                row.predicted.batch,
                format_number(row.predicted.params),
                f"{row.predicted.decode_seconds * 1e3:.2f} ms",
                f"{row.decode_seconds * 1e3:.2f} ms",
                format_number(row.tokens_per_second),
            )
            for line, row in rows
        )
        print_table(header, shown, title="One decode step of the largest model of each line, on this machine", left=2)


@click.command()
@click.argument("source", metavar="SWEEP|RESULTS", type=click.Path(path_type=Path))
@root_option
def report(source: Path, root: Path | None) -> None:
    """Figures, tables and report.html from what is finished now, or from a folder results/<sweep> (its runs.csv)."""
    from scaling.cli.project import Project
    from scaling.cli.table_report import report_of_table

    if source.is_dir() or source.suffix == ".csv":
        say_report(report_of_table(source, root))
        return
    project = Project.open(source, root)
    launch = project.launch()
    say_report(collect_and_report(project, launch, project.statuses(launch)))


@click.command()
@click.argument("name", required=False)
@json_option
def laws(name: str | None, as_json: bool) -> None:
    """Published scaling laws: exponents, conventions and source; with NAME everything about one."""
    from scaling.laws.published import CATALOGUE, published

    chosen = [published(name)] if name else list(CATALOGUE.values())
    if as_json:
        print_json({"laws": [law.to_json() for law in chosen]})
    elif name:
        click.echo(chosen[0].text())
    else:
        header = ("name", "N counts", "tokenizer", "fitted at", "N ∝ C^", "D ∝ C^", "gives")
        print_table(header, (law.row() for law in chosen), left=4)
        click.echo("\nnext: scaling laws NAME shows source, parameters and what was checked")
        click.echo("      scaling predict --published NAME --compute C predicts from one")


def measured_rows(study: Study) -> list[tuple[str, MeasuredCost]]:
    """Each line's name with the times of its largest model on this machine's CPU, beside the calibrated prediction."""
    from scaling.analysis.serving import BATCHES, context_of
    from scaling.hardware import find_device
    from scaling.inference.cost import Setting
    from scaling.inference.measure import calibrate, measure

    device = calibrate(find_device("cpu"))
    found = []
    for line in study.lines:
        if line.curve is None:
            continue
        model = line.curve.rungs[-1]
        for batch in BATCHES:
            setting = Setting(device, batch=batch, context=context_of(study), precision="float32")
            found += [(line.name, row) for row in measure(model.shape, model.ranks, setting)]
    return found


def study_of(table: Path, root: Path | None, choices: dict[str, Any]) -> Study:
    """The study of a sweep's last launch, or of a foreign table; options given on the line replace the settings."""
    from scaling.analysis.settings import Settings
    from scaling.analysis.study import settings_for_table, study_rows
    from scaling.analysis.table_reader import read_table
    from scaling.laws.forms import form_named

    chosen = {name: value for name, value in choices.items() if value is not None and name != "columns"}
    if "law" in chosen:
        form_named(chosen["law"])
    if table.suffix in (".yaml", ".yml"):
        if choices.get("columns"):
            raise click.UsageError("--columns is for foreign tables; a sweep's table has our own columns")
        from scaling.cli.project import Project

        project = Project.open(table, root)
        launch = project.launch()
        rows = collect_rows(project.statuses(launch), Store(Path(launch.store)))
        return study_of_launch(project, rows, **chosen)
    read = read_table(table, columns=choices.get("columns"))
    return study_rows(read, settings=settings_for_table(read, Settings(**chosen)))


def study_of_launch(project: Project, rows: Sequence[RunRow], **chosen: Any) -> Study:
    """The study of what a launch has finished."""
    from scaling.analysis.settings import settings_of
    from scaling.analysis.study import study_rows

    if not any(row.status == "completed" for row in rows):
        raise ScalingError("no run is finished yet", where=str(project.path), hint=f"scaling status {project.path}")
    settings = replace(settings_of(project.sweep), hardware=calibrated(project.root), **chosen)
    return study_rows(rows, settings=settings)


def write_table(project: Project, launch: Launch, runs: list[RunStatus]) -> list[RunRow]:
    """Write runs.csv and return its rows. Raises StoreError where finished runs would vanish from it."""
    path = project.results / "runs.csv"
    refuse_vanishing(path, runs, corpus_hash=launch.corpus_hash)
    rows = collect_rows(runs, Store(Path(launch.store)))
    write_runs(path, rows)
    return rows


def collect_and_report(project: Project, launch: Launch, runs: list[RunStatus]) -> WrittenReport:
    """Everything after training, as files."""
    from scaling.report.html import write_report

    rows = write_table(project, launch, runs)
    study = study_of_launch(project, rows)
    return write_report(study, project.results, launch=launch, runs=runs, sweep=project.sweep)


def say_report(report: WrittenReport) -> None:
    """The report's first sentence, where it is, and what of it could not be made."""
    say(report.sentence)
    for failure in report.failures:
        say(f"not made: {failure.part}: {failure.reason}")
    say(f"report: {report.page}")


def _predict_study(
    table: Path, root: Path | None, compute: tuple[float, ...], choices: dict[str, Any]
) -> dict[str, Any]:
    from scaling.report.documents import predictions_json

    study = study_of(table, root, choices)
    study.require_law()
    targets = compute or study.settings.predict
    if not targets:
        raise click.UsageError("say at which compute: --compute 1e22, or analysis.predict in the sweep")
    return predictions_json(study, targets)


def _predict_published(name: str, compute: tuple[float, ...]) -> dict[str, Any]:
    from scaling.laws.published import published

    if not compute:
        raise click.UsageError("say at which compute: --compute 1e22")
    law = published(name)
    return {
        "params_column": law.params_column,
        "predictions": [
            {"family": law.name, "rank_ratio": None, "line": law.name, "compute": target}
            | law.predict(target)
            | {"intervals": {}, "checks": [check.to_json() for check in law.checks(target)]}
            for target in compute
        ],
    }


def _prediction_row(one: dict[str, Any]) -> tuple[object, ...]:
    shown: list[object] = [one["line"], f"{one['compute']:.3g}"]
    for name in ("N", "D", "loss"):
        low_high = one["intervals"].get(name)
        shown.append(None if one[name] is None else _short(name, one[name]))
        shown.append(f"[{_short(name, low_high[0])}, {_short(name, low_high[1])}]" if low_high else "")
    return tuple(shown)


def _short(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if name == "loss" else format_number(value)
