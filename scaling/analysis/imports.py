"""Runs that were trained elsewhere (`scaling import TABLE`): which lines have them, and what corpora they are of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from scaling import checks
from scaling.checks import Check
from scaling.rows import RunRow

if TYPE_CHECKING:
    from scaling.analysis.lines import Line


def rows_of_line(line: Line) -> list[RunRow]:
    """The runs of its data points."""
    return [row for cell in line.cells for row in cell.rows]


def share_imported(line: Line) -> str | None:
    """``12 of 12: nano.csv``; None where all runs are of the store."""
    rows = rows_of_line(line)
    names = dict.fromkeys(row.imported for row in rows if row.imported)
    if not names:
        return None
    return f"{sum(row.imported is not None for row in rows)} of {len(rows)}: {', '.join(map(str, names))}"


def corpus(row: RunRow) -> str:
    """The corpus of a run as far as it is known: its hash, else the table that it was imported from."""
    return row.corpus_hash or (f"the corpus of {row.imported}" if row.imported else "the corpus of this sweep")


def import_checks(lines: Sequence[Line]) -> Iterator[Check]:
    """Where imported runs stand beside runs of another corpus, or of one that is not known to be the same."""
    mixed = False
    for line in lines:
        rows = rows_of_line(line)
        if share_imported(line) and len(corpora := {corpus(row): row for row in rows}) > 1:
            mixed = True
            message = f"The law of {line.name} mixes corpora: {', '.join(corpora)} ({share_imported(line)} imported)."
            yield checks.IMPORTED_RUNS(message)
    shares = {line.name: share for line in lines if (share := share_imported(line))}
    corpora_of_lines = {corpus(row) for line in lines for row in rows_of_line(line)}
    if shares and len(lines) > 1 and len(corpora_of_lines) > 1 and not (mixed and len(shares) == len(lines)):
        told = "; ".join(f"{name} ({share})" for name, share in shares.items())
        message = (
            f"Imported runs: {told}. Their corpus is not known to be that of the other lines: a difference in loss is "
            "of corpus, tokenizer and validation set too, and a joint law takes E for the same."
        )
        yield checks.IMPORTED_RUNS(message)
