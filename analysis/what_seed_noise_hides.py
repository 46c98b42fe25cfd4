"""How large must a difference be before this sweep can see it?

    .venv/bin/python analysis/what_seed_noise_hides.py results/quickstart/runs.csv

Shifts every loss of one line by a constant and asks for the verdict again: the smallest shift in each direction that is
called better or worse is what the sweep, with its replicates and budgets, can resolve.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import scaling

SHIFTS_NATS = [step / 100 for step in range(-16, 17, 2)]


def main(path: Path) -> None:
    rows = scaling.read_table(path)
    settings = scaling.settings_for_table(rows, scaling.Settings(bootstrap=300))
    study = scaling.study_rows(rows, settings=settings)
    if not study.comparisons or study.noise is None:
        sys.exit("needs two lines that share a budget, and a cell with several seeds")
    line, reference = study.comparisons[0].line.name, study.reference.name
    found = study.comparisons[0].headline.verdict.difference_nats
    print(
        f"{line} against {reference}; measured difference {found:+.3f}, seed noise {study.noise.sigma:.3f} nats/token"
    )
    for shift in SHIFTS_NATS:
        # Centred first, so that the shift is the difference.
        extra = shift - found
        moved = [replace(row, loss=row.loss + extra) if row.loss and row.line == line else row for row in rows]
        verdict = scaling.study_rows(moved, settings=settings).comparisons[0].headline.verdict
        low, high = verdict.interval
        print(f"  true difference {shift:+.2f}: {verdict.word} ({low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results/quickstart/runs.csv"))
