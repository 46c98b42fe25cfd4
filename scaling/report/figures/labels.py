"""Names of lines as a figure can show them: short, and in a font that has their letters."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDEST = 26  # letters of a name beside a curve; a Chinese one counts twice
_FONT = "DejaVu Sans"  # comes with matplotlib
_NO_FONTS = ("LastResort", "Last Resort")  # draw a box for every letter


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The names that are too wide for a figure, with their middles left out; all of them stay apart."""
    short: dict[str, str] = {}
    for name in names:
        if _width(name) > WIDEST:
            kept = _without_middle(name)
            taken = {*names, *short.values()}
            tries = (kept, *(f"{kept} ({n})" for n in range(2, len(names) + 2)))
            short[name] = next(one for one in tries if one not in taken)
    return short


def show_names(figure: Figure, short: Mapping[str, str]) -> None:
    """Put the short names into every text of `figure`, and give a text with letters that the usual font lacks one of
    the installed fonts that have them. A letter that no font has stays a box.
    """
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        words = shown = text.get_text()
        for long in sorted(short, key=len, reverse=True):
            shown = shown.replace(long, short[long])
        if shown != words:
            text.set_text(shown)
        if fonts := _fonts_for("".join(sorted({letter for letter in shown if ord(letter) > 127}))):
            text.set_fontfamily([_FONT, *fonts])


def _width(name: str) -> int:
    return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in name)


def _without_middle(name: str) -> str:
    """`name` in `WIDEST` letters: the end tells ratios apart, so it keeps as much as the start."""
    start, end = name, name
    while _width(start) > WIDEST // 2:
        start = start[:-1]
    while _width(end) > WIDEST // 2 - 1:
        end = end[1:]
    return f"{start}…{end}"


@lru_cache(maxsize=256)
def _fonts_for(letters: str) -> tuple[str, ...]:
    """Installed fonts that have the letters which the usual one lacks, the first by name for each."""
    from matplotlib import font_manager

    missing = {letter for letter in letters if not _has(font_manager.findfont(_FONT), letter)}
    found: list[str] = []
    fonts = sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname)) if missing else ()
    for font in fonts:
        if not font.name.startswith(_NO_FONTS) and (here := {one for one in missing if _has(font.fname, one)}):
            found.append(font.name)
            missing -= here
    return tuple(found)


@lru_cache(maxsize=4096)
def _has(path: str, letter: str) -> bool:
    from matplotlib.font_manager import get_font

    return bool(get_font(path).get_char_index(ord(letter)))
