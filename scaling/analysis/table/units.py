"""Units: of sizes and FLOPs as factors, of losses to nats, and FLOPs held against 6·N·D.

A wrong unit of N, D or C is orders of magnitude, and FLOPs are close to 6·N·D (Kaplan et al. 2020, section 2.1): where
they are not, the reader says which unit would explain it and refuses to choose.
"""

from __future__ import annotations

import itertools
import math
import shlex
from collections.abc import Iterator, Mapping

import numpy as np

from scaling.analysis.table.names import LOSS_UNITS, PF_DAY, log_base, loss_unit, taken_apart, unit_factor
from scaling.errors import DataError
from scaling.laws.points import FLOPS_PER_PARAM_TOKEN, Array

LEAST_PARAMS, LEAST_TOKENS = 1e3, 1e6  # of a language model; assumption
LARGEST_LOSS = 15.0  # nats/token: ln(vocabulary) of any tokenizer is below 13, so a higher loss is no loss in nats
_FAR = 100.0  # FLOPs this far from 6·N·D are in another unit; nearer, another way of counting
_NEAR = 3.0  # FLOPs within this factor need no word: attention, embeddings (assumption)
_CLOSE = 5.0  # a unit explains FLOPs that it brings within this factor
_PLAUSIBLE = {"params": (1e4, 1e14), "tokens": (1e6, 1e16), "flops": (1e10, 1e29)}  # assumption
_TOKENS_PER_PARAM = (0.1, 1e5)  # assumption
_SIZE_UNITS = {"K": 1e3, "M": 1e6, "B": 1e9, "T": 1e12}
_FLOP_UNITS = {"GFLOPs": 1e9, "TFLOPs": 1e12, "PFLOPs": 1e15, "EFLOPs": 1e18, "PF-days": PF_DAY, "ZFLOPs": 1e21}
LOG_BASES = {"log10": 10.0, "log2": 2.0, "ln": math.e}
_CONVERSIONS = {
    "nats": "nats",
    "bits": "bits × ln 2 = nats",
    "ppl": "ln(perplexity) = nats",
    "bpb": "bits per byte × ln 2 = nats per byte",
    "bpc": "bits per character × ln 2 = nats per character",
}


def amount_unit(column: str, given: str | None) -> tuple[float, str]:
    """(factor, unit as it is written) of a column of sizes, tokens or FLOPs; `given` is that of `--unit`.

    Raises:
        DataError: `given` is no unit.
    """
    if given is None:
        apart = taken_apart(column)
        return (1.0, "") if apart.factor is None else (apart.factor, f"× {apart.factor:g}, from its name")
    factor = unit_factor(given)
    if factor is None:
        try:
            factor = float(given)
        except ValueError:
            factor = math.nan
    if not (math.isfinite(factor) and factor > 0):
        raise DataError(
            f"--unit gives {column} a unit that it cannot have",
            got=given,
            allowed="K, M, B, T, 1e21, GFLOPs, PF-days, ...",
        )
    return factor, f"× {factor:g}, from --unit"


def of_logarithm(values: Array, column: str, given: str | None, where: str) -> tuple[Array, str] | None:
    """(the numbers, how they were computed) of a column of logarithms of a size; None if it holds the sizes.

    Raises:
        DataError: neither its name nor `given`, the unit of `--unit`, says the base.
    """
    base = given if given in LOG_BASES else log_base(column)
    if base is None or (given is not None and given not in LOG_BASES):
        return None
    if base not in LOG_BASES:
        raise DataError(
            f"{column} is a logarithm, and its name does not say of which base",
            where=where,
            got=f"median {float(np.nanmedian(values)):.4g}" if np.isfinite(values).any() else None,
            allowed=", ".join(LOG_BASES),
            hint=f"{_option(column, 'log10')} or {_option(column, 'ln')}",
        )
    with np.errstate(over="ignore"):
        return np.power(LOG_BASES[base], values), str(base)


def to_nats(values: Array, column: str, given: str | None) -> tuple[Array, str, str]:
    """(the losses in nats, the unit they were in, the conversion in words).

    Raises:
        DataError: `given` is no unit of a loss.
    """
    unit = loss_unit(column) if given is None else LOSS_UNITS.get(given.strip().lower(), "")
    if not unit:
        raise DataError(f"--unit gives {column} a unit that it cannot have", got=given, allowed=", ".join(_CONVERSIONS))
    with np.errstate(all="ignore"):
        if unit == "ppl":
            return np.where(values > 0, np.log(values), math.nan), unit, _CONVERSIONS[unit]
    return values * (1.0 if unit == "nats" else math.log(2)), unit, _CONVERSIONS[unit]


def _option(column: str, unit: str) -> str:
    return "--unit " + shlex.quote(f"{column}={unit}")


def check_loss(loss: Array, column: str, where: str) -> None:
    """Raises `DataError` where losses that are nats by name are too high to be any."""
    finite = loss[np.isfinite(loss)]
    if finite.size and float(np.median(finite)) > LARGEST_LOSS:
        raise DataError(
            f"{column} is too high for a loss in nats per token: no tokenizer has e^{LARGEST_LOSS:g} tokens",
            where=where,
            got=f"median {float(np.median(finite)):.4g}",
            hint=f"say its unit: {_option(column, 'ppl')} for perplexity, or {_option(column, 'nats')} if it is right",
        )


def check_sizes(params: Array, tokens: Array, names: Mapping[str, str]) -> Iterator[str]:
    """What is said of N and D that are small for a language model."""
    for role, values, least in (("params", params, LEAST_PARAMS), ("tokens", tokens, LEAST_TOKENS)):
        if float(np.median(values)) < least:
            what = "parameters" if role == "params" else "training tokens"
            yield (
                f"{names[role]} has a median of {float(np.median(values)):.4g}: few {what} for a language model; if "
                f"they are millions or billions, say so with {_option(names[role], 'M')} or {_option(names[role], 'B')}"
            )


def check_flops(amounts: Mapping[str, Array], names: Mapping[str, str], where: str) -> Iterator[str]:
    """Holds `flops` against 6 · `params` · `tokens`; yields what is given where they differ by a small factor.

    Raises:
        DataError: they are orders of magnitude apart.
    """
    positive = amounts["flops"] > 0
    if not positive.any():
        return
    counted = FLOPS_PER_PARAM_TOKEN * amounts["params"][positive] * amounts["tokens"][positive]
    ratio = float(np.exp(np.median(np.log(amounts["flops"][positive]) - np.log(counted))))
    if 1 / _FAR < ratio < _FAR:
        if not 1 / _NEAR <= ratio <= _NEAR:
            yield f"{names['flops']} is {ratio:.3g} times 6·N·D: another way of counting N, D or FLOPs"
        return
    medians = {role: float(np.median(values[positive])) for role, values in amounts.items()}
    options = list(_explanations(medians, ratio, names))
    raise DataError(
        f"{names['flops']} is {ratio:.2g} times 6 · {names['params']} · {names['tokens']}, so a unit is missing",
        where=where,
        got=", ".join(f"{names[role]} {medians[role]:.4g}" for role in names) + " (medians)",
        hint=" or ".join(options)
        if options
        else f"say the unit: {_option(names['flops'], '1e21')}, or leave the column out",
    )


def _explanations(medians: Mapping[str, float], ratio: float, names: Mapping[str, str]) -> Iterator[str]:
    """The fewest units that bring FLOPs to 6·N·D and every column into a plausible range."""
    one = {"": 1.0}
    choices = itertools.product(one | _SIZE_UNITS, one | _SIZE_UNITS, one | _FLOP_UNITS)
    factors = one | _SIZE_UNITS | _FLOP_UNITS
    good: list[tuple[int, float, str]] = []
    for units in choices:
        scale = dict(zip(("params", "tokens", "flops"), (factors[unit] for unit in units), strict=True))
        off = ratio * scale["flops"] / (scale["params"] * scale["tokens"])
        tokens_per_param = medians["tokens"] * scale["tokens"] / (medians["params"] * scale["params"])
        plausible = _TOKENS_PER_PARAM[0] <= tokens_per_param <= _TOKENS_PER_PARAM[1] and all(
            low <= medians[role] * scale[role] <= high for role, (low, high) in _PLAUSIBLE.items()
        )
        if plausible and 1 / _CLOSE < off < _CLOSE:
            options = [
                "--unit " + shlex.quote(f"{names[role]}={unit}")
                for role, unit in zip(scale, units, strict=True)
                if unit
            ]
            good.append((len(options), abs(math.log(off)), " ".join(options)))
    fewest = min((count for count, _, _ in good), default=0)
    yield from (options for count, _, options in sorted(good) if count == fewest)
