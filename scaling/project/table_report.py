"""`scaling report` of a table alone: no store and no launch are needed, so committed results can be made again."""

from __future__ import annotations

import glob
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.results.folder import ResultsFolder

if TYPE_CHECKING:
    from scaling.analysis.table.decisions import TableReport
    from scaling.analysis.table.reading import TableOptions
    from scaling.report.html import WrittenReport

TABLE = "runs.csv"


def report_of_table(
    table: Path,
    root: Path | None,
    options: TableOptions | None = None,
    *,
    command: str | None = None,
    on_read: Callable[[TableReport], None] | None = None,
    message: Callable[[str], None] = lambda words: None,
) -> WrittenReport:
    """The report of a runs.csv, in its folder, with the settings of `sweeps/<folder's name>.yaml` where there is one.

    That of any other table lies in the folder <table>_report beside it, of a glob beside the folder of its files.

    The devices that serving is priced for are those of the device table, not as measured on this machine: the same
    files give the same bytes anywhere.

    Args:
        table: the file, or its folder.
        root: where `sweeps/` lies; the parent of the `results/` folder where left out.
        options: how the table is read.
        command: makes the report of a foreign table again, for the page.
        on_read: called with how a foreign table was read, before its study begins.
        message: hears how far the report is.

    Raises:
        DataError: the table cannot be read, or `options` do not fit it.
        SpecError: the sweep file cannot be read.
        FitError: no run is a data point.
    """
    from scaling.analysis.settings import Settings, settings_of
    from scaling.analysis.study import settings_for_table, study_rows
    from scaling.analysis.table_reader import ForeignRow, load_table
    from scaling.report.html import Context, write_page
    from scaling.sweeps.schema import load_sweep

    path = table / TABLE if (table / TABLE).is_file() else table
    loaded = load_table(path, options)
    rows = loaded.rows
    if rows and isinstance(rows[0], ForeignRow):
        if on_read is not None:
            on_read(loaded.report)
        study = study_rows(rows, settings=settings_for_table(rows, Settings()))
        study.require_law()
        named = path.parent if glob.has_magic(path.name) else path  # runs/*.csv is of runs
        folder = named.absolute().with_name(f"{named.absolute().stem}_report")
        context = Context(named.absolute().stem, "", (command or f"scaling report {path.name}",), read=loaded.report)
        return write_page(study, folder, context, message)
    place = ResultsFolder.of(path, root)
    sweep = load_sweep(place.sweep) if place.sweep.exists() else None
    settings = settings_of(sweep) if sweep else settings_for_table(rows, Settings())
    study = study_rows(rows, settings=settings)
    launch = (f"scaling launch sweeps/{place.name}.yaml --yes",) if sweep else ()
    again = (f"scaling report results/{place.name}", f"scaling fit results/{place.name}/{TABLE}")
    context = Context(place.name, sweep.question if sweep else "", (*launch, *again))
    return write_page(study, place.path, context, message)
