"""The table of optimizers is all that schema, counts, price and training read."""

import dataclasses
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from scaling import optimizers
from scaling.errors import TrainingError
from scaling.hardware import DEVICES
from scaling.optimizers import OPTIMIZERS, TUNABLE, Constant, OptimizerSpec, find_optimizer
from scaling.rows import RunRow
from scaling.run import Optimizer, Shape
from scaling.spec import read_yaml
from scaling.sweeps import counting
from scaling.sweeps.grids import plan
from scaling.sweeps.memory import training_memory
from scaling.sweeps.price import price
from scaling.sweeps.schema import load_sweep, read_sweep
from scaling.training.update_rules import UPDATES, hidden_rule

QUICKSTART = Path(__file__).parents[1] / "sweeps" / "quickstart.yaml"
SHAPE = Shape(layers=2, width=32, heads=4, ff_width=88, vocab_size=64)
LION = OptimizerSpec(
    "lion", "Chen et al. 2023, arXiv 2302.06675", {"momentum": Constant(0.99, "the same")}, flops_per_param=6
)


def run_optimizer(name: str, **constants: Any) -> Optimizer:
    return Optimizer(name, 0.02, 0.02, 0.9, 0.95, 1e-8, **constants)


@pytest.fixture
def with_lion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimizers, "OPTIMIZERS", {**OPTIMIZERS, "lion": LION})


def test_training_has_an_update_for_every_entry_and_no_other() -> None:
    assert UPDATES.keys() == OPTIMIZERS.keys()


def test_every_constant_is_a_field_of_a_run_and_has_a_source() -> None:
    fields = {f.name for f in dataclasses.fields(Optimizer)}
    for spec in OPTIMIZERS.values():
        assert spec.source
        assert spec.constants.keys() <= fields
        assert all(constant.source for constant in spec.constants.values())
    with pytest.raises(AssertionError, match="warmth is no field"):
        OptimizerSpec("x", "nowhere", {"warmth": Constant(1.0, "nowhere")})


def test_what_is_off_is_none_and_what_is_given_wins() -> None:
    spectron = OPTIMIZERS["spectron"]
    assert spectron.values({}) == {
        "momentum": 0.95,
        "nesterov": True,
        "newton_schulz_steps": 5,
        "shape_factor": None,
        "spectral_weight_decay": None,
    }
    assert spectron.values({"momentum": 0.9, "nesterov": False})["momentum"] == 0.9
    assert spectron.values({"nesterov": False})["nesterov"] is None


def test_what_may_be_tuned_keeps_its_order() -> None:
    assert set(TUNABLE) <= {field.name for field in dataclasses.fields(RunRow)}, (
        "without a column settings would count as seeds"
    )
    assert TUNABLE == ("lr", "other_lr", "weight_decay", "momentum", "spectral_weight_decay", "batch_tokens")


def test_an_entry_is_all_that_schema_counts_and_price_need(with_lion: None, tmp_path: Path) -> None:
    path = tmp_path / "lion.yaml"
    path.write_text(QUICKSTART.read_text().replace("optimizer: muon", "optimizer: lion"))
    sweep = load_sweep(path)
    planned = plan(sweep, vocab_size=256)
    run = next(one.run for one in planned.runs if one.run.optimizer.name == "lion")
    assert run.optimizer.momentum == 0.99
    assert run.optimizer.newton_schulz_steps is None
    counts = counting.count(run.shape, run.ranks)
    per_step = counting.optimizer_flops(run.shape, run.ranks, run.optimizer, 1)
    assert per_step == 6 * counts.hidden + 14 * (counts.params_total - counts.hidden)
    state = counting.state_bytes(run) - 4 * counts.params_total
    assert state == 4 * counts.hidden + 8 * (counts.params_total - counts.hidden)
    assert price(planned, device=DEVICES["cpu"]).totals.hours > 0


def test_a_users_own_optimizer_is_found_by_its_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def entry_points(*, group: str, name: str) -> list[EntryPoint]:
        asked.append((group, name))
        return [EntryPoint(name, f"{__name__}:LION", group)] if name == "lion" else []

    monkeypatch.setattr(optimizers, "entry_points", entry_points)
    monkeypatch.setattr(EntryPoint, "load", lambda self: LION)
    assert find_optimizer("muon") is OPTIMIZERS["muon"]
    assert not asked
    assert find_optimizer("lion") is LION
    assert asked == [("scaling.optimizers", "lion")]


def test_a_name_that_nobody_knows_is_an_error_everywhere(tmp_path: Path) -> None:
    unknown = run_optimizer("mion", momentum=0.95, newton_schulz_steps=5)
    run = plan(load_sweep(QUICKSTART), vocab_size=256).runs[0].run
    path = tmp_path / "mion.yaml"
    path.write_text(QUICKSTART.read_text().replace("optimizer: muon", "optimizer: mion"))
    for ask in (
        lambda: counting.optimizer_flops(SHAPE, None, unknown, 1),
        lambda: counting.state_bytes(dataclasses.replace(run, optimizer=unknown)),
        lambda: training_memory(dataclasses.replace(run, optimizer=unknown), sequences=1),
        lambda: hidden_rule(None, unknown),  # type: ignore[arg-type]
    ):
        with pytest.raises(TrainingError, match="no such optimizer") as error:
            ask()
        assert "muon" in str(error.value)
    with pytest.raises(Exception, match="no such optimizer") as refused:
        read_sweep(read_yaml(path))
    assert "did you mean 'muon'" in str(refused.value)


def test_a_rule_that_orthogonalises_says_with_how_many_steps() -> None:
    assert OPTIMIZERS["muon"].orthogonalising_steps(run_optimizer("muon", newton_schulz_steps=3)) == 3
    assert OPTIMIZERS["spectron_renormalise_only"].orthogonalising_steps(run_optimizer("x")) == 0
    with pytest.raises(TrainingError, match="Newton-Schulz"):
        counting.optimizer_flops(SHAPE, None, run_optimizer("muon"), 1)
