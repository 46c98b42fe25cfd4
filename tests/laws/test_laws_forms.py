from dataclasses import replace

import numpy as np
import pytest
from laws_cases import HOFFMANN, chinchilla_loss, isoflop_design, isoflop_points

from scaling.errors import FitError
from scaling.laws.fitting import fit
from scaling.laws.forms import CHINCHILLA, FORMS, KAPLAN, form_named, joint
from scaling.laws.line_study import study_line
from scaling.laws.points import Points
from scaling.laws.repeated_tokens import with_unique_params

RATIOS = (np.nan, 0.125, 0.25, 0.5)


def ranked_points(worth, ratios=RATIOS, noise=0.0, seed=0):
    """Lines with 20 % plain parameters whose factorized ones are worth `worth[ratio]` each."""
    columns = {"params": [], "tokens": [], "loss": [], "rank_ratio": [], "factorized_params": [], "relative_rank": []}
    columns["line"] = []
    for ratio in ratios:
        params, tokens, _ = isoflop_design()
        fact = np.zeros(len(params)) if np.isnan(ratio) else 0.8 * params * (params / params.mean()) ** 0.02
        fact = np.minimum(fact, 0.95 * params)
        kappa = 1.0 if np.isnan(ratio) else worth[ratio]
        loss = chinchilla_loss(HOFFMANN, params - fact + kappa * fact, tokens)
        columns["params"].append(params)
        columns["tokens"].append(tokens)
        columns["loss"].append(loss)
        columns["rank_ratio"].append(np.full(len(params), ratio))
        columns["factorized_params"].append(fact)
        columns["relative_rank"].append(np.full(len(params), 1.0 if np.isnan(ratio) else ratio))
        columns["line"].append(np.full(len(params), "dense" if np.isnan(ratio) else f"low_rank@{ratio:g}"))
    table = {name: np.concatenate(parts) for name, parts in columns.items()}
    table["loss"] = table["loss"] * np.exp(noise * np.random.default_rng(seed).normal(size=len(table["loss"])))
    return Points(**table)


def test_kaplan_is_recovered_and_its_exponents_follow_from_it():
    p = {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103}
    params, tokens, _ = isoflop_design(decades=4)
    made = fit(Points(params, tokens, KAPLAN.loss(p, params, tokens)), "kaplan")
    assert made.parameters == pytest.approx(p, rel=1e-6)
    # min over N of (u N^-mu + v/D) at N D fixed: N grows as C^(1/(1+mu)).
    mu = 0.076 / 0.103
    assert made.exponents == pytest.approx({"N": 1 / (1 + mu), "D": mu / (1 + mu)}, rel=1e-6)


def test_power_is_recovered_and_drops_its_floor_below_five_budgets():
    compute = np.geomspace(1e18, 1e21, 6)
    params = 0.1 * compute**0.5
    loss = 1.5 + 900 * compute**-0.15
    made = fit(Points(params, compute / (6 * params), loss), "power")
    assert made.parameters == pytest.approx({"E": 1.5, "K": 900, "gamma": 0.15}, rel=1e-6)
    assert made.exponents == {}
    few = fit(Points(params[:4], compute[:4] / (6 * params[:4]), 900 * compute[:4] ** -0.15), "power")
    assert few.parameters == pytest.approx({"K": 900, "gamma": 0.15}, rel=1e-6)


def test_rank_finds_what_a_factorized_parameter_is_worth():
    worth = {0.125: 0.4, 0.25: 0.7, 0.5: 1.3}
    made = fit(ranked_points(worth), "rank")
    want = HOFFMANN | {f"kappa@{ratio:g}": value for ratio, value in worth.items()}
    assert made.parameters == pytest.approx(want, rel=1e-6)


def test_rank_power_finds_gamma():
    made = fit(ranked_points({ratio: ratio**0.35 for ratio in RATIOS[1:]}), "rank_power")
    assert made.parameters == pytest.approx(HOFFMANN | {"gamma": 0.35}, rel=1e-6)


def test_rank_recovers_under_noise_and_kappa_is_inside_its_interval():
    from scaling.laws.draws import bootstrap

    made = fit(ranked_points({0.125: 0.4, 0.25: 0.7, 0.5: 1.3}, noise=0.003), "rank", objective="log_mse")
    draws = bootstrap(made, draws=200, kind="residuals")
    assert draws.failed == 0
    for name, value in (("kappa@0.25", 0.7), ("kappa@0.5", 1.3), ("alpha", HOFFMANN["alpha"])):
        low, high = draws.interval(name, 0.999)
        assert low < value < high


def two_lines(second):
    a, b = isoflop_points(), isoflop_points(second, low=2e18)
    line = ["dense"] * len(a) + ["low_rank@0.25"] * len(b)
    columns = {name: np.concatenate([getattr(a, name), getattr(b, name)]) for name in ("params", "tokens", "loss")}
    return Points(**columns, line=np.array(line))


def test_joint_shares_what_it_is_told_to():
    made = fit(two_lines(HOFFMANN | {"A": 700.0, "B": 1500.0}), "joint")
    assert made.parameters == pytest.approx(
        {
            "A[dense]": 482.01,
            "A[low_rank@0.25]": 700.0,
            "B[dense]": 2085.43,
            "B[low_rank@0.25]": 1500.0,
            "alpha": 0.3478,
            "beta": 0.3658,
            "E": 1.8172,
        },
        rel=1e-6,
    )
    assert set(made.exponents) == {"N", "D"}


def test_joint_with_free_exponents_shows_how_scaling_differs():
    points = two_lines(HOFFMANN | {"A": 300.0, "alpha": 0.3})
    made = fit(points, joint(CHINCHILLA, shared=("B", "beta", "E")))
    assert made.parameters["alpha[low_rank@0.25]"] == pytest.approx(0.3, rel=1e-6)
    assert made.parameters["alpha[dense]"] == pytest.approx(0.3478, rel=1e-6)
    assert made.exponents["N[low_rank@0.25]"] == pytest.approx(0.3658 / 0.6658, rel=1e-6)


def test_joint_shares_a_coefficient_at_one_parameter_not_at_the_centre():
    points = two_lines(HOFFMANN | {"alpha": 0.33})
    made = fit(points, joint(CHINCHILLA, shared=("A", "B", "beta", "E")))
    assert made.parameters["A"] == pytest.approx(482.01, rel=1e-5)
    assert made.parameters["alpha[low_rank@0.25]"] == pytest.approx(0.33, rel=1e-6)


WORN = HOFFMANN | {"R_N": 5.3, "R_D": 15.4}


def repeated_points(deserved):
    """120 runs of one to 100 epochs; `deserved(U)` are the compute-optimal parameters of U distinct tokens."""
    rng = np.random.default_rng(0)
    unique = 10 ** rng.uniform(8.5, 9.5, 120)
    epochs = np.where(np.arange(120) % 3 == 0, 1.0, 10 ** rng.uniform(0, 2, 120))
    tokens, params = unique * epochs, 10 ** rng.uniform(7, 9.5, 120)
    unique_params = np.minimum(deserved(unique), params)

    def worn(used, first, scale):
        return first * (1 + scale * (1 - np.exp(-(used / first - 1) / scale)))

    loss = chinchilla_loss(WORN, worn(params, unique_params, WORN["R_N"]), worn(tokens, unique, WORN["R_D"]))
    return Points(params, tokens, loss, unique_tokens=unique, unique_params=unique_params)


def test_data_constrained_finds_how_repeated_tokens_wear_out():
    made = fit(repeated_points(lambda unique: 0.05 * unique), "data_constrained")
    assert made.parameters == pytest.approx(WORN, rel=1e-5)


def test_data_constrained_finds_the_parameters_that_the_distinct_tokens_deserve():
    p = WORN
    points = repeated_points(
        lambda unique: (p["alpha"] * p["A"] / (p["beta"] * p["B"]) * unique ** p["beta"]) ** (1 / p["alpha"])
    )
    bare = replace(points, unique_params=None)
    assert with_unique_params(bare).unique_params == pytest.approx(points.unique_params, rel=1e-4)
    number = np.arange(120)
    with pytest.raises(FitError, match=r"do not determine a law[\s\S]*3 of 83 runs"):
        with_unique_params(bare.select(np.flatnonzero((number % 3 > 0) | (number < 9))))
    with pytest.raises(FitError, match="unique_tokens"):
        study_line(replace(bare, unique_tokens=None), law="data_constrained", draws=0)
    study = study_line(bare, law="data_constrained", draws=0)
    assert study.fit.parameters == pytest.approx(WORN, rel=1e-3)


def test_formula_and_solver_agree():
    points = isoflop_points(noise=0.01)
    for law in ("chinchilla", "kaplan", "power"):
        made = fit(points, law)
        assert made.loss(points.params, points.tokens) == pytest.approx(made.predict(points), rel=1e-10)
        assert np.log(points.loss / made.predict(points)) == pytest.approx(made.residuals, abs=1e-12)


def test_what_cannot_be_identified_is_refused_in_words():
    worth = {0.125: 0.4, 0.25: 0.7, 0.5: 1.3}
    with pytest.raises(FitError, match="without a dense line"):
        fit(ranked_points(worth, ratios=(0.25,)), "rank")
    with pytest.raises(FitError, match="every point is dense"):
        fit(ranked_points(worth, ratios=(np.nan,)), "rank")
    with pytest.raises(FitError, match="slope over rank ratios"):
        fit(ranked_points(worth, ratios=(np.nan, 0.25, 0.5)), "rank_power")
    with pytest.raises(FitError, match="between lines"):
        fit(one_line(), "joint")
    with pytest.raises(FitError, match="columns these points do not have"):
        fit(isoflop_points(), "rank")
    with pytest.raises(FitError, match="cannot share"):
        joint(KAPLAN, shared=("alpha_D",))
    with pytest.raises(FitError, match="cannot share"):
        joint(CHINCHILLA, shared=("kappa",))


def one_line():
    points = isoflop_points()
    return Points(points.params, points.tokens, points.loss, line=np.full(len(points), "dense"))


def test_every_form_is_named_and_sourced():
    for name, form in FORMS.items():
        assert form_named(name) is form
        assert form.formula.startswith("L = ")
        assert form.source
