"""What sharing a trunk saves: sweeps/wsd.yaml trained run by run, alone and as branches, in turn in one process.

    OMP_NUM_THREADS=1 python benchmarks/trunks.py [SHAPES]

CPU seconds of whole runs: steps, validation, states written and read. Every branch must end in the loss of the run
trained alone, bit for bit. SHAPES: how many shapes of the ladder, the smallest first (default 3).
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from scaling.data.shards import TokenData, prepare
from scaling.run import Run
from scaling.runners.packing import in_order
from scaling.sweeps.grids import plan
from scaling.sweeps.resolve import PlannedRun
from scaling.sweeps.schema import load_sweep
from scaling.training.loop import train

ROOT = Path(__file__).parent.parent
HEADER = """| shape | lengths, steps | steps made | alone, CPU s | branches, CPU s | saved | saved by the plan |
|---|---|---|---|---|---|---|
"""


def trained(run: Run, data: TokenData, folder: Path, trunks: Path | None) -> tuple[float, float | None]:
    """(CPU seconds, loss) of one run."""
    started = time.process_time()
    result = train(
        run,
        data=data,
        folder=folder,
        attempt=1,
        stop=lambda: False,
        owns=lambda: True,
        log=lambda record: None,
        trunks=trunks,
    )
    assert not hasattr(result, "step"), "nobody asked it to stop"
    return time.process_time() - started, result.loss_nats


def rows(
    runs: list[PlannedRun], data: TokenData, folder: Path
) -> Iterator[tuple[str, list[int], int, float, float, float]]:
    """(shape, lengths, steps made, CPU seconds alone, CPU seconds as branches, share of steps saved) per trunk."""
    by_id = {planned.run.id: planned for planned in runs}
    ordered = [by_id[row.id] for row in in_order(planned.row(0.0) for planned in runs)]
    for trunk in dict.fromkeys(planned.trunk for planned in ordered):
        branches = [planned for planned in ordered if planned.trunk == trunk]
        seconds = [0.0, 0.0]
        for planned in branches:
            took, loss = trained(planned.run, data, folder / planned.run.id / "alone", None)
            shared, branch_loss = trained(planned.run, data, folder / planned.run.id / "branch", folder / "trunks")
            assert loss == branch_loss, (planned.cell, loss, branch_loss)
            seconds = [seconds[0] + took, seconds[1] + shared]
        lengths = [planned.run.steps for planned in branches]
        steps = sum(planned.own_steps for planned in branches)
        yield branches[0].cell.shape, lengths, steps, *seconds, 1 - steps / sum(lengths)


def main() -> None:
    """Train, check, and write results/benchmarks/trunks.md."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    sweep = load_sweep(ROOT / "sweeps" / "wsd.yaml")
    planned = plan(sweep, vocab_size=256, root=ROOT).runs
    shapes = list(dict.fromkeys(one.run.shape for one in planned))[:count]
    runs = [one for one in planned if one.run.shape in shapes]
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(sweep.data.ref, root=ROOT, store=Path(folder))
        trained(min((one.run for one in runs), key=lambda run: run.steps), data, Path(folder) / "warm-up", None)
        table = list(rows(runs, data, Path(folder)))
    lines = [
        f"| {shape} | {', '.join(map(str, lengths))} | {made} of {sum(lengths)} | {alone:.1f} | {shared:.1f} | "
        f"{1 - shared / alone:.0%} | {saved:.0%} |"
        for shape, lengths, made, alone, shared, saved in table
    ]
    alone, shared = (sum(row[k] for row in table) for k in (3, 4))
    lines.append(f"| all | | | {alone:.1f} | {shared:.1f} | {1 - shared / alone:.0%} | |")
    losses = f"{len(runs)} branches ended in the loss of the run trained alone, bit for bit."
    text = f"# {__doc__.splitlines()[0]}\n\n`python benchmarks/trunks.py {count}`. {losses}\n\n{HEADER}" + "\n".join(
        lines
    )
    (ROOT / "results" / "benchmarks" / "trunks.md").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
