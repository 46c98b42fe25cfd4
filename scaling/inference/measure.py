"""Serving times on this machine: both forms of a model side by side, and the device's own rates.

Forms are timed in turn, round after round, and the least time of each is kept: what another process takes from the
machine falls on both, and only lengthens. Weights are random, because a time does not depend on them. On a GPU a decode
step is recorded once and replayed as a CUDA graph, as serving engines do: launched one by one from Python, every model
below some billions of parameters would take the time of its launches.

`calibrate` measures what the cost model needs of a device, by models of the sizes that are served: rates of a single
large product or copy are not what a whole model reaches.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from scaling.errors import RunnerError
from scaling.hardware import DEVICES, Device, Rates
from scaling.inference.cost import Form, Kernel, ServingCost, Setting, cost, forms, prefill_kernels
from scaling.inference.generate import Cache, merged, step
from scaling.parameterizations import Ranks
from scaling.run import Shape
from scaling.training.model import Decoder

ROUNDS = 5
DECODE_STEPS = 16  # per round
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Reference:
    """A dense model, `batch` sequences, and `context` tokens of each."""

    shape: Shape
    batch: int
    context: int


@dataclass(frozen=True)
class MeasuredCost:
    """The predicted price of a model in one form, and its times on `measured_on`, seconds of the whole batch."""

    predicted: ServingCost
    decode_seconds: float
    prefill_seconds: float
    measured_on: str

    @property
    def tokens_per_second(self) -> float:
        """Decoded tokens of all sequences together."""
        return self.predicted.batch / self.decode_seconds


# What each rate is measured by: a narrow model's decode step is mostly launches, a wide one's the reading of its
# matrices, a long prompt arithmetic. On GPUs: the paper's 134M and 1.4B (arXiv 2602.12429) and Llama-2 7B.
REFERENCES = {
    "cpu": (
        Reference(Shape(4, 32, 2, 88, 256), 1, 64),
        Reference(Shape(2, 768, 12, 2048, 256), 1, 64),  # 57 MB: more than a core's cache
        Reference(Shape(2, 768, 12, 2048, 256), 1, 256),
    ),
    "cuda": (
        Reference(Shape(12, 768, 12, 2048, 32000), 1, 1024),
        Reference(Shape(32, 4096, 32, 11008, 32000), 1, 1024),
        Reference(Shape(24, 2048, 16, 5632, 32000), 8, 1024),
    ),
}


@torch.inference_mode()
def measure(shape: Shape, ranks: Ranks, setting: Setting, *, device: str = "cpu") -> list[MeasuredCost]:
    """Times of every form of one model, each beside its predicted price.

    Args:
        shape, ranks: the model as trained.
        setting: batch, context and precision; its device gives the predicted seconds.
        device: the torch device to run on. On a CPU one thread is used, as in training.
    """
    torch.set_num_threads(1)
    models = _models(shape, ranks, setting, device)
    tokens = torch.randint(shape.vocab_size, (setting.batch, setting.context), device=device)
    times: dict[Form, list[tuple[float, float]]] = {form: [] for form in models}
    for _ in range(ROUNDS):
        for form, model in models.items():
            times[form].append(_once(model, tokens, device))
    measured_on = device if device == "cpu" else torch.cuda.get_device_name(device)
    rows = []
    for form, measured in times.items():
        prefill, decode = (min(seconds) for seconds in zip(*measured, strict=True))
        rows.append(MeasuredCost(cost(shape, ranks, setting, form), decode, prefill, measured_on))
    return rows


def device_here() -> tuple[Device, str]:
    """The row of the hardware table for this machine's GPU, or for its CPU where it has none, and torch's name of it.

    Raises:
        RunnerError: the table has no row for the GPU.
    """
    if not torch.cuda.is_available():
        return DEVICES["cpu"], "cpu"
    name = torch.cuda.get_device_name()
    row = next((DEVICES[word] for word in name.lower().replace("-", " ").split() if word in DEVICES), None)
    if row is None:
        raise RunnerError(
            "the hardware table has no row for this GPU",
            got=name,
            allowed=", ".join(DEVICES),
            hint="hide the GPU to measure on the CPU: CUDA_VISIBLE_DEVICES= scaling ...",
        )
    return row, "cuda"


def calibrate(device: Device, *, torch_device: str = "cpu", precision: str | None = None) -> Device:
    """`device` with the rates that serving reaches on `torch_device`, for one precision of arithmetic.

    Takes some seconds. The precision is the one that `Setting` would serve in, where none is given.

    Raises:
        RunnerError: the device does not hold the models, or the times give no rates.
    """
    values = Setting(device, precision=precision).arithmetic
    references = REFERENCES[torch_device.partition(":")[0]]
    settings = [Setting(device, one.batch, one.context, values) for one in references]
    prices = [cost(one.shape, None, at) for one, at in zip(references, settings, strict=True)]
    if not all(one.fits for one in prices):
        most = max(one.weight_bytes + one.kv_bytes for one in prices)
        raise RunnerError(
            f"the memory of {device.name} is too small for the models that calibrate it",
            got=f"{device.memory_bytes / 1e9:.3g} GB",
            allowed=f"{most / 1e9:.3g} GB",
            hint="without it prices rest on typical shares of the data sheet, with a range",
        )
    times = [measure(one.shape, None, at, device=torch_device)[0] for one, at in zip(references, settings, strict=True)]
    seconds = (times[0].decode_seconds, times[1].decode_seconds, times[2].prefill_seconds)
    rates = rates_of(references, settings, seconds)
    if rates is None:
        milliseconds = ", ".join(f"{1e3 * one:.3g}" for one in seconds)
        raise RunnerError(
            "what was measured gives no rates",
            got=f"a narrow and a wide decode step and a prompt of {milliseconds} ms",
            allowed="times on a machine that does nothing else",
            hint="run it again",
        )
    source = f"{device.source}; {values} serving measured here with PyTorch {torch.__version__}"
    return replace(device, serving={**device.serving, values: rates}, source=source)


def rates_of(
    references: Sequence[Reference], settings: Sequence[Setting], seconds: tuple[float, float, float]
) -> Rates | None:
    """The rates with which `cost` gives the seconds of two decode steps and a prompt; None where none do.

    Args:
        references, settings: a narrow and a wide model that decode, and one that reads a prompt.
        seconds: of each.
    """
    device, values = settings[0].device, settings[0].arithmetic
    narrow, wide = (cost(one.shape, None, at) for one, at in zip(references[:2], settings[:2], strict=True))
    counts = np.array([[narrow.kernels, narrow.step_bytes], [wide.kernels, wide.step_bytes]])
    launch, per_byte = np.linalg.solve(counts, seconds[:2])  # at batch 1 every kernel is bound by its bytes
    if not (launch > 0 and per_byte > 0):
        return None
    kernels = prefill_kernels(references[2].shape, None, settings[2])
    flops = _flops_per_second(kernels, seconds[2], float(launch), float(1 / per_byte))
    if flops is None:
        return None
    bandwidth = float(1 / per_byte) / device.bandwidth_bytes_per_second
    return Rates(flops / device.peak(values), bandwidth, float(launch))


def _flops_per_second(kernels: list[Kernel], seconds: float, launch: float, bandwidth: float) -> float | None:
    """The rate of arithmetic with which kernels take `seconds`; None where moving their bytes alone takes longer.

    Which kernels are bound by arithmetic depends on the rate: they are the largest set of those with the most FLOPs per
    byte that are so bound at the rate which the set gives.
    """
    ordered = sorted(kernels, key=lambda kernel: kernel.flops / kernel.bytes, reverse=True)
    left = seconds - sum(kernel.launches * (launch + kernel.bytes / bandwidth) for kernel in ordered)
    found, flops = None, 0.0
    for kernel in ordered:
        flops += kernel.launches * kernel.flops
        left += kernel.launches * kernel.bytes / bandwidth
        rate = flops / left if left > 0 else math.inf
        if kernel.flops / rate >= kernel.bytes / bandwidth:
            found = rate
    return found


def _models(shape: Shape, ranks: Ranks, setting: Setting, device: str) -> dict[Form, Decoder]:
    with torch.device(device):
        trained = Decoder(shape, ranks, sequence_length=setting.context + DECODE_STEPS)
    random_weights(trained)
    trained = trained.to(_DTYPES[setting.values])
    return {form: merged(trained) if form == "merged" else trained for form in forms(ranks)}


@torch.no_grad()
def random_weights(model: Decoder) -> None:
    """Give every matrix entries of variance 1 / columns. A run's own start decomposes every matrix."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=parameter.shape[1] ** -0.5)


def _once(model: Decoder, tokens: Tensor, device: str) -> tuple[float, float]:
    """Seconds of the prompt and of one decode step."""
    cache = Cache(model, len(tokens), tokens.shape[1] + DECODE_STEPS)
    start = _now(device)
    following = step(model, tokens, cache).argmax(dim=-1, keepdim=True)
    filled = _now(device) - start
    decode = _recorded(model, following, cache) if device != "cpu" else None
    start = _now(device)
    for _ in range(DECODE_STEPS):
        if decode is None:
            following = step(model, following, cache).argmax(dim=-1, keepdim=True)
        else:
            decode.replay()
    return filled, (_now(device) - start) / DECODE_STEPS


def _recorded(model: Decoder, following: Tensor, cache: Cache) -> torch.cuda.CUDAGraph:
    """One decode step at the length of the cache, to be replayed; the cache stays as it is."""
    length, graph, beside = cache.length, torch.cuda.CUDAGraph(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):  # what a first call allocates and chooses must not be recorded
        step(model, following, cache)
    torch.cuda.current_stream().wait_stream(beside)
    cache.length = length
    with torch.cuda.graph(graph):
        step(model, following, cache).argmax(dim=-1, keepdim=True)
    cache.length = length
    return graph


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter()
