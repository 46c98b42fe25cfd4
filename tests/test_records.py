"""A record proves itself: format, run, and every byte of it."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
from pathlib import Path

import pytest

from scaling.errors import DamagedRecord, NewerRecord, StoreError
from scaling.locks import hold
from scaling.records import FORMAT, bad_records, read_record, sealed, set_aside

TEXT = sealed({"loss": 2.5, "name": "é", "list": [1, 2]}, run_id="mine")


def test_what_is_sealed_is_json_and_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for indent in (1, None):
        path.write_text(sealed({"loss": 2.5}, run_id="mine", indent=indent))
        assert json.loads(path.read_text()).keys() == {"loss", "run_id", "schema_version", "checksum"}
        assert read_record(path, run_id="mine").values == {"loss": 2.5}
        assert read_record(path, run_id="mine").format == FORMAT
    path.write_text('{"loss": 2.5}')
    assert read_record(path, run_id="mine").format == 1


def test_every_changed_byte_and_every_cut_is_found(tmp_path: Path) -> None:
    path, good = tmp_path / "a.json", TEXT.encode()
    damaged = [good[:at] for at in range(len(good))]
    damaged += [good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :] for at in range(len(good)) for bit in (1, 32, 128)]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises((DamagedRecord, NewerRecord)):
            assert read_record(path, run_id="mine").values == {}, content


@pytest.mark.parametrize("text", ["", "null", "[]", '{"a": NaN}', '{"schema_version": "2"}', "[" * 100_000, "\ud800"])
def test_what_is_no_record_is_damaged(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DamagedRecord):
        read_record(path)


def test_another_run_a_later_format_and_a_link_are_refused(tmp_path: Path) -> None:
    path, link, folder = tmp_path / "a.json", tmp_path / "link.json", tmp_path / "folder.json"
    path.write_text(TEXT)
    with pytest.raises(DamagedRecord, match="another run"):
        read_record(path, run_id="other")
    link.symlink_to(path)
    folder.mkdir()
    for other in (link, folder):
        with pytest.raises(DamagedRecord, match="regular"):
            read_record(other, run_id="mine")
    path.write_text('{"schema_version": 99}')
    with pytest.raises(NewerRecord, match="later version"):
        read_record(path)
    with pytest.raises(FileNotFoundError):
        read_record(tmp_path / "none.json")


def test_what_is_set_aside_has_a_free_name_and_a_good_one_goes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for n in range(3):
        path.write_text(f"{n}")
        assert set_aside(path, read_record) is not None
    assert bad_records(tmp_path) == ["a.json.2.bad", "a.json.3.bad", "a.json.bad"]
    assert set_aside(path, read_record) is None
    path.write_text(TEXT)
    assert set_aside(path, lambda p: read_record(p, run_id="mine")) is None
    assert path.read_text() == TEXT


def _count(path: Path, counter: Path) -> None:
    for _ in range(20):
        with hold(path):
            counter.write_text(str(int(counter.read_text()) + 1))


@pytest.mark.parametrize("number", [None, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_lock_holds_with_and_without_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(number, "no locks available")

    if number is not None:
        monkeypatch.setattr(fcntl, "flock", refuse)
    counter = tmp_path / "counter"
    counter.write_text("0")
    forks = [
        multiprocessing.get_context("fork").Process(target=_count, args=(tmp_path / ".lock", counter)) for _ in range(3)
    ]
    for process in forks:
        process.start()
    for process in forks:
        process.join()
        assert process.exitcode == 0
    assert counter.read_text() == "60"
    with (
        hold(tmp_path / ".lock"),
        pytest.raises(StoreError, match="busy"),
        hold(tmp_path / ".lock", timeout_s=0.1, what="busy"),
    ):
        pass
