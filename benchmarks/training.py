"""How long a training step takes, ours beside plain alternatives, measured alternately in one process.

    OMP_NUM_THREADS=1 python benchmarks/training.py     one CPU core: shapes and batches of sweeps/quickstart.yaml
    python benchmarks/training.py --gpu                 one GPU: the paper's 134M, 500M and 780M shapes in bfloat16

CPU. All sides train the same model on the same batches and differ in the update of hidden matrices: ours in batches,
the plain ones matrix by matrix. Dense: `torch.optim.Muon`. Low rank: a loop over pairs of factors with two reads of a
norm per pair, once with Newton-Schulz in bfloat16 (as `torch.optim.Muon` and the paper's code have it) and once in
float32, which is faster on CPUs. The rest is fused AdamW everywhere. A ratio is (plain step) / (our step); the mean is
weighted by the steps that the sweep spends on each shape.

GPU. A step is 131,072 tokens in parts of 16,384: the paper's batch on eight GPUs. Ours (Muon on dense models, Spectron
on factors, and AdamW on both) against the same shape in eager PyTorch and in `torch.compile` with fused AdamW, and the
Spectron update against the loop with its reads of norms. One shape takes minutes: `--shapes 134M` keeps a first run
short.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from scaling.data.shards import TokenData
from scaling.run import DataRef, Initialisation, Optimizer, Run, Schedule, Shape
from scaling.sweeps.counting import forward_flops_per_token, matrix_ranks
from scaling.sweeps.grids import plan
from scaling.sweeps.schema import load_sweep
from scaling.training import linear
from scaling.training.loop import open_device, peak_flops
from scaling.training.model import Decoder, initialise, mean_loss
from scaling.training.orthogonal import COEFFICIENTS
from scaling.training.trainer import Trainer

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "benchmarks"


def random_data(vocab_size: int, sequences: int, length: int) -> TokenData:
    """Tokens without meaning: a step costs the same."""
    tokens = np.random.default_rng(0).integers(0, vocab_size, sequences * length + 1).astype(np.uint16)
    return TokenData("random", Path(), vocab_size, tokens, {}, {})


class PlainSpectron:
    """Spectron as one would write it first: a loop over pairs of factors, norms read back to the host."""

    def __init__(self, layers: list, *, constants: Optimizer, dtype: torch.dtype) -> None:
        self.layers, self.constants, self.dtype = layers, constants, dtype
        self.state: dict[torch.Tensor, SimpleNamespace] = {}
        for layer in layers:
            for p in (layer.a, layer.b):
                u = torch.nn.functional.normalize(torch.ones(p.shape[0], device=p.device), dim=0)
                self.state[p] = SimpleNamespace(momentum=torch.zeros_like(p), u=u)

    def direction(self, p: torch.Tensor) -> torch.Tensor:
        m = self.state[p].momentum
        m.lerp_(p.grad, 1 - self.constants.momentum)
        g = (p.grad.lerp(m, self.constants.momentum) if self.constants.nesterov else m).to(self.dtype)
        x = g.T if g.shape[0] > g.shape[1] else g
        x = x / x.norm().clamp(min=1e-7)
        a, b, c = COEFFICIENTS
        for _ in range(self.constants.newton_schulz_steps):
            gram = x @ x.T
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        return (x.T if g.shape[0] > g.shape[1] else x).to(p.dtype)

    def sigma(self, p: torch.Tensor) -> float:
        v = torch.nn.functional.normalize(p.T @ self.state[p].u, dim=0)
        wv = p @ v
        sigma = wv.norm()
        self.state[p].u = wv / sigma
        return sigma.item()

    @torch.no_grad()
    def step(self, lr: float) -> None:
        for layer in self.layers:
            rho = lr / (self.sigma(layer.a) + self.sigma(layer.b) + 1)
            for p in (layer.a, layer.b):
                p.sub_(self.direction(p), alpha=rho)


def plain_step(run: Run, trainer: Trainer, dtype: torch.dtype) -> Callable[[], None]:
    """The same training with ordinary parameters and per-matrix optimizers; `dtype` is that of plain Spectron."""
    model = Decoder(run.shape, run.ranks, sequence_length=run.sequence_length)
    initialise(model, run.initialisation, seed=run.seed)
    hidden = [p for layer in model.hidden().values() for p in layer.parameters()]
    others = [p for p in model.parameters() if all(p is not h for h in hidden)]
    c = run.optimizer
    adamw = torch.optim.AdamW(others, lr=c.other_lr, betas=(c.beta1, c.beta2), weight_decay=0.0, fused=True)
    if run.ranks is None:
        muon = torch.optim.Muon(hidden, lr=c.lr, momentum=c.momentum, nesterov=bool(c.nesterov), weight_decay=0.0)
        update = muon.step
    else:
        rule = PlainSpectron(list(model.hidden().values()), constants=c, dtype=dtype)
        update = lambda: rule.step(c.lr)  # noqa: E731
    number = iter(range(10**9))

    def step() -> None:
        for p in model.parameters():
            p.grad = None
        inputs, targets = trainer.batches.batch(next(number))
        mean_loss(model, torch.from_numpy(inputs), torch.from_numpy(targets)).backward()
        update()
        adamw.step()

    return step


def alternate(
    sides: dict[str, Callable[[], None]], *, rounds: int, steps: int, clock: Callable[[], float] = time.thread_time
) -> dict[str, float]:
    """Lower quartile over rounds of the mean CPU seconds per step of each side, the sides taking turns.

    CPU time of this one thread is the wall time of an idle core, and what other processes do to it is mostly left out.
    """
    for side in sides.values():
        for _ in range(3):
            side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            start = clock()
            for _ in range(steps):
                side()
            seconds[name].append((clock() - start) / steps)
    return {name: statistics.quantiles(s, n=4)[0] for name, s in seconds.items()}


def cpu(rounds: int, steps: int) -> dict:
    """Every distinct shape and batch of the quickstart."""
    device = open_device("cpu")
    planned = plan(load_sweep(ROOT / "sweeps" / "quickstart.yaml"), vocab_size=256).runs
    weights: dict[tuple, float] = {}
    runs: dict[tuple, tuple[str, Run]] = {}
    for p in planned:
        key = (p.line, p.run.shape, p.run.batch_tokens)
        weights[key] = weights.get(key, 0) + p.run.steps
        runs[key] = (p.line, replace(p.run, steps=10**9))
    extra = [(line, run) for line, run in runs.values() if run.shape.width == 40][:2]
    for line, run in extra:  # the shape that the speed target names, whatever the sweep has
        shape = Shape(2, 32, 1, 88, 256)
        ranks = None if run.ranks is None else matrix_ranks(shape, 0.25)
        for tokens in (256, 512):
            key = (line, shape, tokens)
            runs.setdefault(key, (line, replace(run, shape=shape, ranks=ranks, batch_tokens=tokens)))
            weights.setdefault(key, 0)
    rows = []
    for key, (line, run) in sorted(runs.items(), key=lambda item: (item[0][0], item[0][1].width, item[0][2])):
        trainer = Trainer(run, random_data(256, 4096, run.sequence_length), device=device)
        trainer.stability.measures = False
        sides = {"ours": trainer.step, "plain": plain_step(run, trainer, torch.bfloat16)}
        if run.ranks is not None:
            sides["float32"] = plain_step(run, trainer, torch.float32)
        times = alternate(sides, rounds=rounds, steps=steps)
        times |= alternate({"update": lambda t=trainer: t.optimizers.step(1e-3)}, rounds=rounds, steps=steps)
        rows.append(
            {
                "line": line,
                "width": run.shape.width,
                "layers": run.shape.layers,
                "batch_tokens": run.batch_tokens,
                "steps_in_sweep": weights[key],
                "ours_ms": 1e3 * times["ours"],
                "plain_ms": 1e3 * times["plain"],
                "ratio": times["plain"] / times["ours"],
                "ratio_to_plain_float32": times.get("float32", times["plain"]) / times["ours"],
                "optimizer_share": times["update"] / times["ours"],
                "tokens_per_second": run.batch_tokens / times["ours"],
            }
        )
        print(format_row(rows[-1]), flush=True)
    return {"rows": rows, "summary": summary(rows)}


PAPER = {  # the low-rank paper's dense shapes, arXiv 2602.12429: layers, width, heads, feed-forward
    "134M": Shape(12, 768, 12, 2048, 32000),
    "500M": Shape(20, 1280, 20, 3584, 32000),
    "780M": Shape(24, 1536, 24, 4096, 32000),
}
GPU_LENGTH = 2048
GPU_SEQUENCES, GPU_PART = 64, 8  # sequences of a step, and of one part: eager PyTorch holds the activations of a part


def gpu_run(shape: Shape, *, ratio: float | None, name: str) -> Run:
    """One of the paper's shapes in bfloat16, dense or at a rank ratio."""
    return Run(
        shape=shape,
        parameterization="dense" if ratio is None else "low_rank",
        initialisation=Initialisation(embedding_std=0.02, head_std=0.02, hidden_gain=1.0),
        optimizer=Optimizer(name, 0.02, 1e-3, 0.9, 0.95, 1e-8, momentum=0.95, nesterov=True, newton_schulz_steps=5),
        schedule=Schedule("constant", 0, 0.0),
        steps=10**9,
        batch_tokens=GPU_SEQUENCES * GPU_LENGTH,
        sequence_length=GPU_LENGTH,
        seed=0,
        data=DataRef("random", "bytes", 0),
        precision="bfloat16",
        ranks=None if ratio is None else matrix_ranks(shape, ratio),
    )


def adamw_step(trainer: Trainer, run: Run, *, compiled: bool) -> Callable[[], None]:
    """The same model with ordinary parameters and fused AdamW, eager or compiled, over the same parts of a batch."""
    with trainer.device:
        model = Decoder(run.shape, run.ranks, sequence_length=run.sequence_length)
    model.load_state_dict(trainer.model.state_dict())
    adamw = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    loss = torch.compile(mean_loss) if compiled else mean_loss
    number = iter(range(10**9))
    parts = trainer.sequences // trainer.micro_sequences

    def step() -> None:
        adamw.zero_grad(set_to_none=True)
        batch = (np.split(side, parts) for side in trainer.batches.batch(next(number)))
        for inputs, targets in zip(*batch, strict=True):
            with torch.autocast(trainer.device.type, dtype=torch.bfloat16):
                value = loss(model, trainer.put(inputs), trainer.put(targets)) / parts
            value.backward()
        adamw.step()

    return step


def plain_spectron_update(trainer: Trainer, run: Run) -> Callable[[], None]:
    """The two-reads-per-pair loop on the gradients that a model of its own has."""
    rule = PlainSpectron(list(trainer.model.hidden().values()), constants=run.optimizer, dtype=torch.bfloat16)
    return lambda: rule.step(1e-9)


def synchronised(step: Callable[[], None], count: int, device: torch.device) -> Callable[[], None]:
    """`count` steps and then a wait for the device."""

    def several() -> None:
        for _ in range(count):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return several


def gpu_row(name: str, ratio: float | None, device: torch.device, *, rounds: int, steps: int) -> dict:
    """One shape of the paper: ours, eager and compiled AdamW, and the updates alone."""
    shape = PAPER[name]
    run = gpu_run(shape, ratio=ratio, name="muon" if ratio is None else "spectron")
    trainer, twin = (
        Trainer(
            replace(run, optimizer=replace(run.optimizer, name=rule)),
            random_data(shape.vocab_size, 4 * GPU_SEQUENCES, GPU_LENGTH),
            device=device,
            micro_sequences=GPU_PART,
            compiled=True,
        )
        for rule in (run.optimizer.name, "adamw")
    )
    trainer.stability.measures = twin.stability.measures = False
    sides = {
        "ours": trainer.step,
        "ours_adamw": twin.step,
        "eager_adamw": adamw_step(trainer, run, compiled=False),
        "compiled_adamw": adamw_step(trainer, run, compiled=True),
        "update": lambda: trainer.optimizers.step(1e-9),
    }
    if ratio is not None:
        sides["plain_update"] = plain_spectron_update(trainer, run)
    several = {side: synchronised(step, steps, device) for side, step in sides.items()}
    times = alternate(several, rounds=rounds, steps=1, clock=time.perf_counter)
    flops = 3 * forward_flops_per_token(shape, run.ranks, GPU_LENGTH) * run.batch_tokens
    seconds, peak = times["ours"] / steps, peak_flops(device, "bfloat16")
    return {
        "shape": name,
        "line": "dense" if ratio is None else f"low_rank@{ratio:g}",
        "flops_per_step": flops,
        **{f"{side}_ms": 1e3 * t / steps for side, t in times.items()},
        "plain_update_ms": 1e3 * times["plain_update"] / steps if ratio is not None else None,
        "tokens_per_second": run.batch_tokens / seconds,
        "mfu": flops / seconds / peak if peak else None,
        "mfu_ours_adamw": flops / (times["ours_adamw"] / steps) / peak if peak else None,
        "mfu_compiled_adamw": flops / (times["compiled_adamw"] / steps) / peak if peak else None,
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
    }


def gpu(names: list[str], rounds: int, steps: int) -> dict:
    """The paper's shapes, dense and low-rank, and the ratios in which the targets are stated."""
    device = open_device("cuda:0")
    linear.split = lambda w, rank: (w[:, :rank].clone(), w[:rank].clone())  # a decomposition takes minutes, a step not
    torch.set_float32_matmul_precision("high")
    rows, figures = [], {}
    for name in names:
        dense, low = (gpu_row(name, ratio, device, rounds=rounds, steps=steps) for ratio in (None, 0.25))
        figures[f"{name}: low-rank step over dense step"] = low["ours_ms"] / dense["ours_ms"]
        figures[f"{name}: low-rank FLOPs over dense FLOPs"] = low["flops_per_step"] / dense["flops_per_step"]
        figures[f"{name}: Spectron step over our AdamW step"] = low["ours_ms"] / low["ours_adamw_ms"]
        figures[f"{name}: Spectron step over compiled AdamW step"] = low["ours_ms"] / low["compiled_adamw_ms"]
        figures[f"{name}: plain Spectron update over ours"] = low["plain_update_ms"] / low["update_ms"]
        for row in (dense, low):
            rows.append(row)
            print(format_row(row), flush=True)
        torch.cuda.empty_cache()
    return {"rows": rows, "summary": figures}


def summary(rows: list[dict]) -> dict[str, float]:
    """The numbers that the targets are stated in."""
    ours = sum(r["ours_ms"] * r["steps_in_sweep"] for r in rows)
    plain = sum(r["plain_ms"] * r["steps_in_sweep"] for r in rows)
    small = [r["ratio"] for r in rows if r["width"] == 32 and r["batch_tokens"] <= 512]
    return {
        "time_weighted_ratio": plain / ours,
        "time_weighted_ratio_to_plain_float32": sum(
            r["ratio_to_plain_float32"] * r["ours_ms"] * r["steps_in_sweep"] for r in rows
        )
        / ours,
        "time_weighted_optimizer_share": sum(r["optimizer_share"] * r["ours_ms"] * r["steps_in_sweep"] for r in rows)
        / ours,
        "smallest_ratio": min(r["ratio"] for r in rows),
        "smallest_ratio_d32_up_to_512_tokens": min(small),
        "sweep_core_seconds": ours / 1e3,
    }


def format_row(row: dict) -> str:
    return " | ".join(f"{v:.3g}" if isinstance(v, float) else f"{v}" for v in row.values())


def write(name: str, results: dict, device: str) -> None:
    """The table as JSON and as Markdown."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    results = {"date": time.strftime("%Y-%m-%d"), "device": device, "torch": torch.__version__, **results}
    (RESULTS / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    rows = results["rows"]
    lines = [f"# {name}: {device}, torch {torch.__version__}, {results['date']}", ""]
    lines += ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += [f"| {format_row(row)} |" for row in rows]
    lines += ["", *(f"- {key}: {value:.3g}" for key, value in results["summary"].items())]
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines[-len(results["summary"]) :]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--shapes", nargs="+", choices=list(PAPER), default=list(PAPER), help="with --gpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    if options.gpu:
        if not torch.cuda.is_available():
            sys.exit(f"--gpu needs a CUDA GPU; torch {torch.__version__} sees none here")
        result = gpu(options.shapes, options.rounds, options.steps)
        write("training-gpu", result, torch.cuda.get_device_name())
        return 0
    write("training-cpu", cpu(options.rounds, options.steps), "one CPU core")
    return 0


if __name__ == "__main__":
    sys.exit(main())
