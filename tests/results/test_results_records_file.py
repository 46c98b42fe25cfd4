"""Records that travel: what a file of records gives back, what it refuses, and curves."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.errors import StoreError
from scaling.results.curves import POINTS, SPIKE_RISE_NATS, curve, read_curves, thinned, write_curves
from scaling.results.launches import Launch, read_launch
from scaling.results.records_file import NAME, RunRecords, write_records
from scaling.results.restore import Restored, imported_from, restore
from scaling.results.status import RunStatus, run_status
from scaling.results.store import Store
from scaling.rows import SetLoss

OLD = Path(__file__).parents[1] / "data" / "written-by-0.1" / "dot-scaling"


@dataclasses.dataclass
class Place:
    """A store of finished runs, the statuses of its launch, and the folder of results."""

    store: Store
    results: Path
    launch: Launch

    def statuses(self, store: Store | None = None) -> list[RunStatus]:
        corpus = self.launch.corpus_hash
        return [run_status(row, store or self.store, corpus_hash=corpus) for row in self.launch.rows]

    def collect(self, store: Store | None = None) -> tuple[bytes, bytes]:
        """The bytes of both files, written from a store."""
        store = store or self.store
        write_records(self.results, self.statuses(store), store)
        write_curves(self.results, self.statuses(store), store)
        return (self.results / NAME).read_bytes(), (self.results / "curves.csv").read_bytes()

    def edit(self, change: dict[int, str | None]) -> None:
        """Replace lines of the records by their numbers."""
        lines = (self.results / NAME).read_text().splitlines()
        for number, text in change.items():
            lines[number - 1] = text if text is not None else lines[number - 1]
        (self.results / NAME).write_text("\n".join(lines) + "\n")

    def line(self, number: int) -> str:
        return (self.results / NAME).read_text().splitlines()[number - 1]

    def restore(self, store: Store) -> Restored:
        return restore(self.results / NAME, store)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """The store that 0.1 wrote, collected."""
    shutil.copytree(OLD / "store", tmp_path / "store")
    launch = read_launch(OLD / "launches" / "micro" / "1.json")
    found = Place(Store(tmp_path / "store"), tmp_path / "results" / "micro", launch)
    found.collect()
    return found


@pytest.fixture
def empty(tmp_path: Path) -> Store:
    return Store(tmp_path / "elsewhere" / "store")


def finished(place: Place) -> list[str]:
    return sorted(run.row.id for run in place.statuses() if run.status in ("completed", "diverged"))


def test_every_finished_run_comes_back_with_its_owner(place: Place, empty: Store) -> None:
    ids = finished(place)
    assert len(ids) > 10
    restored = place.restore(empty)
    assert (restored.new, restored.present, restored.problems) == (ids, [], [])
    for run_id in ids:
        assert empty.run(run_id) == place.store.run(run_id)
        assert empty.published(run_id) == place.store.published(run_id)
        attempt = empty.newest(run_id)
        assert attempt.owner == place.store.newest(run_id).owner
        assert imported_from(empty, run_id) == str(place.results / NAME)
        assert not empty.is_alive(attempt)
        assert imported_from(place.store, run_id) is None


def test_files_come_back_byte_for_byte(place: Place, empty: Store) -> None:
    place.restore(empty)
    for run_id in finished(place):
        for name in ("run.json", "result.json", "attempts/0001.json"):
            assert (empty.folder(run_id) / name).read_bytes() == (place.store.folder(run_id) / name).read_bytes()


def test_what_was_imported_is_collected_to_the_same_bytes(place: Place, empty: Store) -> None:
    before = place.collect()
    place.restore(empty)
    assert place.collect(empty) == before


def test_a_second_import_changes_nothing(place: Place, empty: Store) -> None:
    place.restore(empty)
    files = {path: path.stat().st_mtime_ns for path in empty.path.rglob("*") if path.is_file()}
    again = place.restore(empty)
    assert (again.new, again.present, again.problems) == ([], finished(place), [])
    assert {path: path.stat().st_mtime_ns for path in empty.path.rglob("*") if path.is_file()} == files


def test_an_interrupted_import_is_finished_by_the_next(place: Place, empty: Store) -> None:
    place.restore(empty)
    run_id = finished(place)[0]
    (empty.folder(run_id) / "result.json").unlink()
    assert place.restore(empty).new == [run_id]


def test_evaluations_travel_in_their_order(place: Place, empty: Store) -> None:
    run_id = finished(place)[0]
    for name in ("web", "code", "books"):
        place.store.add_evaluation(run_id, SetLoss(name, 2.0, 0.1, 0.5), data=name, data_hash="1f2e")
    expected = [one.name for one in place.store.evaluations(run_id)]
    place.collect()
    place.restore(empty)
    assert [one.name for one in empty.evaluations(run_id)] == expected


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda line: line[:-40], "line 1"),
        (lambda line: "[]", "a list, not an object"),
        (lambda line: "\x00\x01", "line 1"),
        (lambda line: line.replace('"loss_nats": ', '"loss_nats": 1', 1), "another checksum"),
        (lambda line: line.replace('"seed": ', '"seed": 1', 1), "another checksum"),
        (lambda line: line.replace('"format": 1', '"format": 9'), "format 9"),
        (lambda line: "[" * 100_000, ""),
    ],
)
def test_a_damaged_line_is_named_and_the_rest_goes_on(place: Place, empty: Store, damage, reason: str) -> None:
    place.edit({2: damage(place.line(2))})
    restored = place.restore(empty)
    ids = finished(place)
    assert restored.new == [ids[0], *ids[2:]]
    [problem] = restored.problems
    assert problem.where == f"{place.results / NAME}:2"
    assert reason in str(problem)
    assert problem.hint
    assert not empty.folder(ids[1]).exists()


def resealed(line: str, **changes: object) -> str:
    """A line with other values and a checksum that agrees: somebody's own work."""
    records = RunRecords.from_line(line, "here")
    return dataclasses.replace(records, **changes).to_line()


def test_settings_that_are_not_those_of_the_id_are_refused(place: Place, empty: Store) -> None:
    records = RunRecords.from_line(place.line(1), "here")
    place.edit({1: resealed(place.line(1), run=records.run | {"seed": 77})})
    restored = place.restore(empty)
    [problem] = restored.problems
    assert "run.json does not hash" in str(problem)
    assert not empty.folder(records.id).exists()


@pytest.mark.parametrize("run_id", ["../../outside00000", "/tmp/outside0000000", "ABCDEF0123456789", ""])
def test_an_id_is_no_path(place: Place, empty: Store, run_id: str) -> None:
    place.edit({1: resealed(place.line(1), id=run_id)})
    [problem] = place.restore(empty).problems
    assert "16 hex digits" in str(problem)


@pytest.mark.parametrize("file", ["../result.json", "a/b.json", ".json", "x.txt"])
def test_an_evaluation_has_a_plain_name(place: Place, empty: Store, file: str) -> None:
    place.edit({1: resealed(place.line(1), evaluations=((file, {}),))})
    [problem] = place.restore(empty).problems
    assert "no list of evaluations" in str(problem)


def test_results_there_win(place: Place, empty: Store) -> None:
    records = RunRecords.from_line(place.line(1), "here")
    place.restore(empty)
    path = empty.folder(records.id) / "result.json"
    kept = path.read_bytes()
    other = json.loads(json.dumps(records.result))
    other["result"]["loss_nats"] += 0.5
    place.edit({1: resealed(place.line(1), result=other)})
    [problem] = place.restore(empty).problems
    assert "the store has another result of this run, which is kept" in str(problem)
    assert path.read_bytes() == kept


def test_a_run_that_was_started_here_is_left_alone(place: Place, empty: Store, tiny_run) -> None:
    from scaling.results.owner import Owner

    run_id = finished(place)[0]
    empty.add(place.store.run(run_id))
    attempt = empty.claim(run_id, Owner.current())
    restored = place.restore(empty)
    [problem] = restored.problems
    assert "was started in this store" in str(problem)
    assert "attempt 1" in str(problem)
    assert empty.result(run_id) is None
    assert empty.newest(run_id) == attempt
    assert restored.new == finished(place)[1:]


@pytest.mark.parametrize("name", ["", "attempts", "evaluations"])
def test_links_in_a_store_are_not_followed(place: Place, empty: Store, tmp_path: Path, name: str) -> None:
    run_id = finished(place)[0]
    target, link = tmp_path / "target", empty.folder(run_id) / name
    target.mkdir()
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    [problem] = place.restore(empty).problems
    assert "symbolic link" in str(problem)
    assert list(target.iterdir()) == []


def test_links_are_not_collected(place: Place, tmp_path: Path) -> None:
    run_id = finished(place)[0]
    path = place.store.folder(run_id) / "run.json"
    path.rename(tmp_path / "run.json")
    path.symlink_to(tmp_path / "run.json")
    with pytest.raises(StoreError, match="symbolic link"):
        RunRecords.read(place.store, run_id)


def test_damaged_curves_do_not_hold_up_results(place: Place, empty: Store) -> None:
    path = place.results / "curves.csv"
    path.write_text(path.read_text().replace(",1536,", ",many,", 1))
    restored = place.restore(empty)
    [problem] = restored.problems
    assert f"{path}:" in str(problem)
    assert restored.new == finished(place)


def test_a_curve_has_what_the_attempts_logged(place: Place) -> None:
    points = read_curves(place.results / "curves.csv")
    assert sorted(points) == finished(place)
    for run_id, found in points.items():
        assert found == curve(place.store, run_id)
        assert found[-1]["step"] == place.store.run(run_id).steps


def test_a_later_attempt_goes_on_where_an_earlier_one_ended(place: Place) -> None:
    run_id = finished(place)[0]
    folder = place.store.folder(run_id) / "attempts"
    (folder / "0001.jsonl").write_text('{"step": 1, "tokens": 4, "loss_nats": 3.0}\n{"step": 2, "tok')
    (folder / "0002.jsonl").write_text('{"step": 2, "tokens": 8, "loss_nats": 2.5, "lr": 0.1}\n{"event": "stopped"}\n')
    assert [(point["step"], point["loss"], point["lr"]) for point in curve(place.store, run_id)] == [
        (1, 3.0, None),
        (2, 2.5, 0.1),
    ]
    (folder / "0001.stale.json").write_text("{}")
    assert [point["step"] for point in curve(place.store, run_id)] == [2]


@st.composite
def a_curve(draw: st.DrawFn) -> list[dict[str, float | int | None]]:
    steps = draw(st.lists(st.integers(0, 10_000), min_size=2, max_size=600, unique=True))
    losses = draw(st.lists(st.floats(0.5, 12.0), min_size=len(steps), max_size=len(steps)))
    return [{"step": step, "loss": loss} for step, loss in zip(sorted(steps), losses, strict=True)]


@given(a_curve(), st.integers(4, POINTS))
def test_thinning_keeps_the_ends_the_order_and_the_limit(points, limit: int) -> None:
    kept = thinned(points, limit=limit)
    assert 2 <= len(kept) <= limit
    assert [point for point in points if point in kept] == kept
    assert (kept[0], kept[-1]) == (points[0], points[-1])
    assert thinned(kept, limit=limit) == kept
    if len(points) <= limit:
        assert kept == points


def test_thinning_is_even_in_steps_and_keeps_spikes() -> None:
    points = [{"step": step, "loss": 5.0 - step / 10_000} for step in range(10_000)]
    points[4300]["loss"] += 1.0
    kept = [int(point["step"]) for point in thinned(points)]
    assert 4300 in kept
    assert len(kept) == POINTS
    even = math.ceil(9_999 / (POINTS - 2))
    assert max(after - before for before, after in itertools.pairwise(kept)) <= even + 1
    small = [dict(point) for point in points]
    small[4300]["loss"] = small[4299]["loss"] + SPIKE_RISE_NATS / 2
    assert 4300 not in [point["step"] for point in thinned(small)]
