import copy
from collections.abc import Callable
from math import log
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.errors import PlanError, ScalingError, SpecError
from scaling.hardware import find_device
from scaling.sweeps.counting import count
from scaling.sweeps.grids import plan
from scaling.sweeps.ladders import LADDERS, LadderRule
from scaling.sweeps.price import price
from scaling.sweeps.recipes import RECIPES
from scaling.sweeps.schema import Sweep, load_sweep, require_paths, sweep_root

Values = dict[str, Any]
Read = Callable[[Values], Sweep]


def changed(values: Values, place: str, value: object) -> Values:
    """`values` with one key set, or removed where the value is None."""
    values = copy.deepcopy(values)
    block, *keys = values, *place.split(".")
    for key in keys[:-1]:
        block = block[key]
    if value is None:
        del block[keys[-1]]
    else:
        block[keys[-1]] = value
    return values


BAD = [
    ("grdi", {}, ["unknown key 'grdi'", "did you mean 'grid'?"]),
    ("grid.budget", [1e10], ["grid.budget", "did you mean 'budgets'?"]),
    ("grid.budgets", [-1e10], ["grid.budgets[0]", "more than 0"]),
    ("grid.budgets", [], ["grid.budgets", "at least one"]),
    ("grid.budgets", "lots", ["grid.budgets", "found:   lots"]),
    ("grid.budgets", ["2e10", "2e10"], ["grid.budgets", "twice"]),
    ("grid.ladder", "tinny", ["grid.ladder", "did you mean 'tiny'?"]),
    ("grid.ladder", [], ["grid.ladder", "at least one"]),
    ("grid.ladder", 7, ["grid.ladder", "not a ladder"]),
    ("grid.ladder", [{"layers": 1, "width": 15, "heads": 1, "ff_width": 8}], ["grid.ladder[0].heads", "even"]),
    ("grid.ladder", [{"layers": 0, "width": 16, "heads": 1, "ff_width": 8}], ["grid.ladder[0].layers", "at least 1"]),
    ("grid.ladder", {"rule": {"params": [1, "x"], "sizes": 3}}, ["grid.ladder.rule.params[1]", "not a number"]),
    ("grid.ladder", {"rule": {"params": ["1M", "2M"], "sizes": 900}}, ["grid.ladder", "too few shapes"]),
    ("grid.ladder", {"rule": {"params": ["100k", "10M"], "sizes": 5}}, ["grid.ladder", "none near 1e+05 parameters"]),
    ("grid.kind", "isoflops", ["grid.kind", "'isoflop'"]),
    ("grid.kind", None, ["grid", "kind"]),
    ("grid.centre", None, ["grid", "'centre' is missing"]),
    ("grid.centre", {"n_opt": 3}, ["grid.centre", "'at' is missing"]),
    ("grid.centre", {"n_opt": 3, "at": 4, "exponnent": 1}, ["exponnent", "did you mean 'exponent'?"]),
    ("grid.centre", {"dense": "hoffmann-2022-3", "lowrank": "hoffmann-2022-3"}, ["lowrank", "low_rank"]),
    ("grid.sizes", "all", ["grid", "how many sizes"]),
    ("grid.lines", {"low_rank@0.3": {"budgets": [1e10]}}, ["grid", "low_rank@0.25"]),
    ("grid.flops", "approximate", ["grid.flops", "'exact'"]),
    ("families", {}, ["families", "at least one"]),
    ("families.dense.rank_ratio", 0.5, ["families.dense.rank_ratio", "a dense family has no rank_ratio"]),
    ("families.dense.optimizer", "spectron", ["families.dense.optimizer", "allowed: adamw"]),
    ("families.dense.optimizer", "mion", ["families.dense.optimizer", "did you mean 'muon'?"]),
    ("families.dense.optimizer", "adamw", None),
    ("families.dense.lr", "quick", ["families.dense.lr", "not a number"]),
    ("families.dense.lr", {"recipe": "mup"}, ["families.dense.lr.recipe", "inverse-width"]),
    ("families.dense.lr", {"recipe": "inverse-width", "bass": 1}, ["families.dense.lr.bass", "did you mean 'base'?"]),
    ("families.dense.lr", [0.1, 0.1], ["families.dense.lr", "twice"]),
    ("families.dense.spectral_weight_decay", 0.1, ["spectral_weight_decay", "the optimizer muon has no"]),
    ("families.low_rank.rank_ratio", None, ["families.low_rank", "'rank_ratio' is missing"]),
    ("families.low_rank.rank_ratio", [0.25, 1.5], ["families.low_rank.rank_ratio[1]", "at most 1"]),
    ("families.low_rank.self_guided", 0.5, ["families.low_rank.self_guided", "no dense helper"]),
    ("families.low_rank.lines", {"low_rank@0.3": {"lr": 0.1}}, ["low_rank has no line", "low_rank@0.25"]),
    ("families.low_rank.lines", {"low_rank@0.25": {"lrr": 0.1}}, ["families.low_rank.lines", "did you mean 'lr'?"]),
    ("families.a/b", {"parameterization": "dense", "optimizer": "muon", "lr": 1}, ["families", "not a name"]),
    ("training.batch_tokens", 100, ["training.batch_tokens", "for example 128"]),
    ("training.batch_tokens", None, ["training", "'batch_tokens' is missing"]),
    ("training.sequence_length", 0, ["training.sequence_length", "at least 1"]),
    ("training.seeds", [1, 1], ["training.seeds", "twice"]),
    ("training.replicates", {"budget": "medium"}, ["training.replicates.budget", "not a number"]),
    ("training.schedule", {"kind": "wsd"}, ["training.schedule", "decay"]),
    ("training.schedule", {"warmup": 1.5}, ["training.schedule.warmup", "less than 1"]),
    ("training.precision", "float8", ["training.precision", "'bfloat16'"]),
    ("tune", {"cells": 2}, ["tune", "nothing to tune"]),
    ("analysis", {"law": "chinchila"}, ["analysis.law", "did you mean 'chinchilla'?"]),
    ("analysis", {"devices": ["h300"]}, ["analysis.devices", "h200"]),
    ("analysis", {"where": {"min_step": 3}}, ["analysis.where.min_step", "did you mean 'min_steps'?"]),
    ("analysis", {"exclude": [{"run": "abc"}]}, ["analysis.exclude[0]", "'reason' is missing"]),
    ("analysis", {"claims": [{"order": ["dense", "low_rnk@0.25"], "source": "us"}]}, ["claims[0]", "low_rank@0.25"]),
    ("analysis", {"claims": [{"order": ["dense"], "source": "us"}]}, ["analysis.claims[0].order", "at least 2"]),
    ("analysis", {"claims": [{"order": ["low_rank@0.25", "dense"], "source": "us"}]}, None),
    ("sweep", "../../etc/passwd", ["sweep", "not a name"]),
    ("sweep", "a; rm -rf $HOME", ["sweep", "not a name"]),
    ("sweep", 3, ["sweep", "not a name"]),
    ("question", None, ["'question' is missing"]),
]


@pytest.mark.parametrize(("place", "value", "says"), BAD, ids=[f"{place}={value}"[:40] for place, value, _ in BAD])
def test_a_mistake_is_one_error_with_file_line_and_key(
    small: Values, read: Read, place: str, value: object, says: list[str] | None
) -> None:
    values = changed(small, place, value)
    if says is None:
        read(values)
        return
    with pytest.raises(SpecError) as error:
        read(values)
    message = str(error.value)
    assert "small.yaml:" in message
    for text in says:
        assert text in message, message


@pytest.mark.parametrize(
    ("place", "value", "key"),
    [
        ("data.corpus", "texts/none.txt", "data.corpus"),
        ("data.validation", {"code": "./none"}, "data.validation.code"),
    ],
)
def test_data_that_are_missing_are_named_where_they_are_needed(
    small: Values, read: Read, tmp_path: Path, place: str, value: object, key: str
) -> None:
    """A report of a results folder needs the sweep and not its data."""
    sweep = read(changed(small, place, value))
    with pytest.raises(SpecError, match=rf"small.yaml:\d+: {key}: no such file or folder"):
        require_paths(sweep, tmp_path)


def test_a_grid_of_a_billion_cells_is_refused(small: Values, read: Read) -> None:
    small["grid"]["budgets"] = [f"{1 + n / 1000:.3f}e11" for n in range(1000)]
    small["grid"] |= {"ladder": {"rule": {"params": ["1M", "10T"], "sizes": 1000, "head_dim": 2}}, "sizes": "all"}
    del small["grid"]["sizes_per_budget"], small["grid"]["centre"]
    small["training"]["seeds"] = list(range(1000))
    small["grid"]["ladder"] = "tiny"
    with pytest.raises(PlanError, match="51,000,000 runs"):
        plan(read(small), vocab_size=256)


def test_the_root_is_the_parent_of_sweeps_else_the_files_folder() -> None:
    assert sweep_root(Path("/a/sweeps/x.yaml")) == Path("/a")
    assert sweep_root(Path("/a/other/x.yaml")) == Path("/a/other")


def test_paths_are_found_from_the_root(small: Values, read: Read, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    small["data"] = {"corpus": "texts/a.txt", "validation": {"more": "texts"}}
    require_paths(read(small), tmp_path)
    small["data"] = {"corpus": "hf:owner/name"}
    require_paths(read(small), tmp_path)


@pytest.mark.parametrize(
    ("low", "high", "sizes", "head_dim"), [("1M", "1B", 12, 64), ("100k", "10M", 5, 16), ("1B", "100B", 20, 128)]
)
def test_the_rule_fills_its_range_evenly(low: str, high: str, sizes: int, head_dim: int) -> None:
    rule = LadderRule.model_validate({"params": [low, high], "sizes": sizes, "head_dim": head_dim})
    logs = [log(count(rung.shape(1)).params_non_embedding) for rung in rule.ladder()]
    step = log(rule.params[1] / rule.params[0]) / (sizes - 1)
    assert len(logs) == sizes
    assert logs == sorted(logs)
    for n, size in enumerate(logs):
        assert size == pytest.approx(log(rule.params[0]) + n * step, abs=step / 2)
    for rung in rule.ladder():
        assert rung.width % rule.head_dim == 0
        assert rung.ff_width % rule.multiple_of == 0
        assert 0.6 < rung.width / rung.layers / rule.width_per_layer < 1.7 or rung.layers == 1


def test_every_ladder_grows_and_every_recipe_has_a_source() -> None:
    for ladder in LADDERS.values():
        assert len({rung.name for rung in ladder}) == len(ladder)
        assert [rung.width for rung in ladder] == sorted(rung.width for rung in ladder)
        assert all(rung.width % rung.heads == 0 and rung.width // rung.heads % 2 == 0 for rung in ladder)
    assert all("20" in rule.source and rule.checked for rule in RECIPES.values())


def words() -> st.SearchStrategy[object]:
    scalars = (
        st.none()
        | st.booleans()
        | st.integers(-10, 10**12)
        | st.floats(allow_nan=True)
        | st.sampled_from(["1e10", "128k", "tiny", "dense", "all", "low_rank@0.25", "hoffmann-2022-3", "results/x", ""])
        | st.text(max_size=5)
    )
    return st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))


KEYS = st.sampled_from(["kind", "n_opt", "at", "recipe", "rule", "sizes", "budget", "dense", "warmup", "cells", "x"])
PLACES = sorted({place for place, _, _ in BAD if place not in ("grdi", "families.a/b")})


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), words()), min_size=1, max_size=3))
def test_fuzzed_sweeps_end_in_a_plan_or_one_error(small: Values, tmp_path: Path, changes: list[Any]) -> None:
    values = copy.deepcopy(small)
    for place, value in changes:
        try:
            values = changed(values, place, value)
        except (KeyError, TypeError):
            continue  # an earlier change removed the block
    path = tmp_path / "fuzzed.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8")
    message = "fuzzed.yaml:"
    try:
        sweep = load_sweep(path)
        price(plan(sweep, vocab_size=256, root=tmp_path), device=find_device("cpu"), corpus_tokens=1e6).document()
    except ScalingError as error:
        message = str(error)
    assert "fuzzed.yaml:" in message


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(data=st.data())
def test_a_sweep_with_a_damaged_text_ends_in_a_plan_or_one_error(
    small: Values, tmp_path: Path, data: st.DataObject
) -> None:
    text = yaml.safe_dump(small, sort_keys=False)
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 30)))
    text = text[:start] + data.draw(st.text(alphabet="abz:-{}[]&*!,#'\"\n 019.e@/", max_size=12)) + text[end:]
    path = tmp_path / "damaged.yaml"
    path.write_text(text)
    message = "damaged.yaml:"
    try:
        plan(load_sweep(path), vocab_size=256, root=tmp_path)
    except ScalingError as error:
        message = str(error)
    assert "damaged.yaml:" in message
