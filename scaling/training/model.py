"""The decoder: a Llama-style transformer whose hidden matrices are dense or structured.

RMSNorm, SwiGLU, rotary positions (θ = 10⁴, the half-split layout of Llama), causal attention with as many or fewer
key-value heads, separate or tied output head, no biases. Every matrix of `Shape.matrices()` has the structure that
`parameterizations.structures` says; embedding, head and norms are always dense. The initial dense matrices depend on
the shape and the seed only, so all structures of one seed start from the same model (up to what they can hold).

The stream is a matrix of N = B·T rows, so that every map is one product without a view on either side: the same
numbers, and a step of a tiny model on a CPU is up to 11 % shorter (2026-11-22).

Shape suffixes: B batch, T position, N all positions of a batch, D width, H heads, K key-value heads, C channels of one
head, V vocabulary.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scaling.errors import TrainingError
from scaling.parameterizations import DENSE, Ranks, structures
from scaling.run import Initialisation, Shape
from scaling.training.cross_entropy import cross_entropies, mean_cross_entropy
from scaling.training.linear import Linear

ROPE_THETA = 1e4  # Su et al. 2104.09864; the paper's runs
NORM_EPS = 1e-5  # Llama


class Norm(nn.Module):
    """x / rms(x) · weight over the last axis."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x (..., width) -> the same shape."""
        return F.rms_norm(x, self.weight.shape, self.weight, NORM_EPS)


def rotary(sequence_length: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """cos and signed sin (T, 1, C): `rotate` turns channel pairs (c, c + C/2) of position t by t·θ^(−2c/C)."""
    frequency = ROPE_THETA ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angle = torch.outer(torch.arange(sequence_length, dtype=torch.float64), frequency)
    cos = torch.cat((angle.cos(), angle.cos()), dim=1)
    sin = torch.cat((-angle.sin(), angle.sin()), dim=1)
    return cos.float()[:, None], sin.float()[:, None]


def rotate(x_BTHC: Tensor, cos_T1C: Tensor, sin_T1C: Tensor) -> Tensor:
    """Queries or keys turned by their positions; `roll` by half the channels swaps the pairs."""
    swapped = x_BTHC.roll(x_BTHC.shape[-1] // 2, dims=-1)
    return torch.addcmul(x_BTHC * cos_T1C, swapped, sin_T1C).to(x_BTHC.dtype)


class DecoderBlock(nn.Module):
    """Attention and feed-forward, each on a normalised input, each added to the stream."""

    q: Linear
    k: Linear
    v: Linear
    o: Linear
    gate: Linear
    up: Linear
    down: Linear

    def __init__(self, shape: Shape, ranks: Ranks, *, guided: bool) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = shape.heads, shape.kv_heads or shape.heads, shape.head_dim
        self.attention_norm = Norm(shape.width)
        self.feed_forward_norm = Norm(shape.width)
        sizes = shape.matrices()
        for name, structure in structures(shape, ranks, guided=guided).items():
            self.add_module(name, Linear(structure, *sizes[name]))

    def forward(self, x_ND: Tensor, cos_T1C: Tensor, sin_T1C: Tensor) -> Tensor:
        """The stream after this block, (N, D)."""
        x_ND = x_ND + self.attention(self.attention_norm(x_ND), cos_T1C, sin_T1C)
        y_ND = self.feed_forward_norm(x_ND)
        y_ND = self.down(F.silu(self.gate(y_ND)) * self.up(y_ND))
        return torch.add(x_ND, y_ND)

    def attention(self, x_ND: Tensor, cos_T1C: Tensor, sin_T1C: Tensor) -> Tensor:
        """What each position reads from itself and the positions before it, (N, D)."""
        length = cos_T1C.shape[0]
        batch = x_ND.shape[0] // length
        q_BTHC = rotate(self.q(x_ND).view(batch, length, self.heads, self.head_dim), cos_T1C, sin_T1C)
        k_BTKC = rotate(self.k(x_ND).view(batch, length, self.kv_heads, self.head_dim), cos_T1C, sin_T1C)
        v_BTKC = self.v(x_ND).view(batch, length, self.kv_heads, self.head_dim)
        y_BHTC = F.scaled_dot_product_attention(
            q_BTHC.transpose(1, 2),
            k_BTKC.transpose(1, 2),
            v_BTKC.transpose(1, 2),
            is_causal=True,
            enable_gqa=self.kv_heads != self.heads,
        )
        y_ND: Tensor = self.o(y_BHTC.transpose(1, 2).reshape(batch * length, -1))
        return y_ND


class Decoder(nn.Module):
    """Tokens to next-token logits.

    Args:
        shape: depth, width, heads, vocabulary.
        ranks: the options of the structure of every hidden matrix; None for a dense model.
        sequence_length: the longest input, in tokens.
        guided: give every structure that takes one a dense helper (self-guided training).

    Raises:
        TrainingError: the heads do not divide the width into even parts, the key-value heads do not divide the heads,
            or a rank is impossible.
    """

    def __init__(self, shape: Shape, ranks: Ranks, *, sequence_length: int, guided: bool = False) -> None:
        super().__init__()
        check_shape(shape)
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.width, _weight=torch.empty(shape.vocab_size, shape.width))
        self.layers = nn.ModuleList(DecoderBlock(shape, ranks, guided=guided) for _ in range(shape.layers))
        self.norm = Norm(shape.width)
        self.head = None if shape.tied else Linear(DENSE, shape.vocab_size, shape.width)
        cos_T1C, sin_T1C = rotary(sequence_length, shape.head_dim)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", cos_T1C, persistent=False)
        self.register_buffer("sin", sin_T1C, persistent=False)

    def forward(
        self, tokens_BT: Tensor, targets_BT: Tensor | None = None, *, reduction: Literal["mean", "none"] = "mean"
    ) -> Tensor:
        """Logits (B, T, V) of the token that follows each position; with targets their negative log likelihood, nats:
        its mean, or (B, T) of every target. The loss is part of the module so that its logits may be done in chunks.
        """
        length = tokens_BT.shape[1]
        cos_T1C, sin_T1C = self.cos[:length], self.sin[:length]
        x_ND: Tensor = self.embedding(tokens_BT.flatten())
        for block in self.layers:
            x_ND = block(x_ND, cos_T1C, sin_T1C)
        if targets_BT is None:
            return F.linear(self.norm(x_ND), self.output_weight).view(*tokens_BT.shape, -1)
        return self.losses(x_ND, targets_BT, reduction)

    def losses(self, x_ND: Tensor, targets_BT: Tensor, reduction: Literal["mean", "none"]) -> Tensor:
        """Last norm, output head and negative log likelihood of the stream after the last block."""
        x_ND = self.norm(x_ND)
        if reduction == "mean":
            return mean_cross_entropy(x_ND, self.output_weight, targets_BT.flatten())
        return cross_entropies(x_ND, self.output_weight, targets_BT.flatten()).view_as(targets_BT)

    @property
    def output_weight(self) -> Tensor:
        """The matrix (V, D) of the output head: the embedding's where they are tied."""
        return self.embedding.weight if self.head is None else self.head.tensors["weight"]

    def hidden(self) -> dict[str, Linear]:
        """The maps of attention and feed-forward, as `layers.<i>.<name>`, in the order their matrices are drawn."""
        layers: dict[str, Linear] = {}
        for i, block in enumerate(self.layers):
            layers |= {f"layers.{i}.{name}": getattr(block, name) for name in self.shape.matrices()}
        return layers

    def set_guide(self, share: Tensor | None) -> None:
        """Let every dense helper weigh `share` (a number on the device); None turns the helpers off."""
        for layer in self.hidden().values():
            layer.guide = share


def check_shape(shape: Shape) -> None:
    """Raise TrainingError for a shape that no decoder can have."""
    if shape.width % shape.heads or shape.head_dim % 2:
        raise TrainingError(
            "The heads must divide the width into even parts.",
            where="shape.heads",
            got=f"width {shape.width}, heads {shape.heads}",
            allowed="width / heads a whole even number",
        )
    if shape.heads % (shape.kv_heads or shape.heads):
        raise TrainingError(
            "The key-value heads must divide the heads.", where="shape.kv_heads", got=shape.kv_heads,
            allowed=f"a divisor of {shape.heads}",
        )  # fmt: skip


@torch.no_grad()
def initialise(model: Decoder, init: Initialisation, *, seed: int) -> None:
    """Draw every weight from `seed`: embedding, then the hidden matrices in order, then the head; norms are one.

    Drawn on the CPU, whatever device the model is on, so that devices agree. A structure that draws numbers of its own
    has a stream of its own, so that the shared one never shifts.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(outputs: int, inputs: int, std: float) -> Tensor:
        return torch.randn(outputs, inputs, generator=generator) * std

    shape = model.shape
    embedding = model.embedding.weight
    embedding.copy_(normal(shape.vocab_size, shape.width, init.embedding_std))
    sizes = [size for _ in range(shape.layers) for size in shape.matrices().values()]
    for (name, layer), (outputs, inputs) in zip(model.hidden().items(), sizes, strict=True):
        w_OI = normal(outputs, inputs, init.hidden_gain * inputs**-0.5).to(embedding.device)
        layer.set_dense(w_OI, own_stream(name, seed=seed))
    if model.head is not None:
        model.output_weight.copy_(normal(shape.vocab_size, shape.width, init.head_std))


def own_stream(layer: str, *, seed: int) -> torch.Generator:
    """The random numbers of one layer: a function of its name and the seed."""
    digest = hashlib.sha256(f"{seed}/{layer}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def token_losses(model: nn.Module, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """Negative log likelihood of every target, nats, (B, T)."""
    losses: Tensor = model(inputs_BT, targets_BT, reduction="none")
    return losses


def mean_loss(model: nn.Module, inputs_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """Mean negative log likelihood of the targets, nats per token."""
    loss: Tensor = model(inputs_BT, targets_BT)
    return loss
