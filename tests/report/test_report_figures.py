"""The numbers behind the figures, and what can be checked of a drawing without looking."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.analysis.settings import Settings
from scaling.analysis.study import study_rows
from scaling.laws.published import published
from scaling.report.figures.axes import log_ticks
from scaling.report.figures.difference import difference_data, difference_figure
from scaling.report.figures.frontier import frontier_data, frontier_figure
from scaling.report.figures.isoflop import isoflop_data
from scaling.report.figures.optima import optima_data, optima_figure
from scaling.report.figures.rendering import render
from scaling.report.figures.serving import serving_data
from scaling.report.figures.style import GRID, INK, SERIES, css_variables, ramp, spread, themed
from scaling.report.ranks import rank_data

settings = Settings(params_column="params_matmul", convention="exact", bootstrap=100, devices=("h200",))


def test_isoflop_curves_bottom_at_the_minima(study):
    data = isoflop_data(study)
    assert [len(panel.curves) for panel in data.panels] == [3, 3, 2]
    for panel in data.panels:
        for curve in panel.curves:
            best = int(np.argmin(curve.curve_loss))
            step = curve.curve_params[best] / curve.curve_params[best - 1]
            assert curve.optimum[0] == pytest.approx(curve.curve_params[best], rel=2 * (step - 1))
            assert curve.optimum[1] == pytest.approx(curve.curve_loss[best], abs=2e-3)
            assert curve.optimum_interval[0] < curve.optimum[0] < curve.optimum_interval[1]


def test_a_minimum_at_the_edge_has_no_ring(simulate, settings):
    rows = [row for row in simulate() if not (row.budget == 2e11 and row.params_matmul < 40_000)]
    data = isoflop_data(study_rows(rows, settings=settings))
    assert data.panels[0].curves[2].optimum is None


def test_bands_hold_their_curve_and_spend_the_budget(study):
    data = optima_data(study)
    for params, tokens in zip(data.params[:2], data.tokens[:2], strict=True):
        n, d = params.law, tokens.law
        per_token = study.lines[params.order].costs["exact"](np.array(n.value))
        assert per_token * np.array(d.value) == pytest.approx(np.array(n.compute), rel=1e-6)
        assert all(low < value < high for low, value, high in zip(n.low, n.value, n.high, strict=True))
        assert all(a < b for a, b in pairwise(n.value))
    assert data.params[2].law is None


def test_tokens_per_parameter_are_the_quotient_and_published_laws_are_those_of_the_catalogue(study):
    data = optima_data(study)
    for n, d, ratio in zip(data.params[:2], data.tokens[:2], data.ratio[:2], strict=True):
        assert ratio.law.value == pytest.approx([y / x for x, y in zip(n.law.value, d.law.value, strict=True)])
        law = ratio.law
        assert all(low < value < high for low, value, high in zip(law.low, law.value, law.high, strict=True))
        assert ratio.exponent == pytest.approx(d.exponent - n.exponent)
    [law] = data.published
    expected = published("replication-2024").predict(law.compute[0])
    assert (law.params[0], law.tokens[0]) == pytest.approx((expected["N"], expected["D"]))
    figure = optima_figure(data)
    assert [len(ax.patches) for ax in figure.axes] == [1, 1, 1], "the trained compute is shaded"


def test_the_frontier_says_what_hold_outs_predicted(study):
    data = frontier_data(study)
    held = [one.compute.min() for line in study.lines if line.law for one in line.extrapolation.held_out]
    assert data.held_out == min(held, default=None)


def test_frontiers_fall_and_residuals_are_small(study):
    data = frontier_data(study)
    assert data.residuals.lines[2].residual == (None,) * 10
    for line, residuals in zip(data.lines[:2], data.residuals.lines[:2], strict=True):
        assert all(a > b for a, b in pairwise(line.law.value))
        assert np.std(residuals.residual) < 0.03


def test_many_markers_are_one_image(study):
    """Thousands of circles would make a page of megabytes."""
    data = frontier_data(study)
    few = render("frontier", lambda: frontier_figure(data), []).files["svg"]
    lines = [replace(line, compute=line.compute * 300, loss=line.loss * 300) for line in data.lines]
    many = render("frontier", lambda: frontier_figure(replace(data, lines=tuple(lines))), []).files["svg"]
    assert b"<image" not in few
    assert b"<image" in many
    assert len(many) < 3 * len(few) + 200_000


def test_differences_are_the_verdicts(study):
    data = difference_data(study)
    assert data.reference == "dense"
    assert [len(line.compute) for line in data.lines] == [3, 2]
    assert data.lines[0].difference[-1] == study.comparisons[0].headline.verdict.difference_nats


def test_serving_costs_rise_as_the_loss_falls(study):
    panels = {panel.title: panel for panel in serving_data(study).panels}
    assert set(panels) == {"Arithmetic", "Weights", "Keys and values"}
    for line in panels["Arithmetic"].lines:
        assert all(a > b for a, b in pairwise(line.loss))
        assert all(a < b for a, b in pairwise(line.cost))


def test_the_same_numbers_give_the_same_bytes_and_a_themed_svg_stands_alone(study):
    data = difference_data(study)
    first, second = (render("difference", lambda: difference_figure(data), []) for _ in range(2))
    assert first == second
    assert first.files["png"].startswith(b"\x89PNG")
    assert first.files["pdf"].startswith(b"%PDF")
    svg = themed(first.files["svg"].decode())
    root = ElementTree.fromstring(svg)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    points = sum(len(line.compute) for line in data.lines)
    assert len(first.hover) == points
    assert all(0 < x < width and 0 < y < height for x, y, _ in first.hover)
    assert first.hover[0][2].startswith("training compute C ")
    assert {"width", "height"}.isdisjoint(root.attrib)
    assert "viewBox" in root.attrib
    assert "var(--ink)" in svg
    assert "var(--series-1)" in svg
    assert not [word for word in (INK, GRID, SERIES[1][0], "<metadata", "<?xml") if word in svg]


def test_the_rank_figure_holds_the_verdicts_and_kappa(study):
    data = rank_data(study)
    compared = {one.line.rank_ratio: one for one in study.comparisons}
    assert [curve.budget for curve in data.loss] == [6e10, 2e11]  # one ratio has no more
    for curve in data.loss:
        for ratio, value in zip(curve.ratios, curve.value, strict=True):
            by_cost = {one.verdict.cost: one.verdict.difference_nats for one in compared[ratio].by_budget}
            assert value == by_cost[curve.budget]
    for curve in data.needed:
        for ratio, value, low, high in zip(curve.ratios, curve.value, curve.low, curve.high, strict=True):
            assert low <= value <= high
            assert value == pytest.approx(1 / compared[ratio].joint.multiplier(curve.budget).value)
    assert dict(zip(data.kappa.ratios, data.kappa.value, strict=True)) == {
        ratio: value for ratio, (value, _) in study.ranks.kappa.items()
    }
    assert rank_data(study_rows([row for row in study.rows if row.rank_ratio != 0.5], settings=study.settings)) is None


def test_every_theme_defines_every_colour():
    names = {part.split(":")[0].strip() for part in css_variables(dark=True).split(";") if part.strip()}
    assert names == {part.split(":")[0].strip() for part in css_variables(dark=False).split(";") if part.strip()}
    assert {"--ink", "--soft", "--grid", "--series-5", "--ramp-4"} <= names


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=6))
def test_labels_keep_their_order_and_distance(positions):
    moved = spread(positions, 1.0)
    order = sorted(range(len(positions)), key=lambda n: positions[n])
    assert all(moved[b] - moved[a] >= 1.0 - 1e-9 for a, b in pairwise(order))
    assert sum(moved) == pytest.approx(sum(positions), abs=1e-6)


@given(st.floats(1e-6, 1e20), st.floats(1.2, 1e6))
def test_log_ticks_are_few_and_round(low, factor):
    ticks = log_ticks(low, low * factor)
    assert 1 <= len(ticks) <= 7
    assert all(low / 1.7 <= tick <= low * factor * 1.7 for tick in ticks)


def test_a_ramp_runs_from_light_to_dark():
    assert len(set(ramp(5))) == 5
    assert ramp(3)[-1] == ramp(1)[0]
