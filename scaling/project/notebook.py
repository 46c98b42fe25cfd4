"""A study for a notebook: `scaling.load` makes it, its tables are DataFrames, its figures take an `ax`.

study = scaling.load("results/quickstart")        # or a sweep file, or any table of params, tokens, loss
study                                             # ten lines; in a notebook the answer and one figure
study.runs, study.cells, study.fits, study.optima, study.comparisons, study.curves
study.predict(1e13), study.compare(served=1e12, device="h100"), study.plot.isoflop(line="dense")
print(study.laws["dense"])                        # the summary of the command line
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.analysis.settings import ServingQuestion, Settings
from scaling.analysis.study import Study, settings_for_table, study_rows
from scaling.errors import DataError
from scaling.laws.line_study import LineStudy
from scaling.report.figures import FIGURES
from scaling.report.figures.plots import Plots
from scaling.report.figures.rendering import render
from scaling.report.tables import TABLES

if TYPE_CHECKING:
    import pandas

_LINES = 10  # of the text of a study
_WIDTH = 110


def load(source: str | Path, settings: Settings | None = None) -> Loaded:
    """The study of a sweep file, of a folder of results, or of any table.

    Args:
        source: `sweeps/x.yaml` (its finished runs), `results/x`, or a file of params, tokens and loss.
        settings: how it is studied; None: as the sweep says, or the defaults.

    Raises:
        ScalingError: nothing is finished, or the table cannot be read; the message says what to do.
    """
    from scaling.analysis.table_reader import read_table

    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        from scaling.project.project import Project

        project = Project.open(path)
        return Loaded(project.study(settings), project.results)
    table = path / "runs.csv" if path.is_dir() else path
    if path.is_dir() and not table.is_file():
        raise DataError("a folder without runs.csv", where=str(path), hint="scaling collect SWEEP writes it")
    rows = read_table(table)
    if settings is None and (folder := _sweep_of(table)) is not None:
        settings = folder
    return Loaded(study_rows(rows, settings=settings_for_table(rows, settings or Settings())), table.parent)


def _sweep_of(table: Path) -> Settings | None:
    """The settings of the sweep that a table in `results/<sweep>/` belongs to, where its file is there."""
    from scaling.analysis.settings import settings_of
    from scaling.results.folder import ResultsFolder
    from scaling.sweeps.schema import load_sweep

    sweep = ResultsFolder.of(table.parent).sweep
    return settings_of(load_sweep(sweep)) if table.name == "runs.csv" and sweep.is_file() else None


@dataclass(frozen=True, eq=False, repr=False)
class Loaded:
    """A study as a person in a notebook works with it; `study` has everything, `folder` the files it came from."""

    study: Study
    folder: Path

    def __repr__(self) -> str:
        from scaling.report.summary import answer

        study = self.study
        lines = [
            f"{sum(len(line.points) for line in study.lines)} runs, {len(study.cells)} cells, lines: "
            + ", ".join(line.name for line in study.lines),
            *answer(study),
        ]
        shown = [line if len(line) <= _WIDTH else line[: _WIDTH - 1] + "…" for line in lines]
        return "\n".join(shown if len(shown) <= _LINES else [*shown[: _LINES - 1], f"… {len(lines) - _LINES + 1} more"])

    def _repr_html_(self) -> str:
        from scaling.report.summary import answer

        first = next(((figure, data) for figure in FIGURES if (data := figure.data(self.study)) is not None), None)
        picture = ""
        if first is not None:
            figure, data = first
            names = [line.name for line in self.study.lines]
            picture = render(figure.name, partial(figure.draw, data), names).files["svg"].decode()
            picture = picture[picture.index("<svg") :]
        return f"<p><b>{html.escape(answer(self.study)[0])}</b></p>{picture}"

    @cached_property
    def runs(self) -> pandas.DataFrame:
        """Every run that is a data point."""
        from scaling.report.run_list import runs_table

        return runs_table(self.study).frame()

    @property
    def cells(self) -> pandas.DataFrame:
        """Every data point: means over seeds."""
        return self.table("cells")

    @property
    def fits(self) -> pandas.DataFrame:
        """The parameters of every line's law, with intervals."""
        return self.table("fits")

    @property
    def optima(self) -> pandas.DataFrame:
        """The isoFLOP minima."""
        return self.table("minima")

    @property
    def comparisons(self) -> pandas.DataFrame:
        """Compute multipliers of every line against the reference."""
        return self.table("multipliers")

    @cached_property
    def curves(self) -> pandas.DataFrame:
        """Training curves of all runs, as `curves.csv` has them.

        Raises:
            DataError: the folder has none.
        """
        import pandas

        path = self.folder / "curves.csv"
        if not path.is_file():
            raise DataError("no training curves here", where=str(path), hint="scaling collect SWEEP --records")
        return pandas.read_csv(path)

    @property
    def laws(self) -> Mapping[str, LineStudy]:
        """The law of every line that has one; `print` shows what `scaling fit` does."""
        return {line.name: line.law for line in self.study.lines if line.law}

    def table(self, name: str) -> pandas.DataFrame:
        """One of the report's tables: a name in `scaling.report.tables.TABLES`."""
        if name not in TABLES:
            raise DataError("no such table", got=name, allowed=", ".join(TABLES))
        return TABLES[name](self.study).frame()

    def predict(self, compute: float | Sequence[float]) -> pandas.DataFrame:
        """Compute-optimal N, D and loss of every line at one or several training computes, FLOPs, with intervals."""
        import pandas

        from scaling.report.documents import predictions_json

        wanted = [compute] if isinstance(compute, int | float) else list(compute)
        rows = []
        for one in predictions_json(self.study, wanted)["predictions"]:
            ends = {
                f"{name}_{end}": value
                for name, pair in one["intervals"].items()
                if pair
                for end, value in zip(("low", "high"), pair, strict=True)
            }
            rows.append({name: one[name] for name in ("line", "compute", "N", "D", "loss")} | ends)
        return pandas.DataFrame(rows)

    def compare(self, **serving: Any) -> pandas.DataFrame:
        """Compute multipliers; with `served` (and `device`, `batch`, ... of `ServingQuestion`) the serving decision."""
        if not serving:
            return self.comparisons
        from scaling.report.decision_tables import serving_decision_table

        return serving_decision_table(self.study, ServingQuestion(**serving)).frame()

    @property
    def plot(self) -> Plots:
        """The figures."""
        return Plots(self.study)
