"""Numbers as people write them: ``1e18``, ``1.3B``, ``128k``, ``90m``, ``12h``.

PyYAML reads ``1e18`` as a string and ``12:30:00`` as an integer, so numbers in files are parsed here and nowhere else.
"""

from __future__ import annotations

import math
import re

_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9, "G": 10**9, "T": 10**12}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NUMBER = re.compile(r"([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([kKMBGT]?)")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd])")

NUMBER_FORMS = "a number such as 3, 0.02, 1e18, 128k, 28M or 1.3B"
DURATION_FORMS = "a duration such as 45s, 90m, 12h or 2d"


def parse_number(value: object) -> float | int:
    """The finite number that `value` writes; an int where it is whole and written so exactly.

    Raises:
        ValueError: `value` is not a number in one of `NUMBER_FORMS`.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError(f"not {NUMBER_FORMS}")
    if isinstance(value, (int, float)):
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError("not a finite number")
        return value
    match = _NUMBER.fullmatch(value.strip())
    if match is None or len(value) > 64:
        raise ValueError(f"not {NUMBER_FORMS}")
    digits, suffix = match.groups()
    factor = _SUFFIXES["k" if suffix == "K" else suffix]
    if re.fullmatch(r"[+-]?[\d_]+", digits):
        return int(digits) * factor
    number = float(digits) * factor
    if not math.isfinite(number):
        raise ValueError("not a finite number")
    # 1.3 * 10**9 is whole; the rounding error of the product is removed.
    nearest = round(number)
    if factor > 1 and abs(number - nearest) < 1e-6:
        return nearest
    return number


def parse_duration(value: object) -> float:
    """Seconds in ``45s``, ``90m``, ``12h``, ``2d`` or ``1h30m``; a bare number is refused because its unit is a guess.

    Raises:
        ValueError: `value` is not in one of `DURATION_FORMS`.
    """
    if isinstance(value, str) and len(value) <= 64:
        text = value.strip()
        parts = _DURATION.findall(text)
        if parts and "".join(n + u for n, u in parts) == re.sub(r"\s+", "", text):
            return sum(float(n) * _SECONDS[u] for n, u in parts)
    raise ValueError(f"not {DURATION_FORMS}")


def format_number(value: float, digits: int = 3) -> str:
    """A short form for tables: ``28.3k``, ``1.30B``, ``2.00e+18``; at most `digits` significant digits."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    if size >= 1e15 or (0 < size < 1e-3):
        return f"{value:.{digits - 1}e}"
    for suffix, factor in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if float(f"{size:.{digits}g}") >= factor:
            return f"{_plain(value / factor, digits)}{suffix}"
    return _plain(value, digits)


def format_bytes(size: float) -> str:
    """``574 kB``, ``68.9 GB``: decimal units, three digits."""
    text = format_number(size).replace("B", "G")
    return f"{text[:-1]} {text[-1]}B" if text[-1].isalpha() else f"{text} B"


def format_duration(seconds: float) -> str:
    """``42s``, ``3m 20s``, ``5h 10m``, ``3d 4h``."""
    if not math.isfinite(seconds):
        return "–"
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f}s" if seconds < 10 else f"{whole}s"
    for big, small, size, part in (("d", "h", 86400, 3600), ("h", "m", 3600, 60), ("m", "s", 60, 1)):
        if whole >= size:
            return f"{whole // size}{big} {whole % size // part}{small}"
    raise AssertionError(seconds)


def round_significant(value: float, digits: int = 6) -> float:
    """`value` to `digits` significant digits, so that the last bit of a power or a square root never reaches a run
    id.
    """
    return float(f"{value:.{digits - 1}e}")


def _plain(value: float, digits: int) -> str:
    if value == int(value) and abs(value) < 10**digits:
        return str(int(value))
    exponent = math.floor(math.log10(abs(value))) if value else 0
    return f"{value:.{max(0, digits - 1 - exponent)}f}"
