"""Files appear whole or not at all, and exclusively where that is asked."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import scaling.files as files


@pytest.mark.parametrize("at", ["write", "flush", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    path = tmp_path / "a.json"
    files.write_atomic(path, "old")

    def power_cut(point: str) -> None:
        if point.startswith(at):
            raise InterruptedError(point)

    monkeypatch.setattr(files, "fault_hook", power_cut)
    with pytest.raises(InterruptedError, match=rf"{at} a\.json"):
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


def test_only_regular_files_are_read_and_appended_to(tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "target", tmp_path / "link", tmp_path / "pipe"
    target.write_text("secret")
    link.symlink_to(target)
    os.mkfifo(pipe)
    for path in (link, pipe, tmp_path):
        with pytest.raises(OSError, match=r"."):
            files.read_regular(path)
        with pytest.raises(OSError, match=r"."):
            files.append_line(path, b"more")
    assert files.read_regular(target) == b"secret"
    assert files.read_regular(target, tail_bytes=3) == b"ret"


def test_the_umask_of_the_process_is_honoured_and_never_changed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "umask", None)  # nothing may call it
    files.write_atomic(tmp_path / "a", "x")
    files.create_exclusive(tmp_path / "b", "x", mode=0o600)
    monkeypatch.undo()
    before = os.umask(0o027)
    try:
        files.write_atomic(tmp_path / "c", "x")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in "abc"]
    assert modes == [0o666 & ~before, 0o600, 0o640]


def test_temporary_files_of_dead_processes_are_swept(tmp_path: Path) -> None:
    host = files._host()
    dead, mine = f".a.json.{host}.4194305.01234567.tmp", f".a.json.{host}.{os.getpid()}.01234567.tmp"
    elsewhere, other = ".a.json.other-host.4194305.01234567.tmp", "a.tmp"
    for name in (dead, mine, elsewhere, other):
        (tmp_path / name).touch()
    files.sweep_temporary(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {mine, elsewhere, other}
