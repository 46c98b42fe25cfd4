"""The price of serving one model on one device, kernel by kernel.

A step is a list of kernels, and each takes max(FLOPs / rate, bytes / bandwidth, t_min): it is bound by arithmetic, by
memory, or by its launch (a roofline, Williams et al. 2009, with a floor per launch). A dense layer launches seven
matrix products; a low-rank one fourteen thinner ones with rank-r intermediates between them; the same model merged
(W = A·B) launches seven again, and multiplies by all of W. So low rank saves FLOPs and weight bytes, pays in
launches, and leaves the keys and values as they are.

Assumptions, the same for every form: no fusion of matrix products; norms, rotary positions, SwiGLU and residual
additions are one kernel each; attention reads every cached key and value once; the output head sees only the last
position of a prompt. A device without a calibrated t_min is priced with zero and its rows say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from scaling.errors import PlanError
from scaling.hardware import Device
from scaling.parameterizations import DENSE, Product, Ranks, parameterization_of, structures
from scaling.run import Shape
from scaling.sweeps.counting import count, kv_bytes_per_token

Form = Literal["dense", "factorized", "merged"]
VALUE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Setting:
    """Where and how a model is served: `batch` sequences at once, each with `context` tokens in the cache."""

    device: Device
    batch: int = 1
    context: int = 2048
    precision: str | None = None  # None: bfloat16 where the device has a rate for it, else float32

    def __post_init__(self) -> None:
        if self.batch < 1 or self.context < 1 or self.values not in VALUE_BYTES:
            raise PlanError(
                "not a way to serve a model",
                where="analysis.serving",
                got=f"batch {self.batch}, context {self.context}, precision {self.values}",
                allowed=f"batch and context from 1; precision one of {', '.join(VALUE_BYTES)}",
            )
        self.device.peak(self.values)

    @property
    def values(self) -> str:
        """The precision of weights, cache and arithmetic."""
        return self.precision or ("bfloat16" if "bfloat16" in self.device.peak_flops else "float32")

    @property
    def value_bytes(self) -> int:
        """Bytes of one number."""
        return VALUE_BYTES[self.values]

    @property
    def calibrated(self) -> bool:
        """Whether the time of a kernel launch was measured; where not, launches are free."""
        return self.device.kernel_seconds is not None


@dataclass(frozen=True)
class Kernel:
    """`launches` equal kernels: FLOPs and bytes of each."""

    name: str
    flops: float
    bytes: float
    launches: int

    def seconds(self, setting: Setting) -> float:
        """Time of all launches."""
        device = setting.device
        compute = self.flops / device.peak(setting.values)
        memory = self.bytes / device.bandwidth_bytes_per_second
        return self.launches * max(compute, memory, device.kernel_seconds or 0.0)


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
        prefill_seconds: one prompt of `context` tokens for every sequence.
        kernels: launches of a decode step.
        fits: whether weights and cache are within the device's memory.
        calibrated: whether the time of a launch was measured.
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
            yield _product(f"{name}.{product.name}", product, rows, b, layers)
    cached = setting.batch * max(seen, new_tokens) * 2 * shape.kv_width
    yield Kernel("attention", 4 * rows * d * seen, (cached + 2 * rows * d) * b, layers)
    yield Kernel("norm", 0, 2 * rows * d * b, 2 * layers + 1)
    yield Kernel("rotary", 0, 2 * rows * (d + shape.kv_width) * b, layers)
    yield Kernel("swiglu", 0, 3 * rows * shape.ff_width * b, layers)
    yield Kernel("residual", 0, 3 * rows * d * b, 2 * layers)
    (head,) = DENSE.products(shape.vocab_size, d)
    yield _product("head", head, setting.batch, b, 1)


def decode_kernels(shape: Shape, ranks: Ranks, setting: Setting) -> list[Kernel]:
    """One new token for each sequence of the batch, with `context` tokens in each cache."""
    return list(step_kernels(shape, ranks, setting, new_tokens=1, seen=setting.context))


def prefill_kernels(shape: Shape, ranks: Ranks, setting: Setting) -> list[Kernel]:
    """A prompt of `context` tokens for each sequence of the batch; causal attention sees half of it on average."""
    return list(step_kernels(shape, ranks, setting, new_tokens=setting.context, seen=setting.context / 2))


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
    decode_seconds, prefill_seconds = (sum(k.seconds(setting) for k in ks) for ks in (decode, prefill))
    params = count(shape, served).params_total
    weight_bytes = params * setting.value_bytes
    kv_token = kv_bytes_per_token(shape, setting.value_bytes)
    kv_bytes = kv_token * setting.batch * setting.context
    step_bytes = sum(k.bytes * k.launches for k in decode)
    return ServingCost(
        form=form,
        device=setting.device.name,
        precision=setting.values,
        batch=setting.batch,
        context=setting.context,
        params=params,
        weight_bytes=weight_bytes,
        kv_bytes_per_token=kv_token,
        kv_bytes=kv_bytes,
        step_bytes=step_bytes,
        kv_share=kv_bytes / step_bytes,
        decode_flops_per_token=sum(k.flops * k.launches for k in decode) / setting.batch,
        prefill_flops_per_token=sum(k.flops * k.launches for k in prefill) / (setting.batch * setting.context),
        decode_seconds=decode_seconds,
        decode_tokens_per_second=setting.batch / decode_seconds,
        prefill_seconds=prefill_seconds,
        kernels=sum(k.launches for k in decode),
        fits=weight_bytes + kv_bytes <= setting.device.memory_bytes,
        calibrated=setting.calibrated,
    )


def _product(name: str, product: Product, rows: int, value_bytes: int, launches: int) -> Kernel:
    """x (rows × in) times W (out × in) transposed: everything is read or written once."""
    moved = product.weights + rows * product.blocks * (product.outputs + product.inputs)
    return Kernel(name, 2 * rows * product.weights, moved * value_bytes, launches)
