"""How long a training step takes, ours beside plain alternatives, measured alternately in one process.

    OMP_NUM_THREADS=1 python benchmarks/training.py     one CPU core: shapes and batches of sweeps/quickstart.yaml

A GPU is measured by `benchmarks/gpu.py`. All sides train the same model on the same batches and differ in the update of
hidden matrices: ours in batches, the plain ones matrix by matrix. Dense: `torch.optim.Muon`. Low rank: a loop over
pairs of factors with two reads of a norm per pair, once with Newton-Schulz in bfloat16 (as `torch.optim.Muon` and the
paper's code have it) and once in float32, which is faster on CPUs. The rest is fused AdamW everywhere. A ratio is
(plain step) / (our step); the mean is weighted by the steps that the sweep spends on each shape.
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
from scaling.run import Optimizer, Run, Shape
from scaling.sweeps.counting import matrix_ranks
from scaling.sweeps.grids import plan
from scaling.sweeps.schema import load_sweep
from scaling.training.loop import open_device
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
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    write("training-cpu", cpu(options.rounds, options.steps), "one CPU core")
    return 0


if __name__ == "__main__":
    sys.exit(main())
