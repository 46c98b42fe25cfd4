"""Records that cannot be believed: none is, each is named, its run is free again, and the others go on."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.errors import DamagedRecord, NewerRecord, StoreError
from scaling.records import sealed
from scaling.results.owner import Owner
from scaling.results.store import Store
from scaling.run import Run

OLD = Path(__file__).parent.parent / "data" / "written-by-0.1" / "dot-scaling" / "store"
OLD_IDS = sorted(path.parent.name for path in OLD.glob("*/result.json"))
CASES = int(os.environ.get("SCALING_FUZZ_CASES", "300"))  # make test-long asks for more
A, B = OLD_IDS[:2]


@pytest.fixture
def old(tmp_path: Path) -> Store:
    """A copy of the store of 0.1."""
    shutil.copytree(OLD, tmp_path / "old")
    return Store(tmp_path / "old")


@pytest.fixture
def new(tmp_path: Path, tiny_run, a_result) -> tuple[Store, Run]:
    """A store with one finished run."""
    store, run = Store(tmp_path / "new"), tiny_run()
    store.add(run)
    attempt = store.claim(run.id, Owner.current())
    attempt.log({"event": "completed", "step": 12})
    assert store.publish(attempt, a_result())
    return store, run


def edited(**changes: object) -> Callable[[Path], None]:
    """Changes values of a record's result (those with a dot in front: of the record), as an editor would."""

    def edit(path: Path) -> None:
        document = json.loads(path.read_text())
        for name, value in changes.items():
            (document if name in ("schema_version", "owner", "attempt") else document["result"])[name] = value
        path.write_text(json.dumps(document))

    return edit


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:100]),
    "empty": lambda path: path.write_bytes(b""),
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe" + path.read_bytes()),
    "of another run": lambda path: shutil.copy(OLD / B / "result.json", path),
    "negative loss after three steps": edited(loss_nats=-5.0, steps=3),
    "negative loss": edited(loss_nats=-5.0),
    "other steps": edited(steps=3),
    "other tokens": edited(tokens=3),
    "other FLOPs": edited(flops=3.0),
    "other unit": edited(loss_unit="bits"),
    "nan": edited(loss_nats=float("nan")),
    "no loss": edited(loss_nats=None),
    "a text as loss": edited(loss_nats="3.2"),
    "true as loss": edited(loss_nats=True),
    "diverged with a loss": edited(status="diverged"),
    "unknown status": edited(status="fine"),
    "another owner": edited(owner=Owner.current().to_json()),
    "another attempt": edited(attempt=2),
    "no object": lambda path: path.write_text("[]"),
    "a dangling link": lambda path: (path.unlink(), path.symlink_to("nowhere")),
    "a link to another result": lambda path: (path.unlink(), path.symlink_to(OLD / B / "result.json")),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


def test_every_result_of_0_1_is_accepted_and_never_rewritten(old: Store) -> None:
    before = {path: path.read_bytes() for path in old.path.glob("*/*.json")}
    for run_id in OLD_IDS:
        old.add(old.run(run_id))
        assert old.has_result(run_id)
        assert old.result(run_id).loss_nats > 0
        assert old.damaged(run_id) is None
    assert {path: path.read_bytes() for path in old.path.glob("*/*.json")} == before


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("format", [1, 2])
def test_a_damaged_result_is_believed_by_nobody_and_its_run_is_free(
    old: Store, new: tuple[Store, Run], a_result, damage: str, format: int
) -> None:
    store, run_id = (old, A) if format == 1 else (new[0], new[1].id)
    path = store.folder(run_id) / "result.json"
    assert store.result(run_id) is not None
    DAMAGE[damage](path)
    with pytest.raises(DamagedRecord):
        store.published(run_id)
    assert store.result(run_id) is None
    assert not store.has_result(run_id)
    assert "result.json" in store.damaged(run_id)
    attempt = store.claim(run_id, Owner.current())
    assert attempt.number == 2
    assert os.path.lexists(f"{path}.bad")
    assert "result.json.bad" in store.damaged(run_id)
    good = a_result(steps=store.run(run_id).steps, tokens=store.run(run_id).tokens)
    assert store.publish(attempt, good)
    assert Store(store.path).result(run_id) == good
    assert all(store.has_result(other) for other in OLD_IDS if format == 1)


def test_a_result_of_a_later_version_is_left_alone(old: Store) -> None:
    edited(schema_version=99)(old.folder(A) / "result.json")
    with pytest.raises(NewerRecord, match="format 99"):
        old.published(A)
    assert old.result(A) is None
    assert old.claim(A, Owner.current()) is None
    assert "later version" in old.damaged(A)
    assert (old.folder(A) / "result.json").exists()


def test_a_result_whose_checksum_was_cut_away_does_not_pass_for_one_of_0_1(new: tuple[Store, Run]) -> None:
    store, run = new
    path = store.folder(run.id) / "result.json"
    document = json.loads(path.read_text())
    del document["checksum"], document["schema_version"], document["run_id"]
    path.write_text(json.dumps(document))
    with pytest.raises(DamagedRecord, match="not one of its run") as error:
        store.published(run.id)
    assert "no checksum" in str(error.value)


def test_no_result_is_published_that_is_not_one_of_the_run(new: tuple[Store, Run], tiny_run, a_result) -> None:
    store, run = new[0], tiny_run(seed=1)
    store.add(run)
    attempt = store.claim(run.id, Owner.current())
    for changes in ({"steps": 10**6, "tokens": 128 * 10**6}, {"loss_nats": None}, {"loss_nats": -1.0}, {"tokens": 1}):
        with pytest.raises(StoreError, match="no result of the run"):
            store.publish(attempt, a_result(**changes))
    assert not store.has_result(run.id)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"owner"', b"\xff", b'{"host": 3}'])
def test_a_damaged_claim_keeps_its_number_and_stops_nobody(new: tuple[Store, Run], tiny_run, content: bytes) -> None:
    store, run = new[0], tiny_run(seed=1)
    store.add(run)
    first = store.claim(run.id, Owner.current())
    claim = store.folder(run.id) / "attempts" / "0001.json"
    claim.write_bytes(content)
    newest = store.newest(run.id)
    assert newest.number == 1
    assert newest.damaged
    assert store.claim(run.id, Owner.current()) is None, "its worker may be alive"
    first.log({"event": "stopped", "step": 3})
    second = store.claim(run.id, Owner.current())
    assert second.number == 2
    assert not first.owns()
    assert second.owns()
    assert claim.with_name("0001.json.bad").exists()
    (claim.with_name("0002.json")).write_bytes(content)
    second.log({"event": "stopped", "step": 3})
    assert store.claim(run.id, Owner.current()).number == 3
    assert not first.owns()
    assert not second.owns()


def test_a_damaged_error_is_still_an_end(new: tuple[Store, Run], tiny_run) -> None:
    store, run = new[0], tiny_run(seed=1)
    store.add(run)
    attempt = store.claim(run.id, Owner.current())
    attempt.error_path.write_bytes(b"\xff\xfe")
    assert "cannot be read" in attempt.error()["message"]
    assert store.claim(run.id, Owner.current()).number == 2


def test_damaged_settings_are_written_again(new: tuple[Store, Run], a_result) -> None:
    store, run = new
    path = store.folder(run.id) / "run.json"
    path.write_text('{"steps": ')
    assert "run.json" in store.damaged(run.id)
    store.add(run)
    assert store.run(run.id) == run
    assert path.with_name("run.json.bad").exists()
    assert store.result(run.id) == a_result(), "the result stays"


def test_nothing_is_written_or_deleted_through_a_link(new: tuple[Store, Run], tiny_run, tmp_path: Path) -> None:
    store, run = new
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("a.pt", "0007.json"):
        (elsewhere / name).write_text("precious")
    store.checkpoints(run.id).symlink_to(elsewhere)
    store.retire(run.id)
    shutil.rmtree(store.folder(run.id) / "attempts")
    (store.folder(run.id) / "attempts").symlink_to(elsewhere)
    assert "symbolic link" in store.damaged(run.id)
    attempt = store.claim(run.id, Owner.current())
    assert attempt.number == 1
    attempt.metrics_path.symlink_to(elsewhere / "a.pt")
    with pytest.raises(OSError, match="symbolic"):
        attempt.log({"step": 1})
    assert attempt.last_record() == {}
    assert {path.name: path.read_text() for path in elsewhere.iterdir()} == dict.fromkeys(
        ["a.pt", "0007.json"], "precious"
    )


def test_metrics_of_any_bytes_are_read(new: tuple[Store, Run]) -> None:
    store, run = new
    newest = store.newest(run.id)
    for line in (b"\xff\n", b'{"step": NaN}\n', b"[1]\n", b"[" * 5000 + b"\n", b'{"step": {"a": 1}}\n', b"null\n"):
        newest.metrics_path.write_bytes(b'{"step": 5}\n' + line)
        assert newest.last_record() == {"step": 5}


@settings(max_examples=CASES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_of_random_damage_nothing_is_believed(tmp_path_factory, monkeypatch, tiny_run, a_result, data) -> None:
    """Any change of the bytes of a record of a finished run: the same loss, or none, and never an exception."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # nobody cuts the power here
    run, result = tiny_run(), a_result()
    store = Store(tmp_path_factory.mktemp("fuzz"))
    store.add(run)
    attempt = store.claim(run.id, Owner.current())
    store.publish(attempt, result)
    names = ["run.json", "result.json", "attempts/0001.json"]
    path = store.folder(run.id) / data.draw(st.sampled_from(names))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "delete"]))
    if kind == "flip":
        content[at] ^= data.draw(st.integers(1, 255))
    elif kind == "insert":
        content[at:at] = data.draw(st.binary(min_size=1, max_size=8))
    else:
        del content[at : None if kind == "cut" else at + data.draw(st.integers(1, 40))]
    path.write_bytes(content)
    fresh = Store(store.path)
    assert fresh.result(run.id) in (result, None)
    fresh.damaged(run.id)
    attempt.log({"event": "stopped"})
    fresh.add(run)
    if not fresh.has_result(run.id):
        assert fresh.publish(fresh.claim(run.id, Owner.current()), result)
    assert Store(store.path).result(run.id) == result
    shutil.rmtree(store.path)


def test_a_sealed_lie_about_the_planned_steps_is_no_result(new: tuple[Store, Run]) -> None:
    store, run = new
    path = store.folder(run.id) / "result.json"
    document = json.loads(path.read_text())
    for name in ("checksum", "schema_version", "run_id"):
        del document[name]
    path.write_text(sealed(document | {"planned_steps": 13}, run_id=run.id))
    with pytest.raises(DamagedRecord, match="not one of its run"):
        store.published(run.id)
