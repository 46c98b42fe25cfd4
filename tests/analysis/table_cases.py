"""Tables of one law as people write them: the numbers of the law, and one writer for each kind of file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence

E, A, ALPHA, B, BETA = 1.82, 480.0, 0.347, 2100.0, 0.366  # the exponent of N is BETA / (ALPHA + BETA) = .513

Rows = list[dict[str, object]]


def loss_of(params: float, tokens: float) -> float:
    return E + A / params**ALPHA + B / tokens**BETA


def isoflop_rows(budgets: Iterable[float] = (6e18, 2e19, 8e19, 3e20), sizes: int = 6) -> Rows:
    """Without noise: params, tokens, loss, budget; N around the optimum of each budget."""
    rows: Rows = []
    for budget in budgets:
        middle = 2e8 * (budget / 6e18) ** 0.513
        for n in range(sizes):
            params = round(middle * 1.5 ** (n - sizes / 2))
            tokens = round(budget / 6 / params)
            rows.append({"params": params, "tokens": tokens, "loss": loss_of(params, tokens), "budget": budget})
    return rows


def delimited(rows: Sequence[Mapping[str, object]], separator: str = ",") -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), delimiter=separator, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def renamed(rows: Sequence[Mapping[str, object]], **names: str) -> Rows:
    """Columns under other names; one called "" is left out."""
    return [{names.get(k, k): v for k, v in row.items() if names.get(k, k)} for row in rows]


def written(value: float, unit: str) -> str:
    """A whole number exactly as people write it: `M`, `B`, `,`, or plain."""
    if unit == ",":
        return f"{int(value):,}"
    factor = {"": 0, "K": 3, "M": 6, "B": 9}[unit]
    digits = str(int(value)).rjust(factor + 1, "0")
    return f"{digits[:-factor]}.{digits[-factor:]}{unit}" if factor else digits


def perplexity(loss: float) -> float:
    return math.exp(loss)
