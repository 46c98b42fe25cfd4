import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from scaling.run import NUMERICS, DataRef, Initialisation, Optimizer, Result, Run, Schedule, Shape

GOLDEN = Path(__file__).parent / "golden" / "run_ids.json"


def low_rank() -> Run:
    shape = Shape(layers=2, width=32, heads=2, ff_width=88, vocab_size=256)
    return Run(
        shape=shape,
        parameterization="low_rank",
        initialisation=Initialisation(embedding_std=0.3, head_std=0.0, hidden_gain=1.0),
        optimizer=Optimizer(
            name="spectron",
            lr=0.05,
            other_lr=0.02,
            beta1=0.9,
            beta2=0.95,
            eps=1e-8,
            momentum=0.95,
            nesterov=True,
            newton_schulz_steps=5,
        ),
        schedule=Schedule("linear", 50, 0.0),
        steps=1000,
        batch_tokens=512,
        sequence_length=128,
        seed=0,
        data=DataRef("python-packages", "bytes", 128_000),
        ranks=dict.fromkeys(shape.matrices(), 8),
    )


@pytest.mark.parametrize("name", sorted(json.loads(GOLDEN.read_text())))
def test_ids_are_those_of_the_golden_file_in_any_key_order(name: str) -> None:
    golden = json.loads(GOLDEN.read_text())[name]
    settings = golden["settings"]
    backwards = {k: dict(reversed(v.items())) if isinstance(v, dict) else v for k, v in reversed(settings.items())}
    assert Run.from_settings(settings).id == golden["id"]
    assert Run.from_settings(backwards).id == golden["id"]
    assert Run.from_settings(settings).settings() == settings


def test_id_is_the_hash_of_the_canonical_json_of_the_settings() -> None:
    for run in (low_rank(), dataclasses.replace(low_rank(), data=DataRef("c", "bytes", 9, (("é", "a/b.txt"),)))):
        text = json.dumps(run.settings(), sort_keys=True, separators=(",", ":"))
        assert run.canonical == text
        assert run.id == hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def test_id_does_not_depend_on_the_process() -> None:
    code = (
        "import json, sys; from scaling.run import Run; "
        "print(json.dumps({k: Run.from_settings(v['settings']).id for k, v in json.load(open(sys.argv[1])).items()}))"
    )
    env = {**os.environ, "PYTHONHASHSEED": "12345"}
    found = subprocess.run(
        [sys.executable, "-c", code, str(GOLDEN)], env=env, capture_output=True, text=True, check=True
    ).stdout
    assert json.loads(found) == {name: one["id"] for name, one in json.loads(GOLDEN.read_text()).items()}


def changed(value: object) -> object:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return value + 1
    return f"{value}x" if isinstance(value, str) else "x"


def test_every_setting_changes_the_id() -> None:
    run = low_rank()
    seen = {run.id}
    for field in dataclasses.fields(Run):
        value = getattr(run, field.name)
        if dataclasses.is_dataclass(value):
            parts = [
                dataclasses.replace(value, **{part.name: changed(getattr(value, part.name))})
                for part in dataclasses.fields(value)
                if not (field.name == "data" and part.name == "validation")
            ]
        elif field.name == "ranks":
            parts = [{**run.ranks, name: 7} for name in run.ranks]
        else:
            parts = [changed(value)]
        for part in parts:
            other = dataclasses.replace(run, **{field.name: part}).id
            assert other not in seen, (field.name, part)
            seen.add(other)


def test_a_field_that_is_off_is_left_out_so_new_options_keep_old_ids() -> None:
    settings = low_rank().settings()
    assert "self_guided" not in settings
    assert "weight_decay" not in settings["optimizer"]
    assert settings["numerics"] == NUMERICS


def test_result_survives_json_and_ignores_fields_of_later_versions() -> None:
    result = Result("completed", 1.5, 0.01, 1.5, 1.6, 10, 5120, 1e9, 9e8, 1e7, 2.5, 0.1, "cpu", "2.13.0", "abc")
    text = json.dumps({**result.to_json(), "of_a_later_version": 1})
    assert Result.from_json(json.loads(text)) == result
