from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest

from scaling.hardware import DEVICES
from scaling.inference import serving_comparison
from scaling.inference.cost import Setting, cost
from scaling.inference.equal_loss import LawDraws, cheapest
from scaling.inference.served import ServedLine
from scaling.inference.serving_comparison import BUDGET_MULTIPLES, SERVED_PER_TRAINED, served_lines, target_losses
from scaling.sweeps.counting import count

TARGET = 3.0
WORSE = (1.69, 300.0, 0.34, 430.0, 0.28)


def compare(lines, *, target_loss, settings):
    return serving_comparison.compare(lines, served_lines(lines, settings), target_loss=target_loss)


@pytest.fixture
def lines(make_line):
    return [make_line("dense"), make_line("low_rank@0.25", WORSE, 0.25)]


def chosen(rows, kind, *, line=None, form=None, **where):
    """Rows of one kind of choice; `where` are fields of the choice."""
    return [
        r
        for r in rows
        if r.choice.kind == kind
        and line in (None, r.line)
        and form in (None, r.form)
        and all(getattr(r.choice, name) == value for name, value in where.items())
    ]


def test_every_line_form_setting_and_choice_has_a_row(lines, device):
    settings = [Setting(device, 1, 512), Setting(device, 32, 512)]
    comparison = compare(lines, target_loss=TARGET, settings=settings)
    rows = comparison.rows
    per_choice = 3 * len(settings)  # dense, factorized, merged
    assert len(chosen(rows, "cheapest")) == per_choice
    assert len(chosen(rows, "equal_budget")) == per_choice * len(BUDGET_MULTIPLES)
    assert len(chosen(rows, "lifetime")) == per_choice * len(SERVED_PER_TRAINED) * 2
    assert len(comparison.break_even) == 2 * 2 * len(settings)


def test_every_model_reaches_the_loss_and_costs_what_its_size_says(lines, device):
    rows = compare(lines, target_loss=TARGET, settings=[Setting(device, 1, 512)]).rows
    by_name = {line.name: line for line in lines}
    for row in rows:
        line, size = by_name[row.line], row.model.trained
        assert line.loss(size.params, size.tokens) == pytest.approx(TARGET, abs=1e-5)
        assert size.flops == pytest.approx(size.tokens * float(line.flops_per_token(size.params)), rel=1e-6)
        assert row.model.prices.params == pytest.approx(size.params, rel=1e-6) or row.form == "merged"
        nearest = line.curve.nearest(size.params)
        assert row.model.nearest is nearest
        assert nearest.params == count(nearest.shape, nearest.ranks).params_total
        assert row.model.nearest_cost == cost(nearest.shape, nearest.ranks, Setting(device, 1, 512), row.form)


def test_choices_are_ordered_as_they_must_be(lines, device):
    comparison = compare(lines, target_loss=TARGET, settings=[Setting(device, 1, 512)])
    rows = comparison.rows
    dearer = max(r.model.trained.flops for r in chosen(rows, "cheapest"))
    for line, form in (("dense", "dense"), ("low_rank@0.25", "factorized")):
        (own,) = chosen(rows, "cheapest", line=line, form=form)
        sizes = [own.model.trained.params * (1 + 1e-3)]
        for multiple in BUDGET_MULTIPLES:
            (row,) = chosen(rows, "equal_budget", line=line, form=form, budget_multiple=multiple)
            assert row.model.trained.flops == pytest.approx(multiple * dearer)
            sizes.append(row.model.trained.params)
        assert sizes == sorted(sizes, reverse=True)
        life = chosen(rows, "lifetime", line=line, form=form, axis="flops")
        lives = [r.model.trained.params for r in life]
        assert lives == sorted(lives, reverse=True)
        for row in life:
            total, of_own = (
                one.model.trained.flops + row.choice.served_tokens * one.model.prices.decode_flops_per_token
                for one in (row, own)
            )
            assert row.lifetime_cost == pytest.approx(total, rel=1e-6)
            assert total <= of_own * (1 + 1e-9)


def test_a_line_against_itself_is_even(make_line, device):
    twins = [make_line("dense"), make_line("twin")]
    comparison = compare(
        twins, target_loss=TARGET, settings=[Setting(device, 1, 64), Setting(device, 4, 64), Setting(device, 4, 512)]
    )
    for row in comparison.rows:
        assert astuple(row.ratios) == pytest.approx((1.0,) * 5)
    assert all(b.served_tokens == () for b in comparison.break_even)


def test_a_break_even_separates_cheaper_training_from_cheaper_serving(make_line, device):
    """The second line needs more tokens and fewer parameters, so it pays once enough is served."""
    lines = [make_line("dense"), make_line("slow", (1.69, 330.0, 0.34, 560.0, 0.28))]
    comparison = compare(lines, target_loss=TARGET, settings=[Setting(device)])
    flops = next(b for b in comparison.break_even if b.axis == "flops")
    assert flops.cheaper_at_first == "dense"
    (tokens,) = flops.served_tokens
    for share, cheaper in ((0.5, 0), (2.0, 1)):
        costs = [
            ServedLine(line, "dense", Setting(device)).lifetime(TARGET, share * tokens, "flops")[1] for line in lines
        ]
        assert int(np.argmin(costs)) == cheaper


def test_a_line_that_never_reaches_is_shown_and_does_not_stop_the_other(lines, make_line, device):
    hopeless = make_line("low_rank@0.1", (3.5, 300.0, 0.34, 430.0, 0.28), 0.1)
    comparison = compare([*lines, hopeless], target_loss=TARGET, settings=[Setting(device)])
    assert {c.code for c in comparison.checks} >= {"loss_not_reached"}
    rows = comparison.rows
    assert all(
        row.model is None and row.ratios.decode_seconds is None for row in chosen(rows, "cheapest", line="low_rank@0.1")
    )
    assert {row.line for row in chosen(rows, "equal_budget")} == {"dense", "low_rank@0.25"}
    alone = compare([hopeless], target_loss=TARGET, settings=[Setting(device)])
    assert [row.model for row in alone.rows] == [None, None]
    assert alone.break_even == ()


def test_the_reference_may_be_the_one_that_fails(lines, make_line, device):
    hopeless = make_line("dense", (3.5, 300.0, 0.34, 430.0, 0.28))
    comparison = compare([hopeless, lines[1]], target_loss=TARGET, settings=[Setting(device)])
    assert comparison.break_even == ()
    assert all(row.ratios.params is None for row in comparison.rows)


def test_checks_name_what_is_assumed(lines, device):
    codes = lambda settings: {c.code for c in compare(lines, target_loss=TARGET, settings=settings).checks}  # noqa: E731
    assert codes([Setting(device)]) == {"size_extrapolated"}
    assert codes([Setting(DEVICES["h200"])]) == {"size_extrapolated", "uncalibrated"}
    small = replace(device, memory_bytes=1e6)
    assert "too_large_to_serve" in codes([Setting(small)])


def test_training_seconds_are_measured_or_assumed(make_line, device):
    assumed = make_line("dense")
    measured = make_line("dense", training_flops_per_second=lambda params: 0 * params + 1e12)
    rows = [compare([one], target_loss=TARGET, settings=[Setting(device, batch=8)]).rows for one in (assumed, measured)]
    (slow,), (fast,) = (
        chosen(r, "lifetime", axis="device_seconds", served_tokens=r[-1].choice.served_tokens) for r in rows
    )
    assert slow.training_speed == "assumed"
    assert fast.training_speed == "measured"
    for row, rate in ((slow, 0.4 * 1e14), (fast, 1e12)):
        serving = row.choice.served_tokens * row.model.prices.decode_seconds / 8
        assert row.lifetime_cost == pytest.approx(row.model.trained.flops / rate + serving, rel=1e-6)


def test_intervals_come_from_the_draws(make_line, law, device):
    def row(count: int, hopeless: int):
        draw = np.random.default_rng(0)
        floors = 1.69 + 0.01 * draw.normal(size=(count, 1))
        floors[:hopeless] = 3.5
        sizes = 406.4 * np.exp(0.02 * draw.normal(size=(count, 1)))
        line = make_line("dense", draws=LawDraws(count, law(floors, sizes, 0.34, 410.7, 0.28)))
        return chosen(compare([line], target_loss=TARGET, settings=[Setting(device)]).rows, "cheapest")[0]

    told = row(100, 4)
    size, prices = told.model.trained, told.model.prices
    values = (size.params, size.tokens, size.flops, prices.decode_flops_per_token, prices.decode_seconds)
    for value, (low, high) in zip(values, astuple(told.intervals), strict=True):
        assert low < value < high < 1.5 * low
    assert row(100, 6).intervals is None


def test_default_targets_are_reached_by_all_within_the_budget(lines):
    budgets = [1e17, 1e18, 1e19]
    targets = target_losses(lines, budgets)
    assert targets == sorted(targets, reverse=True)
    for target, budget in zip(targets, budgets, strict=True):
        spent = [cheapest(line, target).flops for line in lines]
        assert 0.9 * budget < max(spent) <= budget
