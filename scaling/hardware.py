"""The device table: what one accelerator or one CPU core can do, for prices and serving-time estimates.

Peak rates are dense (no structured sparsity), per device, in FLOP/s, keyed by the precision a run names.
`assumed_mfu` is the share of the peak that training is assumed to reach before any run has been measured, where a row
has no measured `mfu_by_width`; and measured throughput replaces it as soon as runs have finished.
"""

from __future__ import annotations

import bisect
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from scaling.errors import PlanError


@dataclass(frozen=True)
class Rates:
    """What serving reaches of a device: shares of its arithmetic and bandwidth, seconds to start a kernel."""

    arithmetic: float
    bandwidth: float
    launch_seconds: float


@dataclass(frozen=True)
class Device:
    """One device. `serving` has the rates that were measured on it, by precision; empty until it is calibrated."""

    name: str
    peak_flops: Mapping[str, float]  # precision -> FLOP/s
    bandwidth_bytes_per_second: float
    memory_bytes: float
    assumed_mfu: float
    source: str
    serving: Mapping[str, Rates] = field(default_factory=dict)
    cost_per_hour: float | None = None
    mfu_by_width: Mapping[int, float] = field(default_factory=dict)  # measured on dense models of these widths
    low_rank_share: float = 1.0  # MFU of a low-rank model over that of a dense one of its width
    layer_seconds: float = 0.0  # a training step takes at least this for every layer: its launches

    def mfu(self, width: int, *, low_rank: bool = False) -> float:
        """Share of the peak at a model width: interpolated in log width where measured, else the assumption."""
        return self._dense_mfu(width) * (self.low_rank_share if low_rank else 1.0)

    def _dense_mfu(self, width: int) -> float:
        if not self.mfu_by_width:
            return self.assumed_mfu
        widths = sorted(self.mfu_by_width)
        at = min(max(bisect.bisect(widths, width), 1), len(widths) - 1)
        low, high = widths[at - 1], widths[at]
        share = min(max(math.log(width / low) / math.log(high / low), 0.0), 1.0)
        return math.exp((1 - share) * math.log(self.mfu_by_width[low]) + share * math.log(self.mfu_by_width[high]))

    def peak(self, precision: str) -> float:
        """Peak FLOP/s at `precision`, or a PlanError that lists what the row has."""
        if precision not in self.peak_flops:
            allowed = ", ".join(self.peak_flops)
            raise PlanError(f"device '{self.name}' has no rate for this precision", got=precision, allowed=allowed)
        return self.peak_flops[precision]


DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        Device(
            "cpu",
            {"float32": 157e9},
            bandwidth_bytes_per_second=10e9,
            memory_bytes=8e9,
            assumed_mfu=0.2,
            source="one x86-64 core with AVX-512, fp32 products and byte models at sequence length 128, measured "
            "2026-11-21: to width 48 results/quickstart/runs.csv (256 to 896 tokens a step), at 64 its low-rank line "
            "over low_rank_share, above 2,048 tokens a step; bandwidth and memory per core are assumptions",
            # (flops + optimizer_flops) / device_seconds / peak; attention counted, as `exact` does
            mfu_by_width={8: 0.011, 12: 0.022, 16: 0.035, 32: 0.080, 48: 0.106, 64: 0.13, 128: 0.41, 192: 0.52},
            low_rank_share=0.55,
        ),
        Device(
            "a100",
            {"bfloat16": 312e12, "float32": 19.5e12},
            bandwidth_bytes_per_second=2.039e12,
            memory_bytes=80e9,
            assumed_mfu=0.4,
            source="NVIDIA A100 80GB SXM data sheet; MFU is an assumption",
        ),
        Device(
            "h100",
            {"bfloat16": 989e12, "float32": 67e12},
            bandwidth_bytes_per_second=3.35e12,
            memory_bytes=80e9,
            assumed_mfu=0.4,
            source="NVIDIA H100 SXM data sheet; results/benchmarks/gpu.md, 2026-11-26: MFU in bfloat16 at 131,072 "
            "tokens a step, and the launches of a layer (the fastest of three optimizers, 8 layers of width 256)",
            mfu_by_width={512: 0.32, 768: 0.38, 1280: 0.43, 2048: 0.49},
            low_rank_share=0.78,
            layer_seconds=2.2e-3,
        ),
        Device(
            "h200",
            {"bfloat16": 989e12, "float32": 67e12},
            bandwidth_bytes_per_second=4.8e12,
            memory_bytes=141e9,
            assumed_mfu=0.4,
            source="NVIDIA H200 SXM data sheet; MFU is an assumption",
        ),
        Device(
            "l40s",
            {"bfloat16": 362e12, "float32": 91.6e12},
            bandwidth_bytes_per_second=864e9,
            memory_bytes=48e9,
            assumed_mfu=0.35,
            source="NVIDIA L40S data sheet; MFU is an assumption",
        ),
        Device(
            "rtx4090",
            {"bfloat16": 165.2e12, "float32": 82.6e12},
            bandwidth_bytes_per_second=1.008e12,
            memory_bytes=24e9,
            assumed_mfu=0.35,
            source="NVIDIA Ada GPU architecture whitepaper (bf16 with fp32 accumulation); MFU is an assumption",
        ),
    )
}


def find_device(name: str) -> Device:
    """The row called `name`, or a PlanError that lists the rows."""
    if name not in DEVICES:
        raise PlanError("no such device in the hardware table", got=name, allowed=", ".join(DEVICES))
    return DEVICES[name]


def usable_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
