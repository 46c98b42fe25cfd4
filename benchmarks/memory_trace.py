"""The memory function against a trace of the real training step, on fake tensors.

    python benchmarks/memory_trace.py                                      # everything: about an hour of CPU
    python benchmarks/memory_trace.py --shapes 60M,500M --precisions float32 --parts 1
    python benchmarks/memory_trace.py --again results/benchmarks/memory.md # predicted anew, for the traces of a table

The trainer of the package makes one step on tensors that have sizes and no numbers, on a fake CPU, and torch's memory
tracker says what it held at its peak: parameters, gradients, optimizer state, activations, the update and what is
measured. The step is a measured one. Sequences of 2,048 tokens; the paper's shapes. The table says what was traced.
`--out` writes the table.

`--measure` measures small models on this machine: what two steps add to the peak resident memory of a process that has
made a step of a tiny model. glibc keeps freed blocks of up to 32 MB, in pieces that later tensors do not fit, which no
function of a run can predict: a first measurement has it give back every block of 64 KiB or more at once
(mallopt(3), M_MMAP_THRESHOLD), and a second one leaves it as it is.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import resource
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed._tools.mem_tracker import MemTracker

from scaling.data.shards import TokenData
from scaling.optimizers import find_optimizer
from scaling.run import DataRef, Initialisation, Optimizer, Run, Schedule, Shape
from scaling.sweeps.counting import matrix_ranks
from scaling.sweeps.ladders import LADDERS
from scaling.sweeps.memory import training_memory
from scaling.training import stability
from scaling.training.trainer import Trainer

SHAPES = {rung.name: rung.shape(32000) for rung in LADDERS["spectron"]}  # arXiv 2602.12429
MODELS = {"dense, muon": ("muon", None), "dense, adamw": ("adamw", None), "low-rank, spectron": ("spectron", 0.25),
          "low-rank, adamw": ("adamw", 0.25)}  # fmt: skip
SMALL = {  # measured: a model, its sequence length, and how many sequences at once
    "d128L4": (Shape(4, 128, 4, 344, 256), 256, 32),
    "d192L4": (Shape(4, 192, 4, 512, 256), 256, 32),
    "d256L6": (Shape(6, 256, 4, 688, 1024), 256, 16),
    "d256L4, V 8192": (Shape(4, 256, 4, 688, 8192), 256, 16),
    "d512L4": (Shape(4, 512, 8, 1376, 1024), 256, 8),
}


@dataclass(frozen=True)
class Compared:
    """Bytes at the peak, as predicted and as traced or measured."""

    shape: str
    model: str
    precision: str
    sequences: int
    predicted: float
    found: float
    seconds: float

    @property
    def error(self) -> float:
        """Predicted over found, less one."""
        return self.predicted / self.found - 1


def a_run(shape: Shape, name: str, ratio: float | None, *, precision: str, sequences: int, length: int) -> Run:
    """A run of one optimizer with the defaults of the table; its batch is one part."""
    constants = find_optimizer(name).values({})
    return Run(
        shape=shape,
        parameterization="dense" if ratio is None else "low_rank",
        initialisation=Initialisation(0.02, 0.02, 1.0),
        optimizer=Optimizer(name, 0.02, 0.02, 0.9, 0.95, 1e-8, **constants),
        schedule=Schedule("linear", 1, 0.0),
        steps=10,
        batch_tokens=sequences * length,
        sequence_length=length,
        seed=0,
        data=DataRef("nothing", "bytes", 1024),
        precision=precision,
        ranks=None if ratio is None else matrix_ranks(shape, ratio),
    )


def blank_data(run: Run) -> TokenData:
    """Enough tokens of zero for a step."""
    tokens = np.zeros(4 * run.batch_tokens + run.sequence_length, np.uint16)
    return TokenData("nothing", Path(), run.shape.vocab_size, tokens, {}, {})


def traced_peak(run: Run) -> float:
    """Bytes at the peak of one step of the real trainer, on fake tensors. Norms take one power step: all need the same
    memory, and fake operations take a millisecond each.
    """
    with mock.patch.object(stability, "POWER_STEPS", 1), FakeTensorMode(allow_non_fake_inputs=True):
        trainer = Trainer(run, blank_data(run), device=torch.device("cpu"))
        rules = trainer.optimizers.rules.values()
        states = [tensor for rule in rules for stacks in rule.state().values() for tensor in stacks]
        flats = [buffer for rule in rules for buffer in (rule.flat.values, rule.flat.gradients)]
        tracker = MemTracker()
        tracker.track_external(trainer.model, *flats, *states)
        with tracker:
            trainer.step()
    peak = tracker.get_tracker_snapshot("peak")
    return float(sum(kinds["Total"] for kinds in peak.values()))


def measured_peak(run: Run, *, keeps_freed: bool = False) -> float:
    """Bytes that two steps add to the peak of a new process.

    Args:
        run: its training.
        keeps_freed: leave it to glibc which freed blocks it keeps; else all of 64 KiB or more are given back at once.
    """
    context = multiprocessing.get_context("spawn")
    given_back = {} if keeps_freed else {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    with mock.patch.dict(os.environ, given_back), context.Pool(1) as pool:  # read when a process starts
        return pool.apply(_grown, (run,))


def _grown(run: Run) -> float:
    torch.set_num_threads(1)
    tiny = a_run(Shape(1, 8, 1, 24, 64), "muon", None, precision="float32", sequences=1, length=16)
    Trainer(tiny, blank_data(tiny), device=torch.device("cpu")).step()  # what a first step loads stays
    before = _largest()
    trainer = Trainer(run, blank_data(run), device=torch.device("cpu"))
    trainer.step()
    trainer.step()
    return _largest() - before


def _largest() -> float:
    """Most resident bytes of this process so far. On Linux `ru_maxrss` is passed on by the process that started it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS
    [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
    return 1024.0 * int(line.split()[1])


def traces(
    shapes: Sequence[str], precisions: Sequence[str], parts: Sequence[int], models: Sequence[str]
) -> Iterator[Compared]:
    """Every combination that was asked for."""
    for shape, model, precision, sequences in itertools.product(shapes, models, precisions, parts):
        run = a_run(SHAPES[shape], *MODELS[model], precision=precision, sequences=sequences, length=2048)
        started = time.process_time()
        found = traced_peak(run)
        predicted = training_memory(run, sequences=sequences).peak
        yield Compared(shape, model, precision, sequences, predicted, found, time.process_time() - started)


def predicted_again(text: str) -> Iterator[Compared]:
    """The traced rows of a table, with what the function says now: a trace takes a minute, a prediction none."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split("|")]
        if len(cells) > 5 and cells[0] in SHAPES:
            shape, model, precision, sequences = cells[0], cells[1], cells[2], int(cells[3])
            run = a_run(SHAPES[shape], *MODELS[model], precision=precision, sequences=sequences, length=2048)
            found = 1e9 * float(cells[5].removesuffix(" GB"))
            predicted = training_memory(run, sequences=sequences).peak
            yield Compared(shape, model, precision, sequences, predicted, found, 0.0)


def small_run(shape: str) -> Run:
    """The run of a small model that is measured."""
    model, length, sequences = SMALL[shape]
    return a_run(model, "muon", None, precision="float32", sequences=sequences, length=length)


def measurements(*, keeps_freed: bool) -> Iterator[Compared]:
    """The small models on this machine."""
    for shape, (_, _, sequences) in SMALL.items():
        run, started = small_run(shape), time.process_time()
        predicted, found = training_memory(run, sequences=sequences).peak, measured_peak(run, keeps_freed=keeps_freed)
        yield Compared(shape, "dense, muon", "float32", sequences, predicted, found, time.process_time() - started)


def table(rows: Sequence[Compared], found: str) -> str:
    """Markdown."""
    lines = [
        f"| shape | model | precision | sequences | predicted | {found} | error |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.shape} | {row.model} | {row.precision} | {row.sequences} | {row.predicted / 1e9:.3f} GB | "
        f"{row.found / 1e9:.3f} GB | {row.error:+.1%} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Trace, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", default=",".join(SHAPES))
    parser.add_argument("--precisions", default="float32,bfloat16")
    parser.add_argument("--parts", default="1,4", help="sequences at once")
    parser.add_argument("--models", default=";".join(MODELS), help="separated by semicolons")
    parser.add_argument("--measure", action="store_true", help="measure small models on this machine, and trace none")
    parser.add_argument(
        "--again", type=Path, help="the traced rows of this file, with new predictions; nothing is traced"
    )
    parser.add_argument("--out", type=Path, help="append the tables to this file")
    asked = parser.parse_args()
    parts = [int(part) for part in asked.parts.split(",")]
    rows = list(predicted_again(asked.again.read_text())) if asked.again else []
    wanted = [] if asked.measure or asked.again else asked.shapes.split(",")
    for row in traces(wanted, asked.precisions.split(","), parts, asked.models.split(";")):
        rows.append(row)
        print(table([row], "traced").splitlines()[-1], f"{row.seconds:.0f} s", flush=True)
    texts = [table(rows, "traced")] if rows else []
    for keeps_freed, said in ((False, "measured"), (True, "with what glibc keeps")) if asked.measure else ():
        texts.append(table(list(measurements(keeps_freed=keeps_freed)), said))
        print(texts[-1], flush=True)
    if asked.out:
        with asked.out.open("a") as file:
            file.write("\n".join(texts) + "\n")


if __name__ == "__main__":
    main()
