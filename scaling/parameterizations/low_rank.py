"""A product of two thin factors: y = A (B x), A (out × r), B (r × in).

r·(out + in) parameters and 2·r·(out + in) FLOPs per token instead of 2·out·in. The factors start as the truncated
singular value decomposition of the dense initialisation, W = U S Vᵀ, with the spectrum split evenly: A = U √S,
B = √S Vᵀ (Janson et al. 2602.12429).

Self-guided training (Wei et al. 2406.16450) adds a dense helper that fades: y = g·W x + (1 − g)·A (B x), g from 1 to 0.

Shape suffixes: O out, I in, R rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from scaling.parameterizations.interface import HELPER, Matrix, Parameterization, Product, Stepped, TensorSpec

if TYPE_CHECKING:
    from torch import Generator, Tensor


@dataclass(frozen=True, slots=True)
class LowRank(Parameterization):
    """Tensors: `a` (out × rank), `b` (rank × in), and, when guided, `helper` (out × in).

    Attributes:
        rank: 1 to min(out, in).
        guided: whether a dense helper takes part in the training.
    """

    rank: int
    guided: bool = False

    name: ClassVar[str] = "low_rank"
    structured: ClassVar[bool] = True
    keys: ClassVar[Mapping[str, bool]] = {"rank_ratio": True, "rank_of": False, "self_guided": False}

    def tensors(self, outputs: int, inputs: int) -> tuple[TensorSpec, ...]:
        """Both factors, and the helper."""
        factors = TensorSpec("a", (outputs, self.rank)), TensorSpec("b", (self.rank, inputs))
        return (*factors, TensorSpec(HELPER, (outputs, inputs), "helper")) if self.guided else factors

    def products(self, outputs: int, inputs: int) -> tuple[Product, ...]:
        """B first, then A."""
        return Product("b", self.rank, inputs), Product("a", outputs, self.rank)

    def saved(self, outputs: int, inputs: int) -> int:
        """What lies between the factors."""
        return self.rank

    def matrices(self, outputs: int, inputs: int) -> tuple[Stepped, ...]:
        """The factors, as a pair."""
        return (Stepped("pair", (Matrix("a", outputs, self.rank), Matrix("b", self.rank, inputs))),)

    def problem(self, outputs: int, inputs: int) -> str | None:
        """The ranks that are possible."""
        most = min(outputs, inputs)
        return None if 1 <= self.rank <= most else f"1 to {most}"

    def apply(self, tensors: Mapping[str, Tensor], x: Tensor, *, guide: Tensor | None = None) -> Tensor:
        """x Bᵀ Aᵀ, mixed with the helper where it is on."""
        y = (x @ tensors["b"].mT) @ tensors["a"].mT
        if guide is None or HELPER not in tensors:
            return y
        return y.lerp(x @ tensors[HELPER].mT, guide.to(y.dtype))

    def transpose_apply(self, tensors: Mapping[str, Tensor], y: Tensor) -> Tensor:
        """y A B."""
        return (y @ tensors["a"]) @ tensors["b"]

    def start(self, w_OI: Tensor, generator: Generator) -> dict[str, Tensor]:
        """The split of the dense initialisation; a helper starts from the initialisation itself."""
        a_OR, b_RI = split(w_OI, self.rank)
        return {"a": a_OR, "b": b_RI} | ({HELPER: w_OI} if self.guided else {})

    def merged(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """A·B."""
        return tensors["a"] @ tensors["b"]


def split(w_OI: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors A (out × rank), B (rank × in) of the best rank-`rank` approximation of `w_OI`, with equal spectra.

    The decomposition is done in float64 on CPUs, in float32 elsewhere.
    """
    import torch

    assert 1 <= rank <= min(w_OI.shape), (rank, w_OI.shape)
    precise = w_OI.double() if w_OI.device.type == "cpu" else w_OI.float()
    u_OK, s_K, vh_KI = torch.linalg.svd(precise, full_matrices=False)
    root_R = s_K[:rank].sqrt()
    return (u_OK[:, :rank] * root_R).to(w_OI.dtype), (root_R[:, None] * vh_KI[:rank]).to(w_OI.dtype)
