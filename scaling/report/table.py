"""A table: one set of values, written as CSV, Markdown, LaTeX, HTML or rows of text.

CSV keeps every digit and the plain column names; the others show what a reader can use, and an unknown value as a
dash. Equal values give equal bytes.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.files import write_atomic
from scaling.quantity import format_number
from scaling.rows import csv_cell

if TYPE_CHECKING:
    import pandas

UNKNOWN = "–"
UNDETERMINED = 1e4  # upper over lower end: a number that is not known to a factor of 100 is no answer
_LATEX = {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}"}
_LATEX |= {"^": r"\textasciicircum{}", "\\": r"\textbackslash{}", "α": r"$\alpha$", "β": r"$\beta$", "σ": r"$\sigma$"}
_LATEX |= {
    "κ": r"$\kappa$",
    "δ": r"$\delta$",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "∝": r"$\propto$",
    "‖": r"$\Vert$",
    "Δ": r"$\Delta$",
    "η": r"$\eta$",
}
_LATEX |= {"≥": r"$\geq$", "≤": r"$\leq$", "<": "$<$", ">": "$>$"}
_OF_LATEX = re.compile("|".join(map(re.escape, _LATEX)))


def text(value: object) -> str:
    """Words as they are, numbers in short form."""
    return format_number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)


def fixed(digits: int, *, sign: bool = False) -> Callable[[float], str]:
    """A number with so many decimals; a true minus."""
    return lambda value: f"{value:{'+' if sign else ''}.{digits}f}".replace("-", "−")


@dataclass(frozen=True)
class Significant:
    """A number in short form with so many significant digits: ``28.3k``, ``2.00e+11``.

    A value and its intervals are rounded at one place, that of the last digit of the largest, but to no fewer than two
    digits: ``0.17 [0.06, 1.27]``, ``10.3 [1.1, 99.8]``.
    """

    digits: int = 3

    def __call__(self, value: float) -> str:
        """One number alone."""
        return format_number(value, self.digits)

    def together(self, values: Sequence[float]) -> list[str]:
        """`values` (finite) rounded at one place, or at that of the first digit of what lies between them."""
        largest, width = max(map(abs, values)), max(values) - min(values)
        if not 1e-3 <= largest < 1e15:
            return [self(value) for value in values]
        place = _first_place(largest) + 1 - self.digits
        place = min(place, _first_place(width)) if width > 1e-9 * largest else place
        return [format_number(value, max(2, _first_place(value) + 1 - place)) if value else "0" for value in values]


def _first_place(value: float) -> int:
    """The power of ten of the first digit."""
    return math.floor(math.log10(abs(value)))


def decimals(low: float, high: float, least: int = 2) -> int:
    """Decimals with which both ends of an interval are told apart, at least `least`."""
    return max(least, -_first_place(high - low)) if high > low else least


def compute_text(value: float) -> str:
    """FLOPs as the field writes them: ``2.0e11``; small numbers (seconds) in short form."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}" if value >= 1e5 else format_number(value)


@dataclass(frozen=True)
class Column:
    """One column: `name` in the CSV (with its unit), `title` for people, and how a value is shown."""

    name: str
    title: str
    show: Callable[[Any], str] = text

    def cell(self, value: object) -> str:
        """What a reader sees of a value; an interval shows as ``[low, high]``."""
        if value is None or (isinstance(value, tuple) and any(bound != bound for bound in value)):
            return UNKNOWN
        if isinstance(value, tuple):
            return f"[{self.show(value[0])}, {self.show(value[1])}]"
        return self.show(value)

    @property
    def numeric(self) -> bool:
        """Whether the column is set flush right."""
        return self.show is not text

    def pad(self, cell: str, width: int) -> str:
        """A shown value in `width` characters."""
        return cell.rjust(width) if self.numeric else cell.ljust(width)


def difference_columns(title: str) -> tuple[Column, Column, Column]:
    """A difference of losses, its interval, and the difference in units of seed noise."""
    return (
        Column("difference_nats", title, fixed(3, sign=True)),
        Column("difference_interval", "95 %", fixed(3, sign=True)),
        Column("difference_sigma", "in σ", fixed(1, sign=True)),
    )


@dataclass(frozen=True)
class Table:
    """A named table. A row has one value per column: a number, a text, an interval (low, high), or None for unknown."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), self.name

    def _row(self, row: Sequence[Any]) -> list[str]:
        """A row as a reader sees it. A number and the intervals to its right that are shown in the same way are rounded
        together; a number whose interval spans a factor over `UNDETERMINED` is not shown.
        """
        cells = [column.cell(value) for column, value in zip(self.columns, row, strict=True)]
        for n, (column, value) in enumerate(zip(self.columns, row, strict=True)):
            if not isinstance(column.show, Significant) or not isinstance(value, (int, float)):
                continue
            end = n + 1
            while end < len(row) and isinstance(row[end], tuple) and self.columns[end].show == column.show:
                end += 1
            known = [k for k in range(n + 1, end) if cells[k] != UNKNOWN]
            numbers = [value, *(bound for k in known for bound in row[k])]
            if not known or not all(map(math.isfinite, numbers)):
                continue
            if any(0 < row[k][0] * UNDETERMINED < row[k][1] for k in known):
                cells[n:end] = [UNKNOWN] + ["not determined" if k in known else UNKNOWN for k in range(n + 1, end)]
                continue
            shown = iter(column.show.together(numbers))
            cells[n] = next(shown)
            for k in known:
                cells[k] = f"[{next(shown)}, {next(shown)}]"
        return cells

    def only(self, names: Collection[str]) -> Table:
        """The same table with the columns of these names."""
        kept = [n for n, column in enumerate(self.columns) if column.name in names]
        rows = tuple(tuple(row[n] for n in kept) for row in self.rows)
        return replace(self, columns=tuple(self.columns[n] for n in kept), rows=rows)

    @property
    def header(self) -> list[str]:
        """Column titles."""
        return [column.title for column in self.columns]

    @cached_property
    def shown(self) -> list[list[str]]:
        """The rows as a reader sees them."""
        return [self._row(row) for row in self.rows]

    def flat(self) -> tuple[list[str], list[list[object]]]:
        """Header and rows with intervals as two columns, `<name>_low` and `<name>_high`."""
        split = [any(isinstance(row[n], tuple) for row in self.rows) for n in range(len(self.columns))]
        header: list[str] = []
        for column, interval in zip(self.columns, split, strict=True):
            header += [f"{column.name}_low", f"{column.name}_high"] if interval else [column.name]
        rows = []
        for row in self.rows:
            values: list[object] = []
            for value, interval in zip(row, split, strict=True):
                values += (value or (None, None)) if interval else [value]
            rows.append(values)
        return header, rows

    def frame(self) -> pandas.DataFrame:
        """The table as a data frame."""
        import pandas

        header, rows = self.flat()
        return pandas.DataFrame(rows, columns=header)

    def csv(self) -> str:
        """Comma-separated values with every digit; unknown is empty."""
        out = io.StringIO()
        header, rows = self.flat()
        lines: list[Sequence[object]] = [header, *rows]
        csv.writer(out, lineterminator="\n").writerows([map(csv_cell, cells) for cells in lines])
        return out.getvalue()

    def markdown(self) -> str:
        """A pipe table, aligned so that it reads as plain text too."""
        cells = [[c.replace("|", "\\|") for c in row] for row in (self.header, *self.shown)]
        widths = [max(3, *(len(row[n]) for row in cells)) for n in range(len(self.columns))]
        rule = ["-" * (w - 1) + ":" if c.numeric else "-" * w for c, w in zip(self.columns, widths, strict=True)]
        lines = [
            "| " + " | ".join(column.pad(c, w) for c, w, column in zip(row, widths, self.columns, strict=True)) + " |"
            for row in cells
        ]
        lines.insert(1, "| " + " | ".join(rule) + " |")
        return "\n".join([f"**{self.title}**", "", *lines, *(["", self.note] if self.note else []), ""])

    def latex(self) -> str:
        r"""A `booktabs` table: needs ``\usepackage{booktabs}``."""
        align = "".join("r" if column.numeric else "l" for column in self.columns)
        body = [" & ".join(map(latex_text, row)) + r" \\" for row in self.shown]
        lines = [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex_text(self.title)}}}",
            rf"\label{{tab:{self.name}}}",
        ]
        lines += [rf"\begin{{tabular}}{{{align}}}", r"\toprule", " & ".join(map(latex_text, self.header)) + r" \\"]
        lines += [r"\midrule", *body, r"\bottomrule", r"\end{tabular}"]
        lines += [r"\par\smallskip\footnotesize " + latex_text(self.note)] if self.note else []
        return "\n".join([*lines, r"\end{table}", ""])

    def write(self, folder: Path) -> list[Path]:
        """Write `<name>.csv`, `.md` and `.tex` into `folder`."""
        written = []
        for suffix, content in ((".csv", self.csv()), (".md", self.markdown()), (".tex", self.latex())):
            path = folder / f"{self.name}{suffix}"
            write_atomic(path, content)
            written.append(path)
        return written


def latex_text(words: str) -> str:
    """`words` with everything LaTeX would read as a command escaped."""
    return _OF_LATEX.sub(lambda match: _LATEX[match.group()], words)
