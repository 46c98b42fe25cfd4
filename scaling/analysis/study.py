"""A study: all lines of a table, their laws, their differences, and what could be wrong with any of it.

study = study_rows(rows, settings=Settings(...))
study.lines[0].law.fit.parameters, study.comparisons[0].joint.headline, study.comparisons[0].word

`rows` are those of `results/<sweep>/runs.csv` (or what `collect` returned), or any table that `read_table` read. The
same rows and settings give the same study, to the last bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from scaling import checks
from scaling.analysis.comparisons import Comparison, compare_pair, reference_of
from scaling.analysis.data_points import Cell, DroppedRun, gather
from scaling.analysis.imports import import_checks
from scaling.analysis.joint_law import fit_together
from scaling.analysis.joint_lines import compare_factorized, compare_jointly
from scaling.analysis.lines import PARAMS_COLUMNS, Line, make_line, points_of
from scaling.analysis.settings import JOINT_LAWS, Settings
from scaling.analysis.study_checks import comparison_checks, study_checks
from scaling.analysis.table_reader import ForeignRow, column_names
from scaling.checks import Check, by_severity
from scaling.errors import FitError
from scaling.laws.draws import Draws
from scaling.laws.fitting import Fit
from scaling.laws.joint_comparison import JointComparison
from scaling.laws.rank_comparison import RankComparison
from scaling.laws.seed_noise import SeedNoise, seed_noise
from scaling.rows import RunRow


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """The result.

    Args:
        rows: the table, all of it.
        lines: in order of first appearance in the table.
        dropped: runs that are no data points, with the reason.
        noise: seed noise over all lines; None where no cell has several seeds.
    """

    settings: Settings
    rows: tuple[RunRow, ...]
    lines: tuple[Line, ...]
    dropped: tuple[DroppedRun, ...]
    noise: SeedNoise | None

    def __repr__(self) -> str:
        lines = ", ".join(f"{line.name}: {len(line.points)} runs" for line in self.lines)
        return f"<Study of {lines}; {len(self.dropped)} runs left out>"

    @cached_property
    def reference(self) -> Line:
        """The line that others are compared with."""
        return reference_of(self.lines)

    @cached_property
    def comparisons(self) -> tuple[Comparison, ...]:
        """Every other line against the reference, where they can be compared."""
        return tuple(one for one in self._compared.values() if isinstance(one, Comparison))

    @property
    def not_compared(self) -> dict[str, str]:
        """Why a line is not compared with the reference, by line."""
        return {name: str(one) for name, one in self._compared.items() if not isinstance(one, Comparison)}

    @cached_property
    def joint(self) -> JointComparison | FitError | None:
        """All lines in one joint law, or why there is none; None for a single line."""
        if len(self.lines) < 2:
            return None
        try:
            return compare_jointly(self.lines, self.reference, self.settings)
        except FitError as error:
            return error

    @cached_property
    def ranks(self) -> RankComparison | None:
        """What a factorized parameter is worth; None where the lines do not say."""
        try:
            return compare_factorized(self.lines, self.settings)
        except FitError:
            return None

    @cached_property
    def _compared(self) -> dict[str, Comparison | str]:
        """Every other line against the reference, or why it is not compared."""
        sigma = self.noise.sigma if self.noise else None
        joint = self.joint if isinstance(self.joint, JointComparison) else None
        result: dict[str, Comparison | str] = {}
        for line in self.lines:
            if line is self.reference:
                continue
            own = next((one for one in joint.lines if one.line == line.name), None) if joint else None
            try:
                result[line.name] = compare_pair(line, self.reference, own, self.settings, sigma)
            except FitError as error:
                refused = joint.left_out.get(line.name) if joint else _reason(self.joint)
                result[line.name] = refused or error.what
        return result

    @property
    def together(self) -> tuple[Fit, Draws | None] | None:
        """The law over all lines, where `settings.law` is one (`rank`, `rank_power`, `joint`) and they determine it."""
        return None if isinstance(self._over_lines, FitError) else self._over_lines

    @cached_property
    def _over_lines(self) -> tuple[Fit, Draws | None] | FitError | None:
        if self.settings.law not in JOINT_LAWS:
            return None
        try:
            return fit_together(self.lines, self.settings)
        except FitError as error:
            return error

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """Checks of all lines; those of one line name it."""
        return tuple(by_severity(dict.fromkeys([*self.law_checks, *self.comparison_checks])))

    @cached_property
    def comparison_checks(self) -> tuple[Check, ...]:
        """What could be wrong with the comparisons of lines."""
        result = comparison_checks(self.comparisons, self.not_compared, self.ranks)
        return tuple(by_severity([*result, *import_checks(self.lines)]))

    @cached_property
    def law_checks(self) -> tuple[Check, ...]:
        """What could be wrong with the laws and their data; the lines need not be compared for these."""
        result = study_checks(self.lines, self.reference, self.rows, self.noise)
        if not isinstance(refused := self._over_lines, FitError):
            return result
        why = refused.what + (f" ({refused.got})" if refused.got else "")
        return (checks.NO_LAW(f"No law {self.settings.law} over all lines: {why}."), *result)

    @property
    def cells(self) -> list[Cell]:
        """All data points."""
        return [cell for line in self.lines for cell in line.cells]

    @property
    def convention(self) -> str:
        """How C is counted; `6ND` where the table has no shapes."""
        return self.lines[0].axis

    def require_law(self) -> None:
        """Raises `FitError` where the law over all lines, or every single one, is not determined, with the reason."""
        if isinstance(self._over_lines, FitError):
            raise self._over_lines
        if not any(line.law or line.optima for line in self.lines):
            first = self.lines[0]
            raise FitError(f"no law can be fitted: {first.refused}", where=f"line {first.name}")


def study_rows(rows: Sequence[RunRow], *, settings: Settings) -> Study:
    """Fits every line of a table and prepares the comparisons.

    Args:
        rows: of `collect`, or of `read_table`.
        settings: how.

    Raises:
        DataError: a column that is asked for is missing, or the shape of a run of ours is not what was counted.
        FitError: no row is a data point.
    """
    gathered = gather(
        rows,
        params_column=settings.params_column,
        flops_column="flops" if rows and isinstance(rows[0], ForeignRow) else settings.flops_column,
        where=settings.where,
        exclude=settings.exclude,
    )
    if not gathered.cells:
        reasons = Counter(item.reason for item in gathered.dropped)
        got = "; ".join(f"{count} × {reason}" for reason, count in sorted(reasons.items())) or "no rows"
        hint = "lower the learning rates of the sweep" if set(reasons) == {"diverged"} else "scaling status SWEEP"
        raise FitError("no run is a data point yet", got=got, hint=hint)
    noise = _pooled_noise(gathered.cells, settings.params_column)
    lines = []
    for order, (name, cells) in enumerate(gathered.lines.items()):
        lengths = {cell.row.sequence_length for cell in cells}
        line = make_line(
            name,
            cells,
            order=order,
            settings=settings,
            sequence_length=lengths.pop() if len(lengths) == 1 else None,
            noise=noise,
        )
        lines.append(line)
    return Study(settings, tuple(rows), tuple(lines), gathered.dropped, noise)


def _reason(refused: JointComparison | FitError | None) -> str | None:
    """Why there is no joint law, in one line."""
    if not isinstance(refused, FitError):
        return None
    return refused.what + (f" ({refused.got})" if refused.got else "")


def _pooled_noise(cells: Sequence[Cell], params_column: str) -> SeedNoise | None:
    """Seed noise over the replicated cells of all lines."""
    return seed_noise(points_of(cells, params_column)) if cells[0].row.seed is not None else None


def settings_for_table(rows: Sequence[RunRow], settings: Settings) -> Settings:
    """`settings` with N as the table has it: `params` in a foreign one, `params_matmul` in ours unless one is named."""
    if isinstance(rows[0], ForeignRow):
        return settings if settings.params_column in column_names(rows) else replace(settings, params_column="params")
    if settings.params_column in PARAMS_COLUMNS:
        return settings
    return replace(settings, params_column="params_matmul", convention="exact")
