"""Serving times on this machine: both forms of a model side by side, and the device's own constants.

Forms are timed in turn, round after round, and the least time of each is kept: what another process takes from the
machine falls on both, and only lengthens. Weights are random, because a time does not depend on them. `calibrate`
measures what the cost model needs of a device: the rate of a large matrix product, the bandwidth of a large copy, and
the time of a launch: a decode step of a model too small to compute anything, divided by its kernels. That is how
PyTorch launches them one by one; CUDA graphs or a serving engine would launch faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from scaling.hardware import Device
from scaling.inference.cost import Form, ServingCost, Setting, cost, forms
from scaling.inference.generate import Cache, merged, step
from scaling.parameterizations import Ranks
from scaling.run import Shape
from scaling.training.model import Decoder

ROUNDS = 5
DECODE_STEPS = 16  # per round
_NOTHING = Shape(layers=4, width=8, heads=1, ff_width=8, vocab_size=8)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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


@torch.inference_mode()
def calibrate(device: Device, *, torch_device: str = "cpu", precision: str | None = None) -> Device:
    """`device` with the kernel time, matrix-product rate and copy bandwidth of `torch_device`, as PyTorch reaches them.

    Takes about two seconds. The rate replaces the one of `precision` (default: the one `Setting` would serve in).
    """
    torch.set_num_threads(1)
    values = precision or Setting(device).values
    dtype = _DTYPES[values]
    setting = Setting(device, batch=1, context=8, precision=values)
    idle = measure(_NOTHING, None, setting, device=torch_device)[0]
    size = 768 if torch_device == "cpu" else 8192
    a = torch.randn(size, size, device=torch_device, dtype=dtype)  # ones run faster: fewer bits change
    product = _seconds(lambda: a @ a, torch_device, calls=10)
    source = torch.ones(2**24 if torch_device == "cpu" else 2**28, device=torch_device)
    target = torch.empty_like(source)
    copy = _seconds(lambda: target.copy_(source), torch_device, calls=5)
    return replace(
        device,
        kernel_seconds=idle.decode_seconds / idle.predicted.kernels,
        peak_flops={**device.peak_flops, values: 2 * size**3 / product},
        bandwidth_bytes_per_second=2 * source.numel() * source.element_size() / copy,
        source=f"{device.source}; kernel time, {values} rate, bandwidth measured here with PyTorch {torch.__version__}",
    )


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


def _once(model: Decoder, tokens_BT: torch.Tensor, device: str) -> tuple[float, float]:
    """Seconds of the prompt and of one decode step."""
    cache = Cache(model, len(tokens_BT), tokens_BT.shape[1] + DECODE_STEPS)
    start = _now(device)
    following = step(model, tokens_BT, cache).argmax(dim=-1, keepdim=True)
    filled = _now(device)
    for _ in range(DECODE_STEPS):
        following = step(model, following, cache).argmax(dim=-1, keepdim=True)
    return filled - start, (_now(device) - filled) / DECODE_STEPS


def _seconds(call: Callable[[], object], device: str, *, calls: int) -> float:
    """Least mean time of one call over `ROUNDS` rounds, after one that is not counted."""
    rounds = []
    for _ in range(ROUNDS + 1):
        start = _now(device)
        for _ in range(calls):
            call()
        rounds.append((_now(device) - start) / calls)
    return min(rounds[1:])


def _now(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter()
