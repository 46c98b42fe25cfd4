"""The report: one self-contained `report.html`, with the figures and tables it shows beside it.

    <folder>/report.html
    <folder>/figures/*.svg *.png *.pdf
    <folder>/tables/*.csv *.md *.tex

The page needs no network. It follows the reader's light or dark setting, prints with every part unfolded, and reads
without its script, which adds values near the pointer, larger figures, sorting, and training curves. The same study
gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from scaling.analysis.serving import serving
from scaling.analysis.study import Study
from scaling.analysis.table.decisions import TableReport
from scaling.checks import Check, by_severity
from scaling.files import write_atomic
from scaling.laws.comparison import AXES
from scaling.quantity import format_duration, format_number
from scaling.report.attempts import Attempts, Failure
from scaling.report.checklist import checklist
from scaling.report.decision_tables import decision_checks, decision_sentences, made_decision
from scaling.report.figures import FIGURES
from scaling.report.figures.curves import training_curves
from scaling.report.figures.drawer import Drawer
from scaling.report.figures.rendering import Rendered, write_figure
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import css_variables, themed
from scaling.report.grouped_checks import grouped
from scaling.report.imported_runs import marked
from scaling.report.run_list import curves_json, runs_table
from scaling.report.summary import answer
from scaling.report.table import Column, Table
from scaling.report.tables import TABLES
from scaling.results.launches import Launch
from scaling.results.status import RunStatus, code_changes
from scaling.rows import DroppedCell
from scaling.sweeps.schema import Sweep

_PARAMS = {
    "params_total": " (all parameters)",
    "params_non_embedding": " (no embedding table, no output head)",
    "params_matmul": " (the matrices a token is multiplied by, the output head included; no embedding table, no norms)",
}
_RUN_TABLES = ("cells", "dropped", "selection")
_TOP_CHECKS = 3  # that the page shows above the fold
_SERVING_TABLES = ("serving_decision", "break_even", "rank_choice", "over_training", "serving")
PAGE_ROWS = 1_000  # of one table that the page shows: a page of 20,000 rows takes a browser seconds (assumption)


@dataclass(frozen=True)
class Context:
    """What the report shows that is not in the table of runs.

    Args:
        sweep, question: as the sweep file has them.
        commands: how to make the report again, one a line.
        plan_dropped: cells that the plan left out: {"cell", "reason"}.
        plan_checks: what the plan noticed.
        messages: run id -> why it failed.
        facts: more (name, value) pairs for "what was run", such as the code version.
        read: how a foreign table was read.
    """

    sweep: str
    question: str
    commands: Sequence[str] = ()
    plan_dropped: Sequence[DroppedCell] = ()
    plan_checks: Sequence[Check] = ()
    messages: Mapping[str, str] = field(default_factory=dict)
    facts: Sequence[tuple[str, str]] = ()
    read: TableReport | None = None


def context_of(sweep: Sweep, launch: Launch, runs: Sequence[RunStatus]) -> Context:
    """What a launch and the state of its runs add to the table."""
    file = f"sweeps/{sweep.path.name}"
    return Context(
        sweep.name,
        sweep.question,
        commands=(
            f"scaling launch {file} --yes",
            f"scaling report {file}",
            f"scaling fit results/{sweep.name}/runs.csv",
        ),
        plan_dropped=launch.dropped,
        plan_checks=launch.plan_checks,
        messages={run.row.id: run.message for run in runs if run.message},
        facts=(
            ("launch", f"number {launch.number} of {launch.created}, runner {launch.runner}"),
            ("code version", "; ".join([launch.code_version, *code_changes(runs)])),
        ),
    )


@dataclass(frozen=True)
class Drawing:
    """One figure of the page; `width` in rem, `hover` the values near its markers as JSON."""

    name: str
    svg: str
    caption: str
    width: int
    hover: str


@dataclass(frozen=True)
class WrittenReport:
    """The report's first sentence, the page's path, and the figures and tables that could not be made."""

    sentence: str
    page: Path
    failures: tuple[Failure, ...]


def write_page(
    study: Study, folder: Path, context: Context, message: Callable[[str], None] = lambda words: None
) -> WrittenReport:
    """Write the page, the figures and the tables into `folder`; what cannot be made is named on the page.

    Args:
        study, folder, context: what is reported, and where.
        message: hears how far it is.
    """
    from jinja2 import Environment, PackageLoader

    count = sum(len(line.points) for line in study.lines)
    message(f"report of {count} runs: laws and tables, then figures")
    attempts = Attempts(message)
    with Drawer() as drawer:
        begun = _begun(study, folder, attempts, drawer)
        tables = _written_tables(study, folder / "tables", attempts)
        drawings = _drawings(begun, folder / "figures", attempts)
    priced = attempts.make("checks of serving", partial(_serving_checks, study)) or []
    decided = attempts.make("the serving decision", partial(_decided, study)) or []
    missing = _missing_tables(study, context)
    for table in missing:
        table.write(folder / "tables")
    sentences = answer(study)
    runs = attempts.make("table runs", partial(runs_table, study, PAGE_ROWS))
    curves = attempts.make("training curves", partial(curves_json, study, folder)) or "{}"
    found = grouped(_checks(study, context, priced), [line.name for line in study.lines])
    environment = Environment(loader=PackageLoader("scaling"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("report.html.j2").render(
        report={"sweep": context.sweep, "question": context.question, "commands": context.commands}
        | {"facts": _facts(study, context)},
        answer=sentences,
        first=_first_figure(drawings),
        figures=drawings,
        failures=attempts.failures,
        checks=found[:_TOP_CHECKS],
        more_checks=found[_TOP_CHECKS:],
        decided=decided,
        tables=[table for table in tables if table.name not in (*_RUN_TABLES, *_SERVING_TABLES)],
        serving_tables=[table for table in tables if table.name in _SERVING_TABLES],
        runs=runs,
        run_tables=[*(t for t in tables if t.name in ("cells", "selection")), *missing],
        curves=curves,
        checklist=checklist(study),
        page_rows=PAGE_ROWS,
        method=_method(study),
        light=css_variables(dark=False),
        dark=css_variables(dark=True),
        script=_script(),
    )
    path = folder / "report.html"
    write_atomic(path, page)
    return WrittenReport(sentences[0], path, tuple(attempts.failures))


def _first_figure(drawings: Sequence[Drawing]) -> Drawing | None:
    """The one beside the answer: rank as a variable, else loss differences, else the first there is."""
    by_name = {drawing.name: drawing for drawing in drawings}
    return next((by_name[name] for name in ("rank", "difference") if name in by_name), next(iter(drawings), None))


def _script() -> str:
    """The page's own script, inlined."""
    return (resources.files("scaling") / "templates" / "report.js").read_text(encoding="utf-8")


def _checks(study: Study, context: Context, priced: Sequence[Check]) -> list[Check]:
    """Of the study, of serving, and of the plan where the finished runs do not say the same."""
    codes = {check.code for check in study.checks}
    planned = [check for check in context.plan_checks if check.code not in codes]
    return by_severity([*study.checks, *planned, *priced])


def _serving_checks(study: Study) -> list[Check]:
    priced = serving(study)
    own = [check for comparison in priced.comparisons for check in comparison.checks]
    return [*priced.checks, *own, *decision_checks(study)]


def _decided(study: Study) -> list[str]:
    made = made_decision(study)
    return [] if made is None else decision_sentences(made)


def _written_tables(study: Study, folder: Path, attempts: Attempts) -> list[Table]:
    """Every table that has a row, written to `folder` too."""
    tables = [
        attempts.make(f"table {name}", partial(_written_table, table, study, folder)) for name, table in TABLES.items()
    ]
    return [table for table in tables if table is not None]


def _written_table(make: Callable[[Study], Table], study: Study, folder: Path) -> Table | None:
    table = marked(make(study), study)
    if not table.rows:
        return None
    table.write(folder)
    return table


@dataclass(frozen=True)
class _Begun:
    """A figure that is being drawn."""

    figure: StudyFigure[Any]
    data: Any
    picture: Callable[[], Rendered]


def _begun(study: Study, folder: Path, attempts: Attempts, drawer: Drawer) -> list[_Begun]:
    """Every figure that has something to show."""
    figures = (*FIGURES, training_curves(folder))
    made = [attempts.make(f"figure {figure.name}", partial(_begin, figure, study, drawer)) for figure in figures]
    return [one for one in made if one is not None]


def _begin(figure: StudyFigure[Any], study: Study, drawer: Drawer) -> _Begun | None:
    data = figure.data(study)
    if data is None:
        return None
    lines = [line.name for line in study.lines]
    return _Begun(figure, data, drawer.begin(figure.name, partial(figure.draw, data), lines))


def _drawings(begun: Sequence[_Begun], folder: Path, attempts: Attempts) -> list[Drawing]:
    """The figures as the page shows them, written to `folder` too."""
    drawings = [attempts.make(f"figure {one.figure.name}", partial(_drawing, one, folder)) for one in begun]
    return [drawing for drawing in drawings if drawing is not None]


def _drawing(begun: _Begun, folder: Path) -> Drawing:
    figure, data, rendered = begun.figure, begun.data, begun.picture()
    write_figure(folder, figure.name, rendered)
    svg, hover = themed(rendered.files["svg"].decode()), json.dumps(rendered.hover, separators=(",", ":"))
    return Drawing(figure.name, svg, figure.caption(data), figure.width(data), hover)


def _missing_tables(study: Study, context: Context) -> list[Table]:
    """Runs that are no data points with their messages, and cells the plan left out."""
    columns = (Column("run", "run"), Column("line", "line"), Column("reason", "why"), Column("message", "message"))
    rows = tuple((d.run, d.line, d.reason, context.messages.get(d.run)) for d in study.dropped)
    planned = tuple((str(item.cell), item.reason) for item in context.plan_dropped)
    tables = [
        Table("dropped", "Runs that are no data points", columns, rows),
        Table("plan_dropped", "Cells the plan left out", (Column("cell", "cell"), Column("reason", "why")), planned),
        *([] if context.read is None else [_left_out(context.read)]),
    ]
    return [table for table in tables if table.rows]


def _facts(study: Study, context: Context) -> list[tuple[str, str]]:
    """What was run, as (name, value)."""
    rows = [row for line in study.lines for cell in line.cells for row in cell.rows]
    facts = [("data points", ", ".join(f"{line.name}: {len(line.points)} runs" for line in study.lines))]
    seconds = sum(row.device_seconds or 0.0 for row in rows)
    inherited = sum(row.inherited_seconds or 0.0 for row in rows)
    flops = sum(float(line.points.compute.sum()) for line in study.lines)
    spent = f"{flops:.2e} FLOPs ({study.convention})"
    spent += f", {format_duration(seconds)} of device time" if seconds else ""
    shared = f" if each run were trained alone; shared trunks saved {format_duration(inherited)}" if inherited else ""
    facts.append(("training compute", spent + shared))
    optimizer = [row.optimizer_flops / row.flops for row in rows if row.optimizer_flops and row.flops]
    if optimizer:
        share = f"{min(optimizer):.0%} to {max(optimizer):.0%} of training FLOPs, not counted in C"
        facts.append(("optimizer arithmetic", share))
    if study.noise:
        low, high = study.noise.interval
        noise = f"{study.noise.sigma:.4f} nats/token ({low:.4f} to {high:.4f}), from {study.noise.cells} cells"
        facts.append(("seed noise", noise))
    for name, column in (("corpus", "corpus_hash"), ("device", "device"), ("torch", "torch_version")):
        values = sorted({value for row in rows if (value := getattr(row, column))})
        if values:
            facts.append((name, ", ".join(values)))
    epochs = [row.epochs for row in rows if row.epochs]
    if epochs:
        facts.append(("passes over the corpus", f"{format_number(min(epochs))} to {format_number(max(epochs))}"))
    return [*facts, *_reading(context.read), *context.facts]


def _reading(read: TableReport | None) -> list[tuple[str, str]]:
    """How a foreign table was read, as (name, value)."""
    if read is None:
        return []
    notes = [("note of the table", note) for note in read.notes]
    return [("columns of the table", read.columns_text), *notes]


def _left_out(read: TableReport) -> Table:
    """The rows of a foreign table that were left out, and why."""
    columns = (Column("row", "line"), Column("column", "column"), Column("value", "value"), Column("reason", "why"))
    rows = tuple((row.row, row.column, row.value, row.reason) for row in read.dropped)
    return Table("left_out", "Rows of the table that were left out", columns, rows)


def _method(study: Study) -> str:
    settings = study.settings
    kinds = {line.law.draws.kind for line in study.lines if line.law and line.law.draws}
    how = {"residuals": "new noise on the design, in parts", "cases": "points drawn with replacement"}
    draws = " and ".join(sorted(how[kind] for kind in kinds))
    counted = (
        f"N is {settings.params_column}{_PARAMS.get(settings.params_column, '')}; C counts {AXES[study.convention]}"
    )
    sentences = [
        f"{counted}; losses are nats per token on fixed validation windows.",
        f"Each line is fitted with {settings.line_law} by {settings.objective}, summed.",
    ]
    if draws:
        sentences.append(
            f"Intervals are 95 %, from {settings.bootstrap} bootstrap draws ({draws}), seed {settings.seed}."
        )
    if any(line.choices for line in study.lines):
        sentences.append("In every draw the setting of each tuned cell is chosen again.")
    if any(one.joint for one in study.comparisons):
        sentences.append(
            "Lines are compared in one joint law by log_mse (A, B, α and β per line, E shared), whose draws carry seed "
            "noise, the scatter of cells and the effects of budgets and of a line's budget; what matched runs share "
            "leaves their difference."
        )
    return " ".join(sentences)
