"""The price of serving one model on one device, kernel by kernel.

A step is a list of kernels, and each takes t_launch + max(FLOPs / rate, bytes / bandwidth): the time to start and end,
in which the memory is idle, then a roofline (Williams et al. 2009). At the best rates of each, this meets decode steps
on an H100 within 7 %, and a floor max(t_launch, …) within 21 % (results/benchmarks/serving.md).

A dense layer launches seven matrix products; a low-rank one fourteen thinner ones with rank-r intermediates between
them; the same model merged (W = A·B) launches seven again, and multiplies by all of W. So low rank saves FLOPs and
weight bytes, pays in launches, and leaves the keys and values as they are.

Rates are shares of the data sheet: those that `scaling doctor --calibrate` measured on the device, else `TYPICAL` ones,
and then every time comes with a range, between `FAST` and `SLOW`.

Assumptions, the same for every form: no fusion of matrix products; norms, rotary positions, SwiGLU and residual
additions are one kernel each; attention reads every cached key and value once; the output head sees only the last
position of a prompt. `int8` weights are one byte in every matrix that a token is multiplied by (their scales, one a
row, are not counted); arithmetic, cache, embedding and norms stay in bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from scaling.errors import PlanError
from scaling.hardware import Device, Rates
from scaling.parameterizations import DENSE, Product, Ranks, parameterization_of, structures
from scaling.run import Shape
from scaling.sweeps.counting import count, kv_bytes_per_token

Form = Literal["dense", "factorized", "merged"]
VALUE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
WEIGHT_BYTES = {**VALUE_BYTES, "int8": 1}


# Llama-2 7B and 13B on one A100 or H100 by TensorRT-LLM, LMDeploy and gpt-fast: 28 published times, all within 25 % of
# TYPICAL and between FAST and SLOW (benchmarks/serving_latency.py), as are our own on an H100 (benchmarks/gpu.py).
TYPICAL = Rates(arithmetic=0.5, bandwidth=0.725, launch_seconds=4e-6)
FAST = Rates(arithmetic=0.65, bandwidth=0.9, launch_seconds=2.5e-6)
SLOW = Rates(arithmetic=0.35, bandwidth=0.6, launch_seconds=6e-6)


@dataclass(frozen=True)
class Setting:
    """Where and how a model is served: `batch` sequences at once, each with up to `context` tokens in the cache.

    Args:
        prompt: tokens of each sequence that fill the cache at once; the rest of `context` is decoded one by one. None:
            prompts of `context` tokens, and decoding at that length.
        precision: of the weights; `int8` computes in bfloat16. None: bfloat16 where the device has a rate for it.
    """

    device: Device
    batch: int = 1
    context: int = 2048
    precision: str | None = None
    prompt: int | None = None

    def __post_init__(self) -> None:
        if self.batch < 1 or self.context < 1 or self.values not in WEIGHT_BYTES or not self._holds_prompt:
            prompt = "" if self.prompt is None else f", prompt {self.prompt}"
            raise PlanError(
                "not a way to serve a model",
                where="analysis.serving",
                got=f"batch {self.batch}, context {self.context}{prompt}, precision {self.values}",
                allowed=f"batch and context from 1; a prompt below the context; precision {', '.join(WEIGHT_BYTES)}",
            )
        self.device.peak(self.arithmetic)

    @property
    def _holds_prompt(self) -> bool:
        return self.prompt is None or 1 <= self.prompt < self.context

    @property
    def values(self) -> str:
        """The precision of the weights."""
        return self.precision or ("bfloat16" if "bfloat16" in self.device.peak_flops else "float32")

    @property
    def arithmetic(self) -> str:
        """The precision of arithmetic, cache, embedding and norms."""
        return "bfloat16" if self.values == "int8" else self.values

    @property
    def value_bytes(self) -> int:
        """Bytes of one number of the cache and between kernels."""
        return VALUE_BYTES[self.arithmetic]

    @property
    def weight_bytes(self) -> int:
        """Bytes of one number of a matrix."""
        return WEIGHT_BYTES[self.values]

    @property
    def prompt_tokens(self) -> int:
        """Tokens of each sequence that fill the cache at once."""
        return self.context if self.prompt is None else self.prompt

    @property
    def decoded_at(self) -> float:
        """Tokens in the cache while decoding, on average."""
        return float(self.context) if self.prompt is None else (self.prompt + self.context) / 2

    @property
    def calibrated(self) -> bool:
        """Whether the device was measured; where not, times have a range."""
        return self.arithmetic in self.device.serving

    @property
    def rates(self) -> Rates:
        """Those measured, or the typical ones."""
        return self.device.serving.get(self.arithmetic, TYPICAL)


@dataclass(frozen=True)
class Kernel:
    """`launches` equal kernels: FLOPs and bytes of each."""

    name: str
    flops: float
    bytes: float
    launches: int

    def seconds(self, setting: Setting, rates: Rates | None = None) -> float:
        """Time of all launches, at the setting's own rates or at others."""
        device, reached = setting.device, rates or setting.rates
        compute = self.flops / (reached.arithmetic * device.peak(setting.arithmetic))
        memory = self.bytes / (reached.bandwidth * device.bandwidth_bytes_per_second)
        return self.launches * (reached.launch_seconds + max(compute, memory))


@dataclass(frozen=True)
class ServingCost:
    """The price of serving one model in one form; bytes and seconds are of the whole batch where not said otherwise.

    Args:
        form, device, precision, batch, context: how it is served.
        params: numbers in the weights.
        weight_bytes: of all weights.
        kv_bytes_per_token: keys and values of one token of one sequence.
        kv_bytes: keys and values of the whole batch.
        step_bytes: what a decode step reads and writes.
        kv_share: `kv_bytes` over `step_bytes`.
        decode_flops_per_token, prefill_flops_per_token: arithmetic of one token.
        decode_seconds: one step, one new token for every sequence.
        decode_tokens_per_second: of all sequences together.
        prefill_seconds: one prompt for every sequence.
        decode_seconds_low, decode_seconds_high, and of prefill: between fast and slow serving where the device is not
            calibrated; the same number where it is.
        kernels: launches of a decode step.
        fits: whether weights and cache are within the device's memory.
        calibrated: whether the device was measured.
    """

    form: Form
    device: str
    precision: str
    batch: int
    context: int
    params: int
    weight_bytes: int
    kv_bytes_per_token: float
    kv_bytes: float
    step_bytes: float
    kv_share: float
    decode_flops_per_token: float
    prefill_flops_per_token: float
    decode_seconds: float
    decode_tokens_per_second: float
    prefill_seconds: float
    decode_seconds_low: float
    decode_seconds_high: float
    prefill_seconds_low: float
    prefill_seconds_high: float
    kernels: int
    fits: bool
    calibrated: bool


def forms(ranks: Ranks) -> tuple[Form, ...]:
    """The ways to serve a model: a factorized one can be merged first."""
    structure = parameterization_of(ranks)
    if not structure.structured:
        return ("dense",)
    return ("factorized", "merged") if structure.mergeable else ("factorized",)


def step_kernels(shape: Shape, ranks: Ranks, setting: Setting, *, new_tokens: int, seen: float) -> Iterator[Kernel]:
    """The kernels of one forward pass over `new_tokens` tokens of each of the batch's sequences.

    Args:
        shape, ranks: the model as served; `ranks` None where dense or merged.
        setting: batch, context and precision.
        new_tokens: 1 when decoding, the whole prompt when filling the cache.
        seen: keys that a new token attends to, on average.
    """
    rows, layers, d = setting.batch * new_tokens, shape.layers, shape.width
    b = setting.value_bytes
    yield Kernel("embedding", 0, 2 * rows * d * b, 1)
    sizes = shape.matrices()
    for name, structure in structures(shape, ranks).items():
        for product in structure.products(*sizes[name]):
            yield _product(f"{name}.{product.name}", product, rows, setting, layers)
    cached = setting.batch * max(seen, new_tokens) * 2 * shape.kv_width
    yield Kernel("attention", 4 * rows * d * seen, (cached + 2 * rows * d) * b, layers)
    yield Kernel("norm", 0, 2 * rows * d * b, 2 * layers + 1)
    yield Kernel("rotary", 0, 2 * rows * (d + shape.kv_width) * b, layers)
    yield Kernel("swiglu", 0, 3 * rows * shape.ff_width * b, layers)
    yield Kernel("residual", 0, 3 * rows * d * b, 2 * layers)
    (head,) = DENSE.products(shape.vocab_size, d)
    yield _product("head", head, setting.batch, setting, 1)


def decode_kernels(shape: Shape, ranks: Ranks, setting: Setting) -> list[Kernel]:
    """One new token for each sequence of the batch, with the average number of tokens in each cache."""
    return list(step_kernels(shape, ranks, setting, new_tokens=1, seen=setting.decoded_at))


def prefill_kernels(shape: Shape, ranks: Ranks, setting: Setting) -> list[Kernel]:
    """A prompt for each sequence of the batch; causal attention sees half of it on average."""
    length = setting.prompt_tokens
    return list(step_kernels(shape, ranks, setting, new_tokens=length, seen=length / 2))


def cost(shape: Shape, ranks: Ranks, setting: Setting, form: Form | None = None) -> ServingCost:
    """The price of serving one model.

    Args:
        shape, ranks: the model as trained.
        form: ``merged`` multiplies the factors of a low-rank model first; None is the form it was trained in.
    """
    form = form or forms(ranks)[0]
    assert form in forms(ranks), (form, ranks)
    served = ranks if form == "factorized" else None
    decode, prefill = decode_kernels(shape, served, setting), prefill_kernels(shape, served, setting)
    decode_seconds, counts = _seconds(decode, setting), count(shape, served)
    others = counts.params_total - counts.params_matmul
    fast, slow = (None, None) if setting.calibrated else (FAST, SLOW)
    weight_bytes = counts.params_matmul * setting.weight_bytes + others * setting.value_bytes
    kv_token = kv_bytes_per_token(shape, setting.value_bytes)
    kv_bytes = kv_token * setting.batch * setting.context
    step_bytes = sum(k.bytes * k.launches for k in decode)
    return ServingCost(
        form=form,
        device=setting.device.name,
        precision=setting.values,
        batch=setting.batch,
        context=setting.context,
        params=counts.params_total,
        weight_bytes=weight_bytes,
        kv_bytes_per_token=kv_token,
        kv_bytes=kv_bytes,
        step_bytes=step_bytes,
        kv_share=kv_bytes / step_bytes,
        decode_flops_per_token=sum(k.flops * k.launches for k in decode) / setting.batch,
        prefill_flops_per_token=sum(k.flops * k.launches for k in prefill) / (setting.batch * setting.prompt_tokens),
        decode_seconds=decode_seconds,
        decode_tokens_per_second=setting.batch / decode_seconds,
        prefill_seconds=_seconds(prefill, setting),
        decode_seconds_low=_seconds(decode, setting, fast),
        decode_seconds_high=_seconds(decode, setting, slow),
        prefill_seconds_low=_seconds(prefill, setting, fast),
        prefill_seconds_high=_seconds(prefill, setting, slow),
        kernels=sum(k.launches for k in decode),
        fits=weight_bytes + kv_bytes <= setting.device.memory_bytes,
        calibrated=setting.calibrated,
    )


def _product(name: str, product: Product, rows: int, setting: Setting, launches: int) -> Kernel:
    """x (rows × in) times W (out × in) transposed: everything is read or written once."""
    values = rows * product.blocks * (product.outputs + product.inputs)
    moved = product.weights * setting.weight_bytes + values * setting.value_bytes
    return Kernel(name, 2 * rows * product.weights, moved, launches)


def _seconds(kernels: list[Kernel], setting: Setting, rates: Rates | None = None) -> float:
    return sum(kernel.seconds(setting, rates) for kernel in kernels)
