import pytest
import torch

from scaling.errors import TrainingError
from scaling.training.checkpoint import Checkpoint, newest_first, read_newest, write_checkpoint


def at(step, run_id="mine", corpus="corpus"):
    return Checkpoint(run_id, corpus, step, {"x": torch.arange(1000.0) + step})


def read(folder, told, run_id="mine"):
    return read_newest(folder, run_id=run_id, corpus_hash="corpus", tell=told.append)


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


def test_another_run_or_schema_is_refused_by_name(tmp_path):
    path = write_checkpoint(tmp_path, at(5, run_id="theirs"), attempt=1)
    with pytest.raises(TrainingError, match="another run") as error:
        read(tmp_path, [])
    assert "theirs" in str(error.value)
    torch.save({"schema": 99, **vars(at(5))}, path)
    with pytest.raises(TrainingError, match="another schema"):
        read(tmp_path, [])


def test_a_pickle_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("run",)

    torch.save({"schema": 1, "run_id": "mine", "evil": Evil()}, tmp_path / "00000001-0001.pt")
    told: list[str] = []
    assert read(tmp_path, told) is None
    assert len(told) == 1
