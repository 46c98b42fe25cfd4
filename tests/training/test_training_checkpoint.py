import pytest
import torch

from scaling.errors import DamagedRecord, NewerRecord
from scaling.training.checkpoint import Checkpoint, newest_first, read_newest, write_checkpoint


def at(step, run_id="mine", corpus="corpus"):
    return Checkpoint(run_id, corpus, step, {"x": torch.arange(1000.0) + step})


def read(folder, told, run_id="mine"):
    return read_newest(folder, run_id=run_id, corpus_hash="corpus", steps=100, tell=told.append)


def test_the_last_two_are_kept_and_the_furthest_is_read(tmp_path):
    for step, attempt in ((3, 1), (20, 1), (20, 2), (100, 2)):
        write_checkpoint(tmp_path, at(step), attempt=attempt)
    assert [p.name for p in newest_first(tmp_path)] == ["00000100-0002.pt", "00000020-0002.pt"]
    found = read(tmp_path, told := [])
    assert found.step == 100
    assert torch.equal(found.state["x"], torch.arange(1000.0) + 100)
    assert told == []


def test_an_empty_folder_has_none(tmp_path):
    assert read(tmp_path / "missing", []) is None


@pytest.mark.parametrize("damage", ["cut", "empty", "flipped", "text", "other archive"])
def test_a_damaged_newest_falls_back_with_a_message(tmp_path, damage):
    write_checkpoint(tmp_path, at(1), attempt=1)
    path = write_checkpoint(tmp_path, at(2), attempt=1)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[content.index(torch.arange(1000.0).add(2).numpy().tobytes()) + 2000] ^= 64
    replaced = {"cut": content[: len(content) // 2], "empty": b"", "flipped": content, "text": b"hello"}
    if damage == "other archive":
        torch.save([1, 2], path)
    else:
        path.write_bytes(replaced[damage])
    told: list[str] = []
    assert read(tmp_path, told).step == 1
    assert path.name in told[0]


def test_all_damaged_starts_again(tmp_path):
    write_checkpoint(tmp_path, at(1), attempt=1).write_bytes(b"x")
    assert read(tmp_path, told := []) is None
    assert len(told) == 1


def test_another_corpus_is_passed_over(tmp_path):
    write_checkpoint(tmp_path, at(5, corpus="older"), attempt=1)
    assert read(tmp_path, told := []) is None
    assert "older" in told[0]


def test_of_another_run_or_schema_it_is_set_aside(tmp_path):
    write_checkpoint(tmp_path, at(5, run_id="theirs"), attempt=1)
    assert read(tmp_path, told := []) is None
    assert "another run (theirs)" in told[0]
    torch.save({"schema": 1, **vars(at(6))}, tmp_path / "00000006-0001.pt")
    assert read(tmp_path, told) is None
    assert "another schema (1)" in told[1]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000005-0001.pt.bad", "00000006-0001.pt.bad"]


def test_one_of_a_later_version_is_left_alone(tmp_path):
    path = tmp_path / "00000005-0001.pt"
    torch.save({"schema": 99, **vars(at(5))}, path)
    with pytest.raises(NewerRecord, match="another schema"):
        read(tmp_path, [])
    assert path.exists()


@pytest.mark.parametrize(
    ("name", "step", "losses"),
    [("01000000-0001.pt", 10**6, 10**6), ("00000007-0001.pt", 8, 8), ("00000007-0001.pt", 7, 6)],
    ids=["beyond the run", "of another step", "losses missing"],
)
def test_a_state_that_the_run_does_not_have_is_set_aside_and_evicts_no_good_one(tmp_path, name, step, losses):
    for good in (3, 4):
        write_checkpoint(tmp_path, at(good), attempt=1)
    torch.save({"schema": 3, **vars(at(step)), "state": {"losses": torch.zeros(losses)}}, tmp_path / name)
    assert read(tmp_path, told := []).step == 4
    assert name in told[0]
    write_checkpoint(tmp_path, at(5), attempt=2)
    kept = ["00000005-0002.pt", "00000004-0001.pt"]
    assert [p.name for p in newest_first(tmp_path)] == kept


def test_nothing_is_read_or_deleted_through_a_link(tmp_path):
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "checkpoints"
    for step in (1, 2):
        write_checkpoint(elsewhere, at(step), attempt=1)
    folder.symlink_to(elsewhere)
    assert read(folder, []) is None
    with pytest.raises(DamagedRecord, match="symbolic link"):
        write_checkpoint(folder, at(3), attempt=1)
    folder.unlink()
    folder.mkdir()
    (folder / "00000009-0001.pt").symlink_to(elsewhere / "00000002-0001.pt")
    assert read(folder, []) is None
    assert len(list(elsewhere.iterdir())) == 2


def test_a_pickle_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"schema": 1, "run_id": "mine", "evil": Evil()}, tmp_path / "00000001-0001.pt")
    told: list[str] = []
    assert read(tmp_path, told) is None
    assert len(told) == 1
