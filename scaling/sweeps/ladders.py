"""Ladders: ordered lists of model shapes, from small to large.

A ladder is named (`LADDERS`), listed in the sweep, or made by a rule. The rule follows one design line: a width is a
multiple of `head_dim`, depth is about width / `width_per_layer`, the feed-forward is `ff_ratio` · width rounded up
to `multiple_of`; for each of `sizes` evenly spaced targets in log(parameters) it takes the (width, depth) that comes
nearest. The vocabulary is the tokenizer's and comes last, so one ladder serves every corpus.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from scaling.run import Shape
from scaling.spec import Block, Count, ListOf, Positive, did_you_mean, either, refuse

_DEPTH_BAND = (0.8, 1.25)  # depths the rule may take around width / width_per_layer; an assumption


@dataclass(frozen=True, slots=True)
class Rung:
    """One shape of a ladder, without a vocabulary."""

    name: str
    layers: int
    width: int
    heads: int
    ff_width: int
    kv_heads: int | None = None
    tied: Literal[True] | None = None

    def shape(self, vocab_size: int) -> Shape:
        """The shape with a vocabulary."""
        return Shape(self.layers, self.width, self.heads, self.ff_width, vocab_size, self.kv_heads, self.tied)


Ladder = tuple[Rung, ...]


class ShapeSpec(Block):
    """A shape as a sweep file writes it."""

    layers: Count
    """Transformer blocks."""
    width: Count
    """Width of the residual stream."""
    heads: Count
    """Attention heads; width / heads is even."""
    ff_width: Count
    """Width of the SwiGLU feed-forward."""
    kv_heads: Count | None = None
    """Key-value heads, a divisor of `heads`; off: as many as `heads`."""
    tied: bool = False
    """Embedding and output head share one matrix."""
    name: str | None = None
    """Name of the shape in cells and tables; off: made of width and layers, such as `d64L3`."""

    @model_validator(mode="after")
    def _heads_fit(self) -> ShapeSpec:
        if max(self.width, self.ff_width, self.layers) > 10**6:
            refuse("a shape that is too large", allowed="layers, width and ff_width up to 1M")
        if self.width % self.heads or (self.width // self.heads) % 2:
            fitting = ", ".join(str(n) for n in range(1, self.width // 2 + 1) if self.width % (2 * n) == 0)
            refuse(
                "width / heads must be an even whole number (RoPE turns pairs)",
                at="heads",
                allowed=f"{fitting} for width {self.width}" if fitting else "an even width",
            )
        if self.kv_heads is not None and self.heads % self.kv_heads:
            refuse("heads must be a multiple of kv_heads", at="kv_heads", allowed=f"a divisor of {self.heads}")
        return self

    def rung(self) -> Rung:
        """The rung of this shape, named by width and depth where the file gives no name."""
        kv_heads = None if self.kv_heads == self.heads else self.kv_heads
        name = self.name or f"d{self.width}L{self.layers}"
        return Rung(name, self.layers, self.width, self.heads, self.ff_width, kv_heads, True if self.tied else None)


class LadderRule(Block):
    """A ladder by rule: `sizes` shapes whose `params_non_embedding` are evenly spaced in log from params[0] to
    params[1].
    """

    params: ListOf[Positive]
    """[smallest, largest] `params_non_embedding` of the ladder."""
    sizes: Annotated[Count, Field(ge=2, le=1000)]
    """Shapes of the ladder, evenly spaced in log parameters."""
    head_dim: Annotated[Count, Field(le=1024)] = 64
    """Width of one attention head, even; every width is a multiple of it."""
    width_per_layer: Positive = 64.0
    """Width divided by depth; the default is that of the 60M shape of arXiv 2602.12429 (512 wide, 8 deep)."""
    ff_ratio: Positive = 8 / 3
    """Feed-forward width over width; 8/3 gives SwiGLU the parameters of a 4d feed-forward (arXiv 2002.05202, section
    2).
    """
    multiple_of: Count = 64
    """Feed-forward widths are rounded up to a multiple of this."""

    @model_validator(mode="after")
    def _range(self) -> LadderRule:
        if len(self.params) != 2 or self.params[0] >= self.params[1] or self.params[1] > 1e13:
            refuse("not a range of parameters", at="params", allowed="[smallest, largest], smallest < largest <= 1e13")
        if self.head_dim % 2:
            refuse("head_dim must be even (RoPE turns pairs)", at="head_dim")
        return self

    def ladder(self) -> Ladder:
        """The shapes, smallest first; each target takes the nearest free shape, at most half a step away."""
        free = set(self._candidates())
        low, high = (math.log(p) for p in self.params)
        step = (high - low) / (self.sizes - 1)
        chosen = []
        for target in (low + n * step for n in range(self.sizes)):
            nearest = min(free, key=lambda candidate: (abs(candidate[0] - target), candidate))
            if abs(nearest[0] - target) > step / 2:
                refuse(
                    f"too few shapes for {self.sizes} sizes: none near {math.exp(target):.3g} parameters",
                    hint="ask for fewer sizes, a wider range, or a smaller head_dim",
                )
            free.remove(nearest)
            chosen.append(nearest)
        return tuple(
            Rung(f"d{width}L{layers}", layers, width, width // self.head_dim, self._ff_width(width))
            for _size, layers, width in sorted(chosen)
        )

    def _ff_width(self, width: int) -> int:
        return self.multiple_of * math.ceil(self.ff_ratio * width / self.multiple_of)

    def _candidates(self) -> list[tuple[float, int, int]]:
        """(log params_non_embedding, layers, width) of every shape of the design line near the range."""
        shapes: list[tuple[float, int, int]] = []
        heads, smallest = 0, 0.0
        while smallest <= 2 * self.params[1] and heads < 4096:
            heads += 1
            width = heads * self.head_dim
            per_layer = 4 * width**2 + 3 * width * self._ff_width(width) + 2 * width
            depths = [max(1, round(share * width / self.width_per_layer)) for share in _DEPTH_BAND]
            smallest = per_layer * depths[0]
            for layers in range(depths[0], min(depths[1], depths[0] + 1000) + 1):
                shapes.append((math.log(per_layer * layers + width), layers, width))
        return shapes


class RuleLadder(Block):
    """``{rule: {...}}``."""

    rule: LadderRule
    """A ladder made by rule."""


def _named_ladder(value: Any) -> Ladder | None:
    """The ladder of a name, None for what is not a name."""
    if isinstance(value, str):
        if value not in LADDERS:
            refuse("unknown ladder", allowed=", ".join(LADDERS), hint=did_you_mean(value, list(LADDERS)))
        return LADDERS[value]
    if not isinstance(value, (list, dict)):
        refuse("not a ladder", allowed=f"one of {', '.join(LADDERS)}; a list of shapes; or {{rule: {{...}}}}")
    return None


def _rungs(spec: tuple[ShapeSpec, ...] | RuleLadder) -> Ladder:
    """The ladder of a list or a rule; equal names are told apart by a number."""
    if isinstance(spec, RuleLadder):
        return spec.rule.ladder()
    seen: dict[str, int] = {}
    unique = []
    for rung in (shape.rung() for shape in spec):
        seen[rung.name] = seen.get(rung.name, 0) + 1
        unique.append(rung if seen[rung.name] == 1 else replace(rung, name=f"{rung.name}-{seen[rung.name]}"))
    return tuple(unique)


_Written = Annotated[
    Annotated[ListOf[ShapeSpec], Tag("list")] | Annotated[RuleLadder, Tag("rule")],
    Discriminator(lambda value: "list" if isinstance(value, (list, tuple)) else "rule"),
    AfterValidator(_rungs),
]
LadderSpec = either(_named_ladder, _Written)  # a Ladder once it is read


def _tiny(width: int, layers: int, heads: int) -> Rung:
    return Rung(f"d{width}L{layers}", layers, width, heads, 8 * round(width / 3))


LADDERS: dict[str, Ladder] = {
    # Bytes on two cores, 0.5k to 3M parameters: measured 2026-11-21 for the quickstart.
    "tiny": (
        _tiny(8, 1, 1),
        _tiny(12, 1, 1),
        _tiny(16, 1, 1),
        _tiny(16, 2, 1),
        _tiny(20, 2, 1),
        _tiny(24, 2, 1),
        _tiny(32, 2, 1),
        _tiny(40, 2, 1),
        _tiny(48, 3, 2),
        _tiny(56, 3, 2),
        _tiny(64, 3, 2),
        _tiny(72, 4, 2),
        _tiny(80, 4, 2),
        _tiny(96, 5, 3),
        _tiny(112, 5, 4),
        _tiny(128, 6, 4),
        _tiny(160, 6, 5),
    ),
    # One GPU, 1M to 110M parameters: head_dim 64, depth growing by one per rung; ours, an assumption.
    "small": (
        Rung("d128L4", 4, 128, 2, 384),
        Rung("d192L5", 5, 192, 3, 512),
        Rung("d256L6", 6, 256, 4, 704),
        Rung("d320L7", 7, 320, 5, 896),
        Rung("d384L8", 8, 384, 6, 1024),
        Rung("d448L9", 9, 448, 7, 1216),
        Rung("d512L10", 10, 512, 8, 1408),
        Rung("d640L11", 11, 640, 10, 1728),
        Rung("d768L12", 12, 768, 12, 2048),
    ),
    # arXiv 2602.12429, the twelve shapes of its isoFLOP study.
    "spectron": (
        Rung("60M", 8, 512, 8, 1536),
        Rung("92M", 10, 640, 10, 1792),
        Rung("134M", 12, 768, 12, 2048),
        Rung("150M", 14, 768, 12, 2048),
        Rung("220M", 16, 896, 14, 2560),
        Rung("325M", 20, 1024, 16, 2816),
        Rung("500M", 20, 1280, 20, 3584),
        Rung("780M", 24, 1536, 24, 4096),
        Rung("835M", 26, 1536, 24, 4096),
        Rung("1.4B", 24, 2048, 16, 5632),
        Rung("1.7B", 30, 2048, 16, 5632),
        Rung("2.7B", 32, 2560, 20, 6912),
    ),
    # Depth, width and heads of GPT-2 (Radford et al. 2019, table 2; heads as released) with a SwiGLU of 8/3 width,
    # up to a multiple of 64.
    "gpt2": (
        Rung("117M", 12, 768, 12, 2048),
        Rung("345M", 24, 1024, 16, 2752),
        Rung("762M", 36, 1280, 20, 3456),
        Rung("1542M", 48, 1600, 25, 4288),
    ),
    # arXiv 2302.13971, table 2; feed-forward widths as released.
    "llama": (
        Rung("7B", 32, 4096, 32, 11008),
        Rung("13B", 40, 5120, 40, 13824),
        Rung("33B", 60, 6656, 52, 17920),
        Rung("65B", 80, 8192, 64, 22016),
    ),
}
