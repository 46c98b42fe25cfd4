"""Published latencies of Llama-2 on one GPU beside the cost model: `python benchmarks/serving_latency.py [--out FILE]`.

A request is one prefill of `prompt` tokens and `output` − 1 decode steps, for every sequence of the batch. Rates are
`inference.cost.TYPICAL`; the range is from `FAST` to `SLOW`. Sources:

- NeMo user guide, performance, Llama 2 inference: latency of 128 tokens in and 20 out, one GPU, bfloat16
  (docs.nvidia.com/nemo-framework/user-guide/latest/performance/llama.html).
- LMDeploy 0.1.0a1, docs/en/benchmark/a100_fp16.md, static inference: output tokens per second, float16, A100-80G. Long
  prompts at batches above 1, and batch 32, are left out: first tokens came up to 116 s apart, so requests waited.
- gpt-fast, README, benchmarks: tokens per second at batch 1 and a prompt of 5 tokens, A100-80GB limited to 330 W,
  bfloat16 and int8 weights; 200 tokens, the default of its generate.py.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from scaling.hardware import DEVICES
from scaling.inference.cost import Setting, cost
from scaling.run import Shape

SEVEN = Shape(layers=32, width=4096, heads=32, ff_width=11008, vocab_size=32000)  # arXiv 2307.09288, table 1
THIRTEEN = Shape(layers=40, width=5120, heads=40, ff_width=13824, vocab_size=32000)
SHAPES = {"7B": SEVEN, "13B": THIRTEEN}


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the table here")
    options = parser.parse_args()
    lines = [
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
        head = "# Published latencies beside the cost model\n\n"
        head += "`python benchmarks/serving_latency.py`; its text has the sources.\n\n"
        options.out.write_text(head + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
