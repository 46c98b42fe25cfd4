"""Figures from a second process: the same bytes as from this one, and what fails there is told here."""

from __future__ import annotations

from functools import partial

import pytest

from scaling.report.figures import drawer as drawer_module
from scaling.report.figures.axes import new_figure
from scaling.report.figures.drawer import Drawer
from scaling.report.figures.holdouts import HeldOutRuns, HoldoutsData, holdouts_figure
from scaling.report.figures.rendering import render

DATA = HoldoutsData((HeldOutRuns(0, "dense", 1, (1e10, 2e10), (0.5, -1.0)),), "exact")


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawer_module.os, "cpu_count", lambda: 2)


def test_a_second_process_draws_the_same_bytes(two_cores: None) -> None:
    with Drawer() as drawer:
        pictures = [drawer.begin(name, partial(holdouts_figure, DATA), ["dense"]) for name in ("one", "two")]
        drawn = [picture() for picture in pictures]
    assert drawn == [render(name, partial(holdouts_figure, DATA), ["dense"]) for name in ("one", "two")]


def test_one_core_draws_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawer_module.os, "cpu_count", lambda: 1)
    with Drawer() as drawer:
        assert drawer.begin("one", partial(holdouts_figure, DATA), [])() == render(
            "one", partial(holdouts_figure, DATA), []
        )


def test_an_error_there_is_raised_here_and_the_next_figure_is_drawn(two_cores: None) -> None:
    with Drawer() as drawer:
        bad = drawer.begin("bad", partial(holdouts_figure, HoldoutsData((), "exact")), [])
        good = drawer.begin("good", partial(holdouts_figure, DATA), [])
        with pytest.raises((TypeError, ValueError)):
            bad()
        assert good().files["svg"]


def test_what_cannot_be_sent_is_drawn_here(two_cores: None) -> None:
    with Drawer() as drawer:
        assert drawer.begin("here", lambda: new_figure(2, 2), [])().files["png"]


def test_a_process_that_is_killed_is_named(two_cores: None) -> None:
    with Drawer() as drawer:
        picture = drawer.begin("one", partial(holdouts_figure, DATA), [])
        drawer._process.kill()  # it takes longer than this to start
        with pytest.raises(RuntimeError, match="ended with status -9"):
            picture()
        assert drawer.begin("two", partial(holdouts_figure, DATA), [])().files["svg"], "from now on drawn here"
