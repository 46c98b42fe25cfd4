"""Cells to numbers, a column at a time: ``50M``, ``1.3 billion``, ``50,000,000``, ``3,1684``, ``1.5×10^9``.

Whether a comma (or a dot) groups thousands or marks decimals is a property of the column: one cell that can only be
one of the two decides, then the other columns of the file, then the separator of the file.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scaling.analysis.table.names import FLOP_UNITS, MULTIPLES
from scaling.analysis.table.raw import Cell
from scaling.laws.points import Array

Decimal = Literal[".", ","]
MISSING = {"", "nan", "na", "n/a", "none", "null", "-", "--", "–", "—", "?", "#n/a", "missing", "nil", "<na>"}

_BARE_LEAST = 1e5  # a number without suffix in a column of suffixes is whole from here on (assumption)
_BLANKS = re.compile(r"(?<=\d)[\s'’_\u00a0\u202f](?=\d)")
_TEX = re.compile(r"\\[,;: ]|\{,\}|[$~]")  # thin spaces, {,} and dollar signs of LaTeX
_TEX_TIMES = re.compile(r"\\(?:times|cdot)(?![a-zA-Z])")
_POWERS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺", "0123456789-+")
_SUPERSCRIPT = re.compile(r"10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺]+)")
_SPREAD = re.compile(r"\s*(?:±|\+/-|\+-|\\pm)\s*[\d.,]+(?:e[+-]?\d+)?$|(?<=\d)\(\d{1,3}\)$", re.IGNORECASE)
_REMARK = re.compile(r"(?<=\S)\s*\([^()\d][^()]*\)$")
_TIMES_TEN = re.compile(r"\s*[x×*·]\s*10\s*\^?\s*\{?([+-]?\d{1,3})\}?$")
_TEN = re.compile(r"10\s*\^\s*\{?([+-]?\d{1,3})\}?$")
_NUMBER = re.compile(r"([+-]?(?:\d[\d.,]*|[.,]\d+)(?:[eE][+-]?\d{1,4})?)\s*([a-zA-Z/]*\.?)")
_NOUNS = re.compile(r"\s*(tokens?|toks?|params?|parameters?|parametern?|nats(/token)?)$", re.IGNORECASE)
_ONLY_COMMA_DECIMAL = re.compile(
    r"[+-]?(\d*,\d{1,2}|\d*,\d{4,}|0,\d+|\d{4,},\d+|\d{1,3}(\.\d{3})+,\d+|\d*,\d+[eE][+-]?\d+)"
)
_ONLY_COMMA_GROUPS = re.compile(r"[+-]?(\d{1,3}(,\d{3}){2,}(\.\d*)?|\d{1,3}(,\d{3})+\.\d*)")
_ONLY_DOT_GROUPS = re.compile(r"[+-]?\d{1,3}(\.\d{3}){2,}(,\d*)?")
_ONLY_DOT_DECIMAL = re.compile(r"[+-]?(\d*\.\d{1,2}|\d*\.\d{4,}|0\.\d+|\d{4,}\.\d+|\d*\.\d*[eE][+-]?\d+)")
_COMMA_GROUPS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d+)?([eE][+-]?\d+)?")


@dataclass(frozen=True)
class Numbers:
    """A column as numbers: NaN where a cell is none; `suffixed` if cells carry K, M, B, …"""

    values: Array
    suffixed: bool = False


def numbers(cells: Sequence[Cell], decimal: Decimal | None = None) -> Numbers:
    """The numbers of a column; `decimal` says which sign marks decimals where the column itself does not say."""
    if set(map(type, cells)) <= {str, int, float}:
        try:
            plain = np.fromiter(map(float, cells), dtype=np.float64, count=len(cells))  # type: ignore[arg-type]
        except (ValueError, OverflowError):
            pass
        else:
            if not _dots_are_groups(cells, decimal):
                return Numbers(plain)
    sign = decimal_of(cells) or decimal or "."
    parsed = [_number(cell, sign) for cell in cells]
    suffixed = any(scaled for _, scaled in parsed)
    values = [math.nan if suffixed and not scaled and abs(v) < _BARE_LEAST and v else v for v, scaled in parsed]
    return Numbers(np.array(values, dtype=float), suffixed)


def decimal_of(cells: Iterable[Cell]) -> Decimal | None:
    """Which sign marks decimals in a column, if a cell says so."""
    for cell in cells:
        if not isinstance(cell, str) or not ("," in cell or "." in cell):
            continue
        match = _NUMBER.match(_BLANKS.sub("", cell.strip()))
        text = match[1] if match else ""
        if _ONLY_COMMA_DECIMAL.fullmatch(text) or _ONLY_DOT_GROUPS.fullmatch(text):
            return ","
        if _ONLY_DOT_DECIMAL.fullmatch(text) or _ONLY_COMMA_GROUPS.fullmatch(text):
            return "."
    return None


def is_missing(cell: Cell) -> bool:
    """Whether a cell says that there is no value."""
    if isinstance(cell, str):
        return cell.strip().lower() in MISSING
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def text_of(cell: Cell) -> str:
    """A cell for a person: short, on one line."""
    text = "" if cell is None else " ".join(str(cell).split())
    return text if len(text) <= 40 else f"{text[:37]}..."


def _dots_are_groups(cells: Sequence[Cell], decimal: Decimal | None) -> bool:
    """Whether numbers such as 714.285 are thousands, in a file whose decimals have commas."""
    return decimal == "," and decimal_of(cells) != "." and any(isinstance(cell, str) and "." in cell for cell in cells)


def _number(cell: Cell, decimal: Decimal) -> tuple[float, bool]:
    """(the number or NaN, whether a suffix scaled it)."""
    if isinstance(cell, bool) or is_missing(cell):
        return math.nan, False
    if not isinstance(cell, str):
        try:
            return float(cell), False  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            return math.nan, False
    if len(cell) > 64:
        return math.nan, False
    text = _bare(cell.strip().lstrip("~≈ "))
    text = _TIMES_TEN.sub(r"e\1", _TEN.sub(r"1e\1", text) if _TEN.fullmatch(text) else text)
    text = _BLANKS.sub("", text)
    if text.lower().lstrip("+-") in ("inf", "infinity"):
        return math.inf, False
    match = _NUMBER.fullmatch(text)
    if match is None:
        return math.nan, False
    suffix = match[2].lower().rstrip(".")
    factor = 1.0 if suffix in ("", "flops", "flop") else MULTIPLES.get(suffix) or FLOP_UNITS.get(suffix)
    digits = _plain(match[1], decimal)
    if factor is None or digits is None:
        return math.nan, False
    return whole(digits * factor) if factor != 1.0 else digits, factor != 1.0


def _bare(text: str) -> str:
    """A cell without what people write around a number: LaTeX, ± and its spread, a remark in brackets, a noun."""
    text = (html.unescape(text) if "&" in text else text).strip("*`")
    if not text.isascii() and (power := _SUPERSCRIPT.search(text)):
        text = f"{text[: power.start(1)]}^{power[1].translate(_POWERS)}{text[power.end() :]}"
    if any(sign in text for sign in "\\{$~"):
        text = _TEX.sub("", _TEX_TIMES.sub("×", text)).strip()
    return _NOUNS.sub("", _REMARK.sub("", _SPREAD.sub("", text)))


def _plain(text: str, decimal: Decimal) -> float | None:
    if decimal == ",":
        text = text.replace(".", "").replace(",", ".")
    elif "," in text:
        if not _COMMA_GROUPS.fullmatch(text):
            return None
        text = text.replace(",", "")
    try:
        return float(text)
    except ValueError:
        return None


def whole(number: float) -> float:
    """`number` without the dust of a multiplication: 70.0191 million is 70,019,100."""
    if not math.isfinite(number):
        return number
    nearest = float(round(number))
    return nearest if math.isclose(number, nearest, rel_tol=1e-12, abs_tol=0.0) else number


def scaled(values: Array, factor: float) -> Array:
    """`values` times `factor`, whole numbers kept whole."""
    product = values * factor
    nearest = np.rint(product)
    return np.where(np.isclose(product, nearest, rtol=1e-12, atol=0.0), nearest, product)
