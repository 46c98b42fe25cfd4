"""What only a GPU can show: training speed and memory, small runs side by side, serving times.

    sh benchmarks/gpu.sh                            a CUDA GPU, under 9 minutes; writes results/benchmarks/gpu.md
    python benchmarks/gpu.py --device cpu --tiny    the same lines on tiny models on the CPU; writes nothing

- device: rate of a large matrix product, bandwidth of a large copy, what serving reaches of both, the time of a launch
  in a CUDA graph, and of a singular value decomposition, which starts a low-rank model.
- training: the paper's shapes (arXiv 2602.12429), dense with Muon and low-rank (ratio .25) with Spectron. A step of 64
  sequences of 2,048 tokens in bfloat16, compiled, in parts chosen by the memory function, as `scaling launch` does.
- updates: one low-rank model under Spectron, Muon on its factors, and AdamW, their updates in turn.
- small steps: small models alone, batches of 2,048 tokens in float32, compiled: their time is launches.
- packing: one small run, and several of them side by side on the device: tokens per second of all.
- repeats: two trainings of one small run, with the usual kernels and with torch's deterministic ones: equal to the bit?
- serving: prompts of 1,024 and 8,192 tokens and decode steps at batch 1, 8 and 64. benchmarks/serving_latency.py holds
  the cost model against them.

MFU is 3 × forward FLOPs of the matrices and causal attention, over seconds and the data sheet's rate; the update is not
counted. "Whole attention" counts the masked half of attention too, as PaLM does (arXiv 2204.02311, appendix B). Weights
are random numbers. Parts are skipped, and named, once `--seconds` have gone.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import torch
from memory_trace import SHAPES, a_run
from serving_latency import SERVED
from training import random_data

from scaling.hardware import DEVICES, Device
from scaling.inference.cost import Setting
from scaling.inference.measure import calibrate, device_here, measure, random_weights
from scaling.run import Run, Shape
from scaling.sweeps.counting import count, forward_flops_per_token, matrix_ranks
from scaling.sweeps.memory import split
from scaling.training import trainer as trainer_module
from scaling.training.loop import open_device, peak_flops
from scaling.training.trainer import Trainer

RATIO = 0.25
TINY = Shape(1, 64, 4, 172, 256)
Row = Mapping[str, object]


@dataclass(frozen=True)
class Sizes:
    """What is measured: the paper's shapes on a GPU, tiny ones to try the script."""

    shapes: Mapping[str, Shape]
    updates: str
    packed: Shape
    served: Mapping[str, Shape]
    small: Sequence[Shape]
    sequences: int = 64
    length: int = 2048
    precision: str = "bfloat16"
    rounds: int = 4
    prompts: tuple[int, ...] = (1024, 8192)
    batches: tuple[int, ...] = (1, 8, 64)
    processes: tuple[int, ...] = (1, 4, 8)


PAPER = Sizes(
    {name: SHAPES[name] for name in ("1.4B", "500M", "134M", "60M")},
    "500M",
    Shape(4, 256, 4, 688, 256),
    SERVED,
    (Shape(3, 64, 2, 176, 256), Shape(8, 256, 8, 688, 256)),
)
SMALL = Sizes({"d64L1": TINY}, "d64L1", TINY, {"d64L1": TINY}, (TINY,), 4, 64, "float32", 2, (8,), (1, 2), (1, 2))


@dataclass
class Bench:
    """One device, what is measured on it, and the rows so far."""

    device: torch.device
    row: Device
    sizes: Sizes
    compiler: str
    until: float
    tables: dict[str, list[Row]] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)

    def add(self, table: str, **row: object) -> None:
        """One more row, printed as it comes."""
        self.tables.setdefault(table, []).append(row)
        print(f"{table}: " + ", ".join(f"{key} {shown(value)}" for key, value in row.items()), flush=True)

    def in_time(self, what: str) -> bool:
        """Whether there is time left for `what`."""
        if time.monotonic() < self.until:
            return True
        self.skipped.append(what)
        return False

    def seconds(self, call: Callable[[], object], *, calls: int = 1) -> float:
        """Mean time of a call, the device waited for at both ends."""
        wait(self.device)
        start = time.perf_counter()
        for _ in range(calls):
            call()
        wait(self.device)
        return (time.perf_counter() - start) / calls


def wait(device: torch.device) -> None:
    """Until the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def a_trainer(bench: Bench, run: Run, *, compiler: str | None) -> Trainer:
    """A trainer as a worker makes it, its parts chosen by the memory function, its weights random."""
    part = split(run, memory_bytes=bench.row.memory_bytes)
    data = random_data(run.shape.vocab_size, 4 * bench.sizes.sequences, run.sequence_length)
    with mock.patch.object(trainer_module, "initialise", lambda model, init, seed: random_weights(model)):
        return Trainer(run, data, device=bench.device, micro_sequences=part.sequences, compiler=compiler)


def the_run(bench: Bench, shape: Shape, name: str, ratio: float | None) -> Run:
    """A run of one batch size for all."""
    sizes = bench.sizes
    return a_run(shape, name, ratio, precision=sizes.precision, sequences=sizes.sequences, length=sizes.length)


def device(bench: Bench) -> None:
    """Rates of a large product and a large copy, what serving reaches, and what starts a low-rank model."""
    here = calibrate(bench.row, torch_device=str(bench.device))
    (values, rates), *_ = here.serving.items()
    flops, moved = product_and_copy(bench, torch.bfloat16 if values == "bfloat16" else torch.float32)
    size = (256, 172) if bench.device.type == "cpu" else (1280, 3584)
    matrix = torch.randn(size, device=bench.device)
    bench.seconds(lambda: torch.linalg.svd(matrix, full_matrices=False))
    bench.add(
        "device",
        **{
            f"{values} product, FLOP/s": flops,
            "product, of the data sheet": flops / bench.row.peak(values),
            "copy, bytes/s": moved,
            "copy, of the data sheet": moved / bench.row.bandwidth_bytes_per_second,
            "a prompt reaches": rates.arithmetic,
            "decoding reaches": rates.bandwidth,
            "launch, µs": 1e6 * rates.launch_seconds,
            f"SVD {size[0]}×{size[1]}, s": bench.seconds(lambda: torch.linalg.svd(matrix, full_matrices=False)),
        },
    )


def product_and_copy(bench: Bench, dtype: torch.dtype) -> tuple[float, float]:
    """FLOP/s of a large matrix product, bytes/s of a large copy, both read and written."""
    size, numbers = (768, 2**24) if bench.device.type == "cpu" else (8192, 2**28)
    matrix = torch.randn(size, size, device=bench.device, dtype=dtype)  # ones run faster: fewer bits change
    source = torch.ones(numbers, device=bench.device)
    target = torch.empty_like(source)
    calls: tuple[Callable[[], object], ...] = (lambda: matrix @ matrix, lambda: target.copy_(source))
    product, copy = (min(bench.seconds(call, calls=5) for _ in range(bench.sizes.rounds)) for call in calls)
    return 2.0 * size**3 / product, 2.0 * numbers * source.element_size() / copy


def training(bench: Bench) -> None:
    """Every shape, dense and low-rank."""
    for name, shape in bench.sizes.shapes.items():
        times = {}
        for line, rule, ratio in (("dense, muon", "muon", None), (f"low_rank@{RATIO:g}, spectron", "spectron", RATIO)):
            if not bench.in_time(f"training {name} {line}"):
                continue
            run = the_run(bench, shape, rule, ratio)
            flops, seconds = one_model(bench, name, line, run)
            times[line] = (flops, seconds)
        if len(times) == 2:
            (dense_flops, dense), (low_flops, low) = times.values()
            bench.add(
                "low-rank over dense", shape=name, FLOPs=low_flops / dense_flops, step=low / dense,
                **{"step over FLOPs": (low / dense) / (low_flops / dense_flops)},
            )  # fmt: skip


def one_model(bench: Bench, name: str, line: str, run: Run) -> tuple[float, float]:
    """FLOPs and seconds of a step; a row of the table."""
    release(bench.device)
    trainer = a_trainer(bench, run, compiler=bench.compiler)
    first = bench.seconds(trainer.step)  # measures norms and compiles
    trainer.stability.measures = False
    bench.seconds(trainer.step)
    seconds = min(bench.seconds(trainer.step) for _ in range(bench.sizes.rounds))
    update = min(bench.seconds(lambda: trainer.optimizers.step(1e-9)) for _ in range(bench.sizes.rounds))
    flops = 3.0 * forward_flops_per_token(run.shape, run.ranks, run.sequence_length) * run.batch_tokens
    whole = flops + 6.0 * run.shape.layers * run.shape.width * run.sequence_length * run.batch_tokens
    peak = peak_flops(bench.device, run.precision)
    memory = split(run, memory_bytes=bench.row.memory_bytes).memory.peak
    gpu = bench.device.type == "cuda"
    bench.add(
        "training",
        shape=name,
        line=line,
        params=count(run.shape, run.ranks).params_total,
        **{
            "sequences at once": trainer.micro_sequences,
            "step, ms": 1e3 * seconds,
            "tokens/s": run.batch_tokens / seconds,
            "MFU": flops / seconds / peak if peak else None,
            "MFU, whole attention": whole / seconds / peak if peak else None,
            "update, share": update / seconds,
            "first step, s": first,
            "memory predicted, GB": memory / 1e9,
            "memory measured, GB": torch.cuda.max_memory_allocated(bench.device) / 1e9 if gpu else None,
        },
    )
    return flops, seconds


def release(device: torch.device) -> None:
    """Give back what an earlier model held."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def updates(bench: Bench) -> None:
    """One low-rank model under three rules, their steps in turn."""
    if not bench.in_time("updates"):
        return
    shape = bench.sizes.shapes[bench.sizes.updates]
    release(bench.device)
    trainers = {}
    for rule in ("muon", "adamw", "spectron"):
        run = the_run(bench, shape, rule, RATIO)
        trainers[rule] = a_trainer(bench, run, compiler=bench.compiler if rule == "spectron" else None)
        trainers[rule].stability.measures = False
        for stepped in trainers[rule].optimizers.rules.values():
            stepped.flat.gradients.normal_()
    for _ in range(2):
        trainers["spectron"].step()
    step = min(bench.seconds(trainers["spectron"].step) for _ in range(bench.sizes.rounds))
    times: dict[str, list[float]] = {rule: [] for rule in trainers}
    for _ in range(bench.sizes.rounds + 1):
        for rule, trainer in trainers.items():
            times[rule].append(bench.seconds(lambda update=trainer.optimizers.step: update(1e-9), calls=3))
    updates = {rule: min(values[1:]) for rule, values in times.items()}
    for rule, seconds in updates.items():
        whole = step - updates["spectron"] + seconds
        muon = step - updates["spectron"] + updates["muon"]
        numbers = {"update, ms": 1e3 * seconds, "step, ms": 1e3 * whole, "step over Muon on factors": whole / muon}
        bench.add("updates", shape=bench.sizes.updates, rule=rule, **numbers)


PACKED = """
import sys, time
sys.path[:0] = [{benchmarks!r}, {root!r}]
from gpu import packed_run
packed_run({device!r}, {tiny!r}, {seconds!r})
"""


def packed_run(device: str, tiny: bool, seconds: float) -> None:
    """In a process of its own: train a small model, wait for the others, then print tokens per second."""
    sizes = SMALL if tiny else PAPER
    bench = Bench(open_device(device), DEVICES["cpu" if device == "cpu" else "h100"], sizes, "", 0.0)
    run = replace(the_run(bench, sizes.packed, "muon", None), batch_tokens=16 * 256, sequence_length=256)
    trainer = a_trainer(bench, run, compiler=None if tiny else "inductor")
    trainer.stability.measures = False
    for _ in range(10):
        trainer.step()
    trainer.wait()
    print("ready", flush=True)
    sys.stdin.readline()
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        trainer.step()
        steps += 1
        if steps % 20 == 0:
            trainer.wait()
    trainer.wait()
    print(steps * run.batch_tokens / (time.perf_counter() - start), flush=True)


def packing(bench: Bench) -> None:
    """Tokens a second of one small run, and of several at once."""
    one = 0.0
    tiny = bench.sizes is SMALL
    for processes in bench.sizes.processes:
        if not bench.in_time(f"packing {processes} runs"):
            continue
        script = PACKED.format(
            benchmarks=str(Path(__file__).parent), root=str(Path(__file__).parent.parent), device=str(bench.device),
            tiny=tiny, seconds=0.3 if tiny else 6.0,
        )  # fmt: skip
        command = [sys.executable, "-c", script]
        runs = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for _ in range(processes)
        ]
        for run in runs:
            assert run.stdout is not None
            assert run.stdout.readline() == "ready\n"
        for run in runs:
            assert run.stdin is not None
            run.stdin.write("go\n")
            run.stdin.flush()
        total = sum(float(run.communicate()[0]) for run in runs)
        one = one or total
        bench.add("packing", runs=processes, **{"tokens/s of all": total, "over one run": total / one})


def small_steps(bench: Bench) -> None:
    """What a step takes where there is nothing to compute."""
    for shape in bench.sizes.small:
        for rule, ratio in (("muon", None), ("spectron", RATIO), ("adamw", None)):
            if not bench.in_time(f"small steps {shape.layers} {rule}"):
                continue
            run = replace(
                the_run(bench, shape, rule, ratio), batch_tokens=16 * 128, sequence_length=128, precision="float32"
            )
            trainer = a_trainer(bench, run, compiler=bench.compiler)
            trainer.stability.measures = False
            for _ in range(5):
                trainer.step()
            milliseconds = 1e3 * bench.seconds(trainer.step, calls=100 if bench.device.type == "cuda" else 5)
            bench.add("small steps", layers=shape.layers, width=shape.width, rule=rule, **{"step, ms": milliseconds})


def repeats(bench: Bench) -> None:
    """The largest difference between the losses of two equal trainings."""
    if not bench.in_time("repeats"):
        return
    run = replace(the_run(bench, bench.sizes.packed, "muon", None), batch_tokens=4 * 256, sequence_length=256)
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        first, second = (losses(bench, run) for _ in range(2))
        largest = max(abs(a - b) for a, b in zip(first, second, strict=True))
        bench.add("repeats", deterministic=deterministic, steps=len(first), **{"largest difference, nats": largest})
    torch.use_deterministic_algorithms(False)


def losses(bench: Bench, run: Run) -> list[float]:
    """Training losses of a few steps."""
    torch.manual_seed(0)
    trainer = a_trainer(bench, run, compiler=bench.compiler)
    for _ in range(40):
        trainer.step()
    trainer.wait()
    return trainer.history.values


def serving(bench: Bench) -> None:
    """Prompts and decode steps of chosen models."""
    release(bench.device)
    for name, shape in bench.sizes.served.items():
        for ratio in (None, RATIO):
            ranks = None if ratio is None else matrix_ranks(shape, ratio)
            for prompt in bench.sizes.prompts:
                for batch in bench.sizes.batches:
                    if batch * prompt > 65536 or not bench.in_time(f"serving {name} {ratio} {prompt} {batch}"):
                        continue  # longer prompts of large batches take long and show nothing new
                    served(bench, name, shape, ranks, prompt=prompt, batch=batch)


def served(bench: Bench, name: str, shape: Shape, ranks: object, *, prompt: int, batch: int) -> None:
    """One row per form."""
    setting = Setting(bench.row, batch=batch, context=prompt)
    for one in measure(shape, ranks, setting, device=str(bench.device)):  # type: ignore[arg-type]
        times = {"prefill, ms": 1e3 * one.prefill_seconds, "decode, ms": 1e3 * one.decode_seconds}
        bench.add("serving", model=name, form=one.predicted.form, prompt=prompt, batch=batch, **times)


def shown(value: object) -> str:
    """A number as a table shows it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if not 1000 <= abs(value) < 1e6 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def markdown(bench: Bench, title: str) -> str:
    """All tables."""
    lines = [
        f"# {title}",
        "",
        "`sh benchmarks/gpu.sh` made this page; `benchmarks/gpu.py` says what each part measures.",
        "",
    ]
    for name, rows in bench.tables.items():
        lines += [f"## {name.capitalize()}", "", "| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
        lines += ["| " + " | ".join(shown(value) for value in row.values()) + " |" for row in rows]
        lines.append("")
    if bench.skipped:
        lines.append("No time was left for: " + "; ".join(bench.skipped) + ".")
    return "\n".join(lines).rstrip() + "\n"


PARTS: Mapping[str, Callable[[Bench], None]] = {
    "training": training, "updates": updates, "device": device, "repeats": repeats, "serving": serving,
    "small steps": small_steps, "packing": packing,
}  # fmt: skip


def the_bench(asked: argparse.Namespace) -> Bench:
    """The device that was asked for."""
    if asked.device != "cpu" and not torch.cuda.is_available():
        sys.exit(f"torch {torch.__version__} sees no CUDA GPU here; --device cpu --tiny tries the script on the CPU")
    device = open_device(asked.device)
    sizes = SMALL if asked.tiny else PAPER
    compiler = "inductor" if device.type == "cuda" else "aot_eager"
    row = DEVICES["cpu"] if device.type == "cpu" else device_here()[0]
    return Bench(device, row, sizes, compiler, time.monotonic() + asked.seconds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--tiny", action="store_true", help="tiny models, to try the script")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seconds", type=float, default=500.0, help="no part is begun after this long")
    parser.add_argument("--out", type=Path, help="write the page and its numbers (.md, .json) under this name")
    asked = parser.parse_args(arguments)
    bench = the_bench(asked)
    torch.set_float32_matmul_precision("high")
    name = "CPU" if bench.device.type == "cpu" else torch.cuda.get_device_name(bench.device)
    for part in asked.parts.split(","):
        PARTS[part](bench)
    title = f"{name}, torch {torch.__version__}, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    page = markdown(bench, title)
    print(page)
    if asked.out is not None:
        asked.out.with_suffix(".md").write_text(page)
        asked.out.with_suffix(".json").write_text(json.dumps(bench.tables, indent=1) + "\n")


if __name__ == "__main__":
    main()
