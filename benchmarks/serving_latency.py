"""Serving times on GPUs beside the cost model: `python benchmarks/serving_latency.py [--out FILE]`.

First our own: PyTorch in bfloat16 on an H100, decode steps as CUDA graphs (results/benchmarks/gpu.json, by
benchmarks/gpu.py), beside typical rates and beside those which `scaling doctor --calibrate` finds from three of them.
Then published latencies of Llama-2: a request is one prefill of `prompt` tokens and `output` − 1 decode steps, for
every sequence of the batch. Typical rates are `inference.cost.TYPICAL`; the range is from `FAST` to `SLOW`. Last, why a
launch is added to a kernel's time and is no floor of it. Sources:

- NeMo user guide, performance, Llama 2 inference: latency of 128 tokens in and 20 out, one GPU, bfloat16
  (docs.nvidia.com/nemo-framework/user-guide/latest/performance/llama.html).
- LMDeploy 0.1.0a1, docs/en/benchmark/a100_fp16.md, static inference: output tokens per second, float16, A100-80G. Long
  prompts at batches above 1, and batch 32, are left out: first tokens came up to 116 s apart, so requests waited.
- gpt-fast, README, benchmarks: tokens per second at batch 1 and a prompt of 5 tokens, A100-80GB limited to 330 W,
  bfloat16 and int8 weights; 200 tokens, the default of its generate.py.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from memory_trace import SHAPES as PAPER

from scaling.hardware import DEVICES, Device
from scaling.inference.cost import Form, ServingCost, Setting, cost, decode_kernels
from scaling.inference.measure import REFERENCES, rates_of
from scaling.run import Shape
from scaling.sweeps.counting import matrix_ranks

ROOT = Path(__file__).parent.parent

SEVEN = Shape(layers=32, width=4096, heads=32, ff_width=11008, vocab_size=32000)  # arXiv 2307.09288, table 1
THIRTEEN = Shape(layers=40, width=5120, heads=40, ff_width=13824, vocab_size=32000)
SHAPES = {"7B": SEVEN, "13B": THIRTEEN}
SERVED = {"134M": PAPER["134M"], "1.4B": PAPER["1.4B"], "Llama-2 7B": SEVEN}


@dataclass(frozen=True)
class Published:
    """One published time: `seconds` of a whole request, all sequences of the batch together."""

    source: str
    device: str
    model: str
    precision: str
    batch: int
    prompt: int
    output: int
    seconds: float

    def predicted(self) -> tuple[float, float, float]:
        """Seconds by the cost model: typical, fast, slow."""
        setting = Setting(
            DEVICES[self.device], self.batch, self.prompt + self.output, self.precision, prompt=self.prompt
        )
        row, steps = cost(SHAPES[self.model], None, setting), self.output - 1
        fast = row.prefill_seconds_low + steps * row.decode_seconds_low
        slow = row.prefill_seconds_high + steps * row.decode_seconds_high
        return row.prefill_seconds + steps * row.decode_seconds, fast, slow


def _nemo(device: str, milliseconds: tuple[float, ...]) -> list[Published]:
    return [
        Published("NeMo", device, "7B", "bfloat16", batch, 128, 20, ms / 1e3)
        for batch, ms in zip((1, 2, 4, 8), milliseconds, strict=True)
    ]


def _lmdeploy(model: str, batch: int, prompt: int, output: int, rate: float) -> Published:
    return Published("LMDeploy", "a100", model, "bfloat16", batch, prompt, output, batch * output / rate)


PUBLISHED = (
    *_nemo("a100", (234.0, 249.6, 272.6, 329.5)),
    *_nemo("h100", (153.8, 160.8, 174.8, 199.2)),
    _lmdeploy("7B", 1, 1, 128, 100.02),
    _lmdeploy("7B", 1, 128, 128, 102.21),
    _lmdeploy("7B", 1, 128, 2048, 98.92),
    _lmdeploy("7B", 1, 2048, 128, 86.1),
    _lmdeploy("7B", 1, 2048, 2048, 93.78),
    _lmdeploy("7B", 16, 1, 128, 1504.72),
    _lmdeploy("7B", 16, 128, 128, 1272.47),
    _lmdeploy("7B", 16, 128, 2048, 1010.62),
    _lmdeploy("7B", 64, 1, 128, 4154.81),
    _lmdeploy("13B", 1, 1, 128, 57.49),
    _lmdeploy("13B", 1, 128, 128, 56.58),
    _lmdeploy("13B", 1, 128, 2048, 55.29),
    _lmdeploy("13B", 1, 2048, 128, 48.99),
    _lmdeploy("13B", 1, 2048, 2048, 52.12),
    _lmdeploy("13B", 16, 1, 128, 869.45),
    _lmdeploy("13B", 16, 128, 128, 757.3),
    _lmdeploy("13B", 16, 128, 2048, 605.88),
    _lmdeploy("13B", 64, 1, 128, 3049.16),
    Published("gpt-fast", "a100", "7B", "bfloat16", 1, 5, 200, 200 / 104.9),
    Published("gpt-fast", "a100", "7B", "int8", 1, 5, 200, 200 / 155.58),
)


@dataclass(frozen=True)
class Measured:
    """One model of benchmarks/gpu.py, served on an H100; seconds of the whole batch."""

    model: str
    form: Form
    batch: int
    prompt: int
    prefill: float
    decode: float

    def price(self, device: Device) -> ServingCost:
        """By the cost model, on a row of the hardware table."""
        shape = SERVED[self.model]
        ranks = None if self.form == "dense" else matrix_ranks(shape, 0.25)
        return cost(shape, ranks, Setting(device, self.batch, self.prompt), self.form)


def measured(table: Path = ROOT / "results" / "benchmarks" / "gpu.json") -> list[Measured]:
    """What benchmarks/gpu.py has measured."""
    return [
        Measured(
            row["model"], row["form"], row["batch"], row["prompt"], row["prefill, ms"] / 1e3, row["decode, ms"] / 1e3
        )
        for row in json.loads(table.read_text())["serving"]
    ]


def calibrated(times: Sequence[Measured]) -> Device:
    """The row of the H100 with the rates that `scaling doctor --calibrate` would find from these times."""
    found = [
        next(
            one for one in times
            if SERVED[one.model] == reference.shape and one.form == "dense"
            and (one.batch, one.prompt) == (reference.batch, reference.context)
        )
        for reference in REFERENCES["cuda"]
    ]  # fmt: skip
    settings = [Setting(DEVICES["h100"], one.batch, one.prompt) for one in found]
    rates = rates_of(REFERENCES["cuda"], settings, (found[0].decode, found[1].decode, found[2].prefill))
    assert rates is not None
    return replace(DEVICES["h100"], serving={"bfloat16": rates})


def own_lines(times: Sequence[Measured]) -> list[str]:
    """The measured times as a table, with the errors of both kinds of rates."""
    here = calibrated(times)
    rates = here.serving["bfloat16"]
    lines = [
        "| model | form | prompt | batch | decode, ms | typical | calibrated | prefill, ms | typical | calibrated |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    decode: list[tuple[float, float]] = []
    for one in times:
        typical, own = one.price(DEVICES["h100"]), one.price(here)
        decode.append((typical.decode_seconds / one.decode - 1, own.decode_seconds / one.decode - 1))
        prefill = (typical.prefill_seconds / one.prefill - 1, own.prefill_seconds / one.prefill - 1)
        lines.append(
            f"| {one.model} | {one.form} | {one.prompt:,} | {one.batch} | {1e3 * one.decode:.3g} | "
            f"{decode[-1][0]:+.0%} | {decode[-1][1]:+.0%} | {1e3 * one.prefill:.4g} | {prefill[0]:+.0%} | "
            f"{prefill[1]:+.0%} |"
        )
    (low, high), (own_low, own_high) = ((min(errors), max(errors)) for errors in zip(*decode, strict=True))
    return [
        *lines,
        "",
        f"Decode steps: typical rates {low:+.0%} to {high:+.0%}, calibrated {own_low:+.0%} to {own_high:+.0%}. "
        f"Calibrated: arithmetic {rates.arithmetic:.2f} and bandwidth {rates.bandwidth:.2f} of the data sheet, a "
        f"launch {1e6 * rates.launch_seconds:.1f} µs.",
    ]


def launch_lines(times: Sequence[Measured]) -> list[str]:
    """The largest error of a decode step at each model's best rates: a launch as a floor, and added."""
    steps = [_decode(one) for one in times]
    seconds = np.array([one.decode for one in times])
    lines = ["| a kernel takes | bandwidth | launch, µs | largest error of a decode step |", "|---|---:|---:|---:|"]
    forms: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
        "max(bytes / bandwidth, launch)": np.maximum,
        "launch + bytes / bandwidth": np.add,
    }
    for name, form in forms.items():
        errors = {}
        for bandwidth, launch in itertools.product(np.linspace(0.4, 1.0, 61), np.linspace(1e-6, 8e-6, 71)):
            predicted = np.array([launches @ form(moved / bandwidth, launch) for launches, moved in steps])
            errors[bandwidth, launch] = float(np.abs(predicted / seconds - 1).max())
        bandwidth, launch = min(errors, key=errors.__getitem__)
        lines.append(f"| {name} | {bandwidth:.2f} | {1e6 * launch:.1f} | {errors[bandwidth, launch]:.0%} |")
    return lines


def _decode(one: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Launches of every kernel of a decode step, and its bytes in seconds at the bandwidth of the data sheet."""
    shape, device = SERVED[one.model], DEVICES["h100"]
    ranks = matrix_ranks(shape, 0.25) if one.form == "factorized" else None
    kernels = decode_kernels(shape, ranks, Setting(device, one.batch, one.prompt))
    moved = [kernel.bytes / device.bandwidth_bytes_per_second for kernel in kernels]
    return np.array([kernel.launches for kernel in kernels], dtype=float), np.array(moved)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args()
    lines = [
        "## Measured on an H100",
        "",
        *own_lines(measured()),
        "",
        "Prompts are run by PyTorch kernel by kernel: short prompts of small models take the time of their launches",
        "from Python, which the cost model leaves out, and rotary positions take four kernels in place of one.",
        "",
        *launch_lines(measured()),
        "",
        "## Published",
        "",
        "| source | device | Llama-2 | weights | batch | in | out | published, s | predicted, s | error | range, s |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    errors, held = [], 0
    for one in PUBLISHED:
        seconds, fast, slow = one.predicted()
        errors.append(seconds / one.seconds - 1)
        held += fast <= one.seconds <= slow
        lines.append(
            f"| {one.source} | {one.device} | {one.model} | {one.precision} | {one.batch} | {one.prompt} | "
            f"{one.output} | "
            f"{one.seconds:.3f} | {seconds:.3f} | {errors[-1]:+.0%} | {fast:.3f} to {slow:.3f} |"
        )
    inside = sum(abs(error) <= 0.25 for error in errors)
    lines += [
        "",
        f"{inside} of {len(errors)} within 25 %, largest error {max(errors, key=abs):+.0%}; the range holds {held}.",
    ]
    print("\n".join(lines))
    if options.out:
        head = "# Serving times beside the cost model\n\n"
        head += "`python benchmarks/serving_latency.py`; its text has the sources.\n\n"
        options.out.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
