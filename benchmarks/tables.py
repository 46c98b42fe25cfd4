"""How fast tables are read: `python benchmarks/tables.py [--out FILE]`.

Checkpoints of runs, 1,000 a run, as CSV, JSON lines and Parquet, from the file to rows, each in a process of its own:
CPU seconds of the best of three, and the most memory that the process had.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

CASES = (("csv", 20_000, 1.0, None), ("csv", 1_000_000, 15.0, 1.0), ("jsonl", 20_000, None, None),
         ("parquet", 20_000, None, None), ("parquet", 1_000_000, None, None))  # fmt: skip
HEAD = """\
# Speed of reading tables

`python benchmarks/tables.py`: checkpoints of runs, from the file to rows; CPU seconds of one process, the best of
three, and its memory. Of more than 20,000 checkpoints a law is fitted to 20,000.

| rows | file | rows used | CPU seconds | asked | GiB | asked |
|---:|---|---:|---:|---:|---:|---:|
""".splitlines()
PROGRAM = """
import json, resource, sys, time
from scaling.analysis.table_reader import load_table
started = time.process_time()
rows = len(load_table(sys.argv[1]).rows)
seconds = time.process_time() - started
print(json.dumps([rows, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20]))
"""


def rows(count: int) -> Iterator[tuple[str, int, int, int, float, float]]:
    """(run, step, params, tokens, loss, rate) of runs of 1,000 checkpoints."""
    runs = count // 1000
    for k in range(runs):
        params = int(10 ** (7.5 + 2 * k / runs))
        for step in range(1, 1001):
            tokens = step * 2_000_000
            yield f"run{k}", step, params, tokens, round(1.8 + 480 / params**0.347 + 2100 / tokens**0.366, 5), 0.001


def write(path: Path, count: int) -> None:
    """A table of `count` checkpoints in the form that the path's suffix says."""
    names = ("run", "step", "params", "tokens", "val_loss", "lr")
    if path.suffix == ".parquet":
        import pandas

        pandas.DataFrame(rows(count), columns=names).to_parquet(path)
        return
    with path.open("w", encoding="utf-8") as file:
        if path.suffix == ".csv":
            file.write(",".join(names) + "\n")
        for row in rows(count):
            line = ",".join(map(str, row)) if path.suffix == ".csv" else json.dumps(dict(zip(names, row, strict=True)))
            file.write(line + "\n")


def measured(path: Path) -> tuple[int, float, float]:
    """(rows that a law is fitted to, CPU seconds, GiB) of the best of three processes."""
    ends = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=True)
        ends.append(json.loads(done.stdout))
    return min(ends, key=lambda end: end[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    lines = [*HEAD]
    with tempfile.TemporaryDirectory() as folder:
        for suffix, count, seconds_asked, memory_asked in CASES:
            path = Path(folder) / f"{count}.{suffix}"
            write(path, count)
            used, seconds, memory = measured(path)
            asked = (
                "" if seconds_asked is None else f"{seconds_asked:g}",
                "" if memory_asked is None else f"{memory_asked:g}",
            )
            lines.append(
                f"| {count:,} | {suffix} | {used:,} | {seconds:.2f} | {asked[0]} | {memory:.2f} | {asked[1]} |"
            )
    text = "\n".join(lines) + "\n"
    print(text)
    if out:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
