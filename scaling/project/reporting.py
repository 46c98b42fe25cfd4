"""From finished runs to the table, the laws and the report of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.project.calibration import calibrated
from scaling.project.importing import imported_rows
from scaling.project.opened import OpenSweep
from scaling.results.collect import collect, refuse_vanishing
from scaling.results.launches import Launch, last_launch
from scaling.results.status import RunStatus
from scaling.results.store import Store
from scaling.rows import RunRow, read_runs, write_runs

if TYPE_CHECKING:
    from scaling.analysis.settings import Settings
    from scaling.report.html import WrittenReport


def settings_of_sweep(opened: OpenSweep) -> Settings:
    """The sweep's `analysis:` block, with what was measured of devices."""
    from scaling.analysis.settings import settings_of

    return replace(settings_of(opened.sweep), hardware=calibrated(opened.root))


def rows_of(opened: OpenSweep, launch: Launch, runs: Sequence[RunStatus]) -> list[RunRow]:
    """The runs of a launch as rows of the table, and those that were imported."""
    return [*collect(runs, Store(Path(launch.store)), say=opened.listener.message), *imported_rows(opened.results)]


def rows_without_launch(opened: OpenSweep) -> list[RunRow] | None:
    """The rows of a sweep that was never launched here: those of its table, and those that were imported; None where
    there is a launch, or nothing was imported.
    """
    imported = imported_rows(opened.results)
    if not imported or last_launch(opened.root, opened.name) is not None:
        return None
    table = read_runs(opened.table) if opened.table.exists() else []
    return [*(row for row in table if row.imported is None), *imported]


def write_table(opened: OpenSweep, launch: Launch, runs: Sequence[RunStatus]) -> list[RunRow]:
    """Write `results/<sweep>/runs.csv`; its rows. Raises StoreError where finished runs would vanish from it."""
    refuse_vanishing(opened.table, runs, corpus_hash=launch.corpus_hash)
    rows = rows_of(opened, launch, runs)
    write_runs(opened.table, rows)
    return rows


def write_records_and_curves(opened: OpenSweep, launch: Launch, runs: Sequence[RunStatus]) -> None:
    """Write records.jsonl and curves.csv beside the table; what lacks its records is named to the listener."""
    from scaling.results.curves import write_curves
    from scaling.results.records_file import write_records

    store = Store(Path(launch.store))
    written, problems = write_records(opened.results, runs, store)
    for problem in problems:
        opened.listener.message(f"without its records: {problem}")
    points = write_curves(opened.results, runs, store)
    opened.listener.message(f"{opened.results}: records of {written} runs, {points} points of curves")


def report_on(opened: OpenSweep, launch: Launch, runs: Sequence[RunStatus]) -> WrittenReport:
    """Everything after training, as files."""
    from scaling.analysis.study import study_rows
    from scaling.report.html import context_of, write_page

    rows = write_table(opened, launch, runs)
    study = study_rows(rows, settings=settings_of_sweep(opened))
    return write_page(study, opened.results, context_of(opened.sweep, launch, runs), opened.listener.message)


def report_without_launch(opened: OpenSweep, rows: Sequence[RunRow]) -> WrittenReport:
    """The report of a sweep that was never launched here, of the rows that `rows_without_launch` gave."""
    from scaling.analysis.study import study_rows
    from scaling.report.html import Context, write_page

    write_runs(opened.table, rows)
    study = study_rows(rows, settings=settings_of_sweep(opened))
    again = (f"scaling report sweeps/{opened.path.name}",)
    return write_page(
        study, opened.results, Context(opened.name, opened.sweep.question, again), opened.listener.message
    )
