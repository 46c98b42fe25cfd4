"""Published laws, with what they were measured on: to draw beside ours, and to predict from.

A law carries its conventions: exponents fitted to non-embedding parameters are not exponents of total parameters, and
a loss in nats per token of one tokenizer is not a loss of another. Loss curves may be drawn beside ours only on the
same corpus; exponents may be compared with the convention said. Where a paper gives only exponents and one table row,
the law is *anchored* at that row.

Every entry says in `checked` what it was compared with: the text of the paper, the authors' own code, or somebody
else's transcript of either; and what could not be confirmed. Digits that a paper rounds are rounded here too.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from scaling import checks
from scaling.checks import Check
from scaling.errors import FitError
from scaling.laws.forms import form_named
from scaling.laws.points import FLOPS_PER_PARAM_TOKEN
from scaling.quantity import format_number

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
        optimum: power laws of compute-optimal N and D (and of the loss there, where it has its own), where they were
            published or follow; empty for exponents alone.
        exponents: of N and D in C; they add up to 1 unless N and D were fitted apart.
        params_column: which N.
        tokenizer, corpus: what the loss is measured on.
        compute_range, params_range: where it was fitted; outside it is an extrapolation.
        anchored: the prefactors come from one published row, not from the fit.
        checked: with what the numbers were compared, and what was not confirmed.
        note: what a user must know.
    """

    name: str
    source: str
    exponents: Mapping[str, float]
    params_column: str
    tokenizer: str
    corpus: str
    checked: str
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
        """Compute-optimal N, D and loss at `compute` FLOPs; None for what was not published.

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
        if "loss" in self.optimum:
            return {"N": params, "D": tokens, "loss": self.optimum["loss"].at(compute)}
        return {"N": params, "D": tokens, "loss": self.loss(params, tokens) if self.law else None}

    def checks(self, compute: float) -> tuple[Check, ...]:
        """`extrapolation` or `outside_published_range` beyond the published range, `anchored_law` for prefactors."""
        result = []
        if self.compute_range is not None:
            beyond = math.log10(compute / self.compute_range[1]) if compute > 0 else 0.0
            if beyond > 0 or compute < self.compute_range[0]:
                low, high = self.compute_range
                message = f"{compute:.1e} FLOPs lies outside {low:.0e} to {high:.0e}, where {self.name} was fitted"
                far = beyond > checks.MAX_DECADES.value
                result.append((checks.EXTRAPOLATION if far else checks.OUTSIDE_PUBLISHED_RANGE)(message))
        if self.anchored:
            message = f"{self.name} was published as exponents; its prefactors are anchored at one published row"
            result.append(checks.ANCHORED_LAW(message))
        return tuple(result)

    @property
    def gives(self) -> str:
        """What `predict` answers: `N, D, loss`, `N, D`, or `exponents` alone."""
        if not (self.optimum or self.law == "chinchilla"):
            return "exponents"
        return "N, D, loss" if self.law or "loss" in self.optimum else "N, D"

    def row(self) -> tuple[str, ...]:
        """One row of `scaling laws`."""
        fitted = "{:.0e} to {:.0e}".format(*self.compute_range) if self.compute_range else "–"
        exponents = (f"{self.exponents[name]:.3g}" for name in ("N", "D"))
        return (self.name, self.params_column, self.tokenizer, fitted.replace("e+", "e"), *exponents, self.gives)

    def text(self) -> str:
        """Everything about this law, for `scaling laws NAME`."""
        lines = {
            "source": self.source,
            "loss": form_named(self.law).formula if self.law else "",
            "parameters": ", ".join(f"{name} {value:.6g}" for name, value in self.parameters.items()),
            "exponents": ", ".join(f"{name} ∝ C^{value:.4g}" for name, value in self.exponents.items()),
            "optimum": ", ".join(f"{k} = {v.coefficient:.4g} C^{v.exponent:.4g}" for k, v in self.optimum.items()),
            "N counts": self.params_column,
            "tokenizer": self.tokenizer,
            "corpus": self.corpus,
            "fitted at": " to ".join(f"{flops:.3g}" for flops in self.compute_range or ()),
            "sizes": " to ".join(map(format_number, self.params_range or ())),
            "checked": self.checked,
            "note": self.note,
        }
        indent = " " * 12
        wrapped = (
            textwrap.fill(words, 110, initial_indent=f"{name:<12}", subsequent_indent=indent)
            for name, words in lines.items()
            if words
        )
        return "\n".join([self.name, *wrapped])

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
            "checked": self.checked,
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
_LARGE_ROW = (67e9, 1.4e12)  # 67B is the row of Gopher's budget in their table 3; 1.4T is what 6·N·D leaves there


def _hoffmann(
    name: str,
    place: str,
    exponents: Mapping[str, float],
    *,
    checked: str,
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
        checked=checked,
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
_MUENNIGHOFF = {
    "E": math.exp(0.6254804),
    "A": math.exp(6.255414),
    "B": math.exp(7.3049974),
    "alpha": 0.3526596,
    "beta": 0.3526596,
}
_GEMSTONES = {
    "E": math.exp(0.6655226816),
    "A": math.exp(4.8761769847),
    "B": math.exp(12.6984060933),
    "alpha": 0.2575546364,
    "beta": 0.5909317455,
}
_KAPLAN = {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}


_LAWS = (
    Published(
        "kaplan-2020",
        "Kaplan et al. 2020, arXiv 2001.08361, table 2 (L(N, D)), table 6 (optimum against C_min), eq. (1.3)",
        {"N": 0.73, "D": 0.27},
        "params_non_embedding",
        "GPT-2 BPE, 50,257",
        "WebText2",
        "Every coefficient as two transcripts of the tables give it; the compute range is read off the figures.",
        law="kaplan",
        parameters=_KAPLAN,
        optimum={
            "N": PowerLaw(1.3e9 / PF_DAY**0.73, 0.73),
            "D": PowerLaw(2e10 / PF_DAY**0.27, 0.27),
            "loss": PowerLaw((3.1e8 * PF_DAY) ** 0.050, -0.050),
        },
        compute_range=(1e15, 1e21),
        params_range=(768.0, 1.5e9),
        note="At C_min, the compute at a batch far below critical; the loss is L(C_min) = (3.1e8 PF-days / C_min)^.05, "
        "not L(N, D), which is of training to convergence; at the critical batch 6·N·D is about twice C_min. The "
        "exponent is high because embeddings and head were left out of N and C at small scale, and warm-up was long "
        "(2406.12907, 2406.19146).",
    ),
    _hoffmann(
        "hoffmann-2022-1",
        "approach 1, tables 2 and 3",
        {"N": 0.50, "D": 0.50},
        checked="The paper's text. Exponents are printed with two digits.",
        optimum=_through(*_LARGE_ROW, 0.50, 0.50),
        note="Published as exponents; anchored at 67B parameters and 1.4T tokens. Table 3 prints this row as 5.76e23 "
        "FLOPs and 1.5T tokens: there N and D were fitted apart, and 6·N·D is 5 % more.",
    ),
    _hoffmann(
        "hoffmann-2022-2",
        "approach 2, table 2",
        {"N": 0.49, "D": 0.51},
        checked="The paper's text. Exponents are printed with two digits.",
        optimum=_through(*_LARGE_ROW, 0.49, 0.51),
        note="Published as exponents; anchored at 67B parameters and 1.4T tokens, the row of approach 1. Table A3 "
        "gives 67B 6.88e23 FLOPs and 1.7T tokens by approach 2: 9 % fewer parameters at equal compute than here.",
    ),
    _hoffmann(
        "hoffmann-2022-3",
        "approach 3, the parameters as fitted (from the paper's TeX source)",
        _of_chinchilla(_UNROUNDED["alpha"], _UNROUNDED["beta"]),
        checked="The code of 2404.10102. It gives the paper's 40B at 5.76e23 FLOPs (figure 4) and, within 1 %, its 67B "
        "at 1.71e24 (table A3).",
        parameters=_UNROUNDED,
        note="Not the optimum of its own objective: see replication-2024.",
    ),
    _hoffmann(
        "hoffmann-2022-3-rounded",
        "approach 3, equation (10)",
        _of_chinchilla(_ROUNDED["alpha"], _ROUNDED["beta"]),
        checked="The paper's text. Rounded there.",
        parameters=_ROUNDED,
        note="The rounded numbers everybody quotes; rounding alone raises the objective more than threefold, and puts "
        "the optimum at 5.76e23 FLOPs at 32B instead of 40B.",
    ),
    _hoffmann(
        "replication-2024",
        "equation (3) and table 1",
        _of_chinchilla(_REPLICATION["alpha"], _REPLICATION["beta"]),
        checked="A transcript of table 1, and the fit to the same 240 points made again here.",
        source="Besiroglu et al. 2024, arXiv 2404.10102",
        parameters=_REPLICATION,
        note="Fitted to 240 points digitised from figure 4 of Hoffmann et al. The exact optimum of the same objective "
        "is E 1.8172, A 477.8, B 2143.4, alpha .34731, beta .36717.",
    ),
    Published(
        "porian-2024",
        "Porian et al. 2024, arXiv 2406.19146, after all corrections (figure 1, table 1)",
        {"N": 0.50, "D": 0.50},
        "params_matmul",
        "GPT-NeoX-20B BPE, 50,432",
        "RefinedWeb and OpenWebText2",
        "Ranges and what N counts: the authors' code. The exponent is known as agreeing with Hoffmann et al. to two "
        "digits; its third digit, the interval and the tokenizer were not confirmed.",
        compute_range=(1.25e16, 2.56e19),
        params_range=(5.17e6, 9.02e8),
        note="N counts the head and not the embedding; warm-up, rate, batch size and AdamW beta_2 tuned by size, "
        "constant rate.",
    ),
    Published(
        "gemstones-2025-1",
        "McLeish et al. 2025, arXiv 2502.06857, approach 1 on the convex hull, all tokens",
        {"N": 0.4579, "D": 0.5249},
        "params_total",
        "GPT-NeoX-20B BPE, 50,304",
        "Dolma 1.7",
        "The fits in the authors' repository (N = 0.3585 C^0.4579, D = 0.9709 C^0.5249), and the slope 0.458 of the "
        "paper's table. The tokenizer's name was not confirmed.",
        optimum={
            "N": PowerLaw(math.exp(-1.025860400775425), 0.45790307973088284),
            "D": PowerLaw(math.exp(-0.02952087043010465), 0.5248986844440133),
        },
        params_range=(5e7, 2e9),
        note="22 shapes of many widths and depths, 350B tokens at a constant rate. N and D were fitted apart, and C is "
        "the authors' count for each shape: 6·N·D is 2 % above C at 1e18 and 13 % below it at 1e22.",
    ),
    Published(
        "gemstones-2025-3",
        "McLeish et al. 2025, arXiv 2502.06857, approach 3 (Huber, delta 1e-4), all tokens",
        _of_chinchilla(_GEMSTONES["alpha"], _GEMSTONES["beta"]),
        "params_total",
        "GPT-NeoX-20B BPE, 50,304",
        "Dolma 1.7",
        "The fit in the authors' repository, and the slope 0.697 of the paper's table. The tokenizer's name was not "
        "confirmed.",
        law="chinchilla",
        parameters=_GEMSTONES,
        params_range=(5e7, 2e9),
        note="The distance to approach 1 on the same runs is the paper's point.",
    ),
    Published(
        "deepseek-2024",
        "DeepSeek-AI 2024, arXiv 2401.02954, formula (4)",
        {"N": 0.5243, "D": 0.4757},
        "flops_per_token / 6",
        "byte-level BPE, 100,015 (102,400 trained)",
        "in-house",
        "Several transcripts of formula (4), and the optimum that figure 4 marks at 4.5e23 FLOPs: 4.3e11 FLOPs per "
        "token, 1.04T tokens.",
        optimum={"N": PowerLaw(0.1715 / FLOPS_PER_PARAM_TOKEN, 0.5243), "D": PowerLaw(5.8316, 0.4757)},
        compute_range=(1e17, 3e20),
        note="Published for M, non-embedding FLOPs per token with attention (M = 0.1715 C^0.5243); N here is M/6. Data "
        "of another quality gave other exponents (table 4: 0.450 to 0.578 for N).",
    ),
    Published(
        "llama-3",
        "Llama team 2024, arXiv 2407.21783, section 3.2.1",
        {"N": 0.463, "D": 0.537},
        "params_total",
        "tiktoken-based BPE, 128,000",
        "in-house",
        "The paper's text, but for the third digits, which come from fitting the points of its isoFLOP figure.",
        optimum={"N": PowerLaw(1.0 / (FLOPS_PER_PARAM_TOKEN * 0.299), 0.463), "D": PowerLaw(0.299, 0.537)},
        compute_range=(6e18, 1e22),
        params_range=(4e7, 1.6e10),
        note="Printed as D = 0.29 C^0.53, too rounded to give the paper's 16.55T tokens at 3.8e25 (it gives 11T). N "
        "follows from C = 6ND; the paper's own 402B at 3.8e25 is 3 % more, since its 6·N·D is 5 % above its C.",
    ),
    Published(
        "muennighoff-2023",
        "Muennighoff et al. 2023, arXiv 2305.16264, appendix B (base law on C4)",
        _of_chinchilla(_MUENNIGHOFF["alpha"], _MUENNIGHOFF["beta"]),
        "params_total",
        "GPT-2 BPE, 50,257",
        "C4",
        "The parameters as the authors' fitting code holds them; the paper prints 1.87, 521, 1488, .353. The tokenizer "
        "and what N counts were not confirmed.",
        law="chinchilla",
        parameters=_MUENNIGHOFF,
        params_range=(7e6, 9e9),
        note="The law of unrepeated tokens, 54 runs; alpha and beta were tied. For repeated data (data_constrained) "
        "the paper has R*_D = 15.387756 and R*_N = 5.309743 (appendix A, 182 runs).",
    ),
    Published(
        "low-rank-2026",
        "Janson et al. 2026, arXiv 2602.12429",
        {"N": 0.479, "D": 0.521},
        "params_total",
        "Llama-2 SentencePiece, 32,000",
        "FineWeb",
        "The exponents in two summaries of the paper; ranges from the authors' training scripts.",
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
