"""What a killed worker leaves of a finished run goes with the next launch; what the run keeps stays."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from scaling.results.owner import Owner
from scaling.results.store import Store
from scaling.results.tidy import sweep_run


@pytest.mark.parametrize(
    ("event", "alive", "keep", "left"),
    [
        ("completed", True, "none", {"weights.safetensors"}),
        (None, False, "none", set()),
        (None, False, "weights", {"weights.safetensors"}),
        (None, True, "none", {"weights.safetensors", "00000012-0001.pt", "link.pt"}),
    ],
    ids=["completed", "killed between publish and tidy", "the same, weights kept", "still at it"],
)
def test_a_finished_run_keeps_no_checkpoint(tmp_path: Path, tiny_run, a_result, event, alive, keep, left) -> None:
    store, run, precious = Store(tmp_path / "store"), tiny_run(), tmp_path / "precious"
    store.add(run)
    owner = Owner.current() if alive else dataclasses.replace(Owner.current(), boot_id="before the reboot")
    attempt = store.claim(run.id, owner)
    store.publish(attempt, a_result())
    if event:
        attempt.log({"event": event})
    precious.write_text("precious")
    store.checkpoints(run.id).mkdir()
    for name in ("weights.safetensors", "00000012-0001.pt"):
        (store.checkpoints(run.id) / name).touch()
    (store.checkpoints(run.id) / "link.pt").symlink_to(precious)
    sweep_run(store, run.id, keep=keep)
    assert {path.name for path in store.checkpoints(run.id).iterdir()} == left
    assert precious.read_text() == "precious"
