"""Files appear whole or not at all, and exclusively where that is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

import scaling.files as files


def test_a_write_that_fails_leaves_the_old_file_and_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    files.write_atomic(path, "old")

    def power_cut(point: str) -> None:
        raise InterruptedError(point)

    monkeypatch.setattr(files, "fault_hook", power_cut)
    with pytest.raises(InterruptedError, match=r"replace a\.json"):
        files.write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_exclusive_creation_has_one_winner(tmp_path: Path) -> None:
    path = tmp_path / "claim.json"
    assert files.create_exclusive(path, "first")
    assert not files.create_exclusive(path, "second")
    assert path.read_text() == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["claim.json"]


def test_json_is_finite_and_ends_with_a_newline() -> None:
    assert files.to_json({"b": 1, "a": [1.5]}) == '{\n "a": [\n  1.5\n ],\n "b": 1\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        files.to_json({"a": float("nan")})
