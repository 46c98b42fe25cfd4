"""Published laws, with what they were measured on: to draw beside ours, and to predict from.

A law carries its conventions: exponents fitted to non-embedding parameters are not exponents of total parameters, and
a loss in nats per token of one tokenizer is not a loss of another. Loss curves may be drawn beside ours only on the
same corpus; exponents may be compared with the convention said. Where a paper gives only exponents and one table row,
the law is *anchored* at that row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from scaling.check import Check
from scaling.errors import FitError
from scaling.laws.forms import form_named
from scaling.laws.points import FLOPS_PER_PARAM_TOKEN

PF_DAY = 1e15 * 86400.0  # FLOPs, Kaplan et al. 2001.08361


@dataclass(frozen=True)
class PowerLaw:
    """coefficient · C^exponent, C in FLOPs."""

    coefficient: float
    exponent: float

    def at(self, compute: float) -> float:
        """The value at `compute` FLOPs."""
        return float(self.coefficient * compute**self.exponent)


@dataclass(frozen=True)
class Published:
    """One law of the literature.

    Attributes:
        name: how it is asked for.
        source: paper and place.
        law: the form of the loss, None where only optima were published; `parameters` in its reported names.
        optimum: power laws of compute-optimal N and D, where they were published (or follow); empty for exponents
            alone.
        exponents: of N and D in C.
        params_column: which N.
        tokenizer, corpus: what the loss is measured on.
        compute_range, params_range: where it was fitted; outside it is an extrapolation.
        anchored: the prefactors come from one published row, not from the fit.
        note: what a user must know.
    """

    name: str
    source: str
    exponents: Mapping[str, float]
    params_column: str
    tokenizer: str
    corpus: str
    law: str | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    optimum: Mapping[str, PowerLaw] = field(default_factory=dict)
    compute_range: tuple[float, float] | None = None
    params_range: tuple[float, float] | None = None
    anchored: bool = False
    note: str = ""

    def loss(self, params: float, tokens: float) -> float:
        """Loss in nats per token at (N, D).

        Raises:
            FitError: only exponents or optima were published.
        """
        if self.law is None:
            raise FitError(
                f"{self.name} is published without a loss", allowed="a law with parameters; see `scaling laws`"
            )
        return float(form_named(self.law).loss(self.parameters, np.asarray(params, float), np.asarray(tokens, float)))

    def predict(self, compute: float) -> dict[str, float | None]:
        """Compute-optimal N, D and loss at `compute` FLOPs under C = 6·N·D; None for what was not published.

        Raises:
            FitError: only exponents were published, or compute is not positive.
        """
        if not (math.isfinite(compute) and compute > 0):
            raise FitError("compute is a positive number of FLOPs", got=compute)
        if self.optimum:
            params, tokens = self.optimum["N"].at(compute), self.optimum["D"].at(compute)
        elif self.law == "chinchilla":
            params, tokens = _chinchilla_optimum(self.parameters, compute)
        else:
            raise FitError(
                f"{self.name} is published as exponents alone",
                got=", ".join(f"{k} ∝ C^{v:g}" for k, v in self.exponents.items()),
                allowed="a law with prefactors; see `scaling laws`",
            )
        return {"N": params, "D": tokens, "loss": self.loss(params, tokens) if self.law else None}

    def checks(self, compute: float) -> tuple[Check, ...]:
        """`extrapolation` outside the published range, `anchored_law` for borrowed prefactors."""
        found = []
        if self.compute_range is not None:
            beyond = math.log10(compute / self.compute_range[1]) if compute > 0 else 0.0
            if beyond > 0 or compute < self.compute_range[0]:
                low, high = self.compute_range
                message = f"{compute:.1e} FLOPs lies outside {low:.0e} to {high:.0e}, where {self.name} was fitted"
                found.append(Check("extrapolation", "warning" if beyond > 2 else "info", message))
        if self.anchored:
            message = (
                f"{self.name} was published as exponents; its prefactors are anchored at one row of the paper's table"
            )
            found.append(Check("anchored_law", "info", message))
        return tuple(found)

    def to_json(self) -> dict[str, object]:
        """One row of `scaling laws --json`."""
        return {
            "name": self.name,
            "source": self.source,
            "law": self.law,
            "parameters": dict(self.parameters),
            "exponents": dict(self.exponents),
            "optimum": {k: {"coefficient": v.coefficient, "exponent": v.exponent} for k, v in self.optimum.items()},
            "params_column": self.params_column,
            "tokenizer": self.tokenizer,
            "corpus": self.corpus,
            "compute_range": list(self.compute_range) if self.compute_range else None,
            "params_range": list(self.params_range) if self.params_range else None,
            "anchored": self.anchored,
            "note": self.note,
        }


def _chinchilla_optimum(p: Mapping[str, float], compute: float) -> tuple[float, float]:
    """Hoffmann et al., eq. (4)."""
    alpha, beta = p["alpha"], p["beta"]
    ratio = (alpha * p["A"] / (beta * p["B"])) ** (1.0 / (alpha + beta))
    params = ratio * (compute / FLOPS_PER_PARAM_TOKEN) ** (beta / (alpha + beta))
    return params, compute / FLOPS_PER_PARAM_TOKEN / params


def _through(params: float, tokens: float, a: float, b: float) -> dict[str, PowerLaw]:
    """Power laws with exponents a, b through one row (N, D), C = 6·N·D."""
    compute = FLOPS_PER_PARAM_TOKEN * params * tokens
    return {"N": PowerLaw(params / compute**a, a), "D": PowerLaw(tokens / compute**b, b)}


def _of_chinchilla(alpha: float, beta: float) -> dict[str, float]:
    return {"N": beta / (alpha + beta), "D": alpha / (alpha + beta)}


_HOFFMANN = "Hoffmann et al. 2022, arXiv 2203.15556"
_LARGE_ROW = (67e9, 1.4e12)  # N and D of the largest model of their comparison, a row of the published tables


def _hoffmann(
    name: str,
    place: str,
    exponents: Mapping[str, float],
    *,
    source: str = _HOFFMANN,
    parameters: Mapping[str, float] | None = None,
    optimum: Mapping[str, PowerLaw] | None = None,
    note: str = "",
) -> Published:
    """A law on the runs of Hoffmann et al.: their tokenizer, corpus and range (sections 3.1 and 3.2, figure 4)."""
    return Published(
        name=name,
        source=f"{source}, {place}",
        exponents=exponents,
        params_column="params_total",
        tokenizer="SentencePiece, 32,000",
        corpus="MassiveText",
        law="chinchilla" if parameters else None,
        parameters=parameters or {},
        optimum=optimum or {},
        compute_range=(6e18, 3e21),
        params_range=(7e7, 1.6e10),
        anchored=bool(optimum),
        note=note,
    )


_UNROUNDED = {
    "E": math.exp(0.5267228),
    "A": math.exp(6.0073404),
    "B": math.exp(6.0179186),
    "alpha": 0.33917084,
    "beta": 0.2849083,
}
_ROUNDED = {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.34, "beta": 0.28}
_REPLICATION = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
_MUENNIGHOFF = {"E": 1.87, "A": 521.0, "B": 1488.0, "alpha": 0.353, "beta": 0.353}
_KAPLAN = {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}


_LAWS = (
    Published(
        "kaplan-2020",
        "Kaplan et al. 2020, arXiv 2001.08361, table 2 (loss) and table 6 (optimum against C_min)",
        {"N": 0.73, "D": 0.27},
        "params_non_embedding",
        "GPT-2 BPE, 50,257",
        "WebText2",
        law="kaplan",
        parameters=_KAPLAN,
        optimum={"N": PowerLaw(1.3e9 / PF_DAY**0.73, 0.73), "D": PowerLaw(2e10 / PF_DAY**0.27, 0.27)},
        compute_range=(1e15, 1e21),
        params_range=(768.0, 1.5e9),
        note="At C_min, the compute at a batch far below critical. The exponent is high because embeddings and head "
        "were left out of N and C at small scale, and warm-up was long (2406.12907, 2406.19146).",
    ),
    _hoffmann(
        "hoffmann-2022-1",
        "approach 1, table 2",
        {"N": 0.50, "D": 0.50},
        optimum=_through(*_LARGE_ROW, 0.50, 0.50),
        note="Published as exponents; anchored at 67B parameters and 1.4T tokens.",
    ),
    _hoffmann(
        "hoffmann-2022-2",
        "approach 2, table 2",
        {"N": 0.49, "D": 0.51},
        optimum=_through(*_LARGE_ROW, 0.49, 0.51),
        note="Published as exponents; anchored at 67B parameters and 1.4T tokens.",
    ),
    _hoffmann(
        "hoffmann-2022-3",
        "approach 3, the parameters as fitted (from the paper's TeX source)",
        _of_chinchilla(_UNROUNDED["alpha"], _UNROUNDED["beta"]),
        parameters=_UNROUNDED,
        note="Not the optimum of its own objective: see replication-2024.",
    ),
    _hoffmann(
        "hoffmann-2022-3-rounded",
        "approach 3, equation (10)",
        _of_chinchilla(_ROUNDED["alpha"], _ROUNDED["beta"]),
        parameters=_ROUNDED,
        note="The rounded numbers everybody quotes; rounding alone raises the objective more than threefold.",
    ),
    _hoffmann(
        "replication-2024",
        "table 1",
        _of_chinchilla(_REPLICATION["alpha"], _REPLICATION["beta"]),
        source="Besiroglu et al. 2024, arXiv 2404.10102",
        parameters=_REPLICATION,
        note="Fitted to 240 points digitised from figure 4 of Hoffmann et al.",
    ),
    Published(
        "porian-2024",
        "Porian et al. 2024, arXiv 2406.19146, after all corrections",
        {"N": 0.50, "D": 0.50},
        "params_matmul",
        "GPT-NeoX-20B BPE, 50,432",
        "RefinedWeb and OpenWebText2",
        params_range=(5e6, 9.01e8),
        note="Rounded to two digits. N counts the head; warm-up, rate, batch size and AdamW beta_2 tuned by size.",
    ),
    Published(
        "gemstones-2025-1",
        "McLeish et al. 2025, arXiv 2502.06857, approach 1 on the convex hull",
        {"N": 0.46, "D": 0.54},
        "params_total",
        "GPT-NeoX-20B BPE, 50,304",
        "Dolma",
        params_range=(5e7, 2e9),
        note="Rounded to two digits. Over many widths and depths.",
    ),
    Published(
        "gemstones-2025-3",
        "McLeish et al. 2025, arXiv 2502.06857, approach 3",
        {"N": 0.70, "D": 0.30},
        "params_total",
        "GPT-NeoX-20B BPE, 50,304",
        "Dolma",
        params_range=(5e7, 2e9),
        note="Rounded to two digits. The distance to approach 1 on the same runs is the paper's point.",
    ),
    Published(
        "deepseek-2024",
        "DeepSeek-AI 2024, arXiv 2401.02954, equation (4)",
        {"N": 0.5243, "D": 0.4757},
        "flops_per_token / 6",
        "byte-level BPE, 100,000",
        "in-house",
        optimum={"N": PowerLaw(0.1715 / FLOPS_PER_PARAM_TOKEN, 0.5243), "D": PowerLaw(5.8316, 0.4757)},
        compute_range=(1e17, 3e20),
        note="Published for M, non-embedding FLOPs per token with attention (M = 0.1715 C^0.5243); N here is M/6.",
    ),
    Published(
        "llama-3",
        "Llama team 2024, arXiv 2407.21783, section 3.2.1",
        {"N": 0.463, "D": 0.537},
        "params_total",
        "tiktoken-based BPE, 128,000",
        "in-house",
        optimum={"N": PowerLaw(1.0 / (FLOPS_PER_PARAM_TOKEN * 0.299), 0.463), "D": PowerLaw(0.299, 0.537)},
        compute_range=(6e18, 1e22),
        params_range=(4e7, 1.6e10),
        note="Printed as D = 0.29 C^0.53, too rounded to give the paper's 16.55T tokens at 3.8e25; a third digit from "
        "its isoFLOP figure does. N follows from C = 6ND.",
    ),
    Published(
        "muennighoff-2023",
        "Muennighoff et al. 2023, arXiv 2305.16264, appendix A (R*_D = 15.4, R*_N = 5.3 for repeated data)",
        _of_chinchilla(_MUENNIGHOFF["alpha"], _MUENNIGHOFF["beta"]),
        "params_total",
        "GPT-2 BPE, 50,257",
        "C4",
        law="chinchilla",
        parameters=_MUENNIGHOFF,
        params_range=(7e6, 9e9),
        note="The law of unrepeated tokens; alpha and beta were tied.",
    ),
    Published(
        "low-rank-2026",
        "Janson et al. 2026, arXiv 2602.12429",
        {"N": 0.479, "D": 0.521},
        "params_total",
        "Llama-2 SentencePiece, 32,000",
        "FineWeb",
        compute_range=(2.2e18, 2.29e20),
        params_range=(4.75e7, 1.495e9),
        note="Natively low-rank transformers (ratio 0.25, Spectron); exponents alone, one seed, no intervals.",
    ),
)
CATALOGUE: dict[str, Published] = {law.name: law for law in _LAWS}


def published(name: str) -> Published:
    """The published law called `name`.

    Raises:
        FitError: there is none.
    """
    if name not in CATALOGUE:
        raise FitError("unknown published law", got=name, allowed=", ".join(CATALOGUE), hint="scaling laws")
    return CATALOGUE[name]
