"""What a figure of the report is: a name, its numbers, its drawing, its caption and its width on the page.

`data` and `draw` are apart, so that the numbers are tested without a picture and one axes can be drawn elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from scaling.analysis.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Data = TypeVar("Data")


@dataclass(frozen=True)
class StudyFigure(Generic[Data]):
    """One figure of a study.

    Args:
        name: of its files, and the salt of the ids inside its SVG.
        data: the numbers of a study; None where it has nothing to show.
        draw: the whole picture.
        caption: what a reader has to know to read it.
        width: on the page, in rem.
    """

    name: str
    data: Callable[[Study], Data | None]
    draw: Callable[[Data], Figure]
    caption: Callable[[Data], str]
    width: Callable[[Data], int]
