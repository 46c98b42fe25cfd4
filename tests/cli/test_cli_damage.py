"""One damaged record, an exchanged store, a full disk: named, and every other run and verb goes on.

The project is that of version 0.1 in tests/data, so nothing is trained here.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scaling.cli import main
from scaling.results.launches import last_launch
from scaling.results.store import Store

OLD = Path(__file__).parent.parent / "data" / "written-by-0.1"
SWEEP = "sweeps/micro.yaml"
VERBS = (["status", SWEEP], ["status", SWEEP, "--json"], ["collect", SWEEP])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project of 0.1 with its 26 finished runs, as the current folder."""
    root = tmp_path / "project"
    shutil.copytree(OLD / "dot-scaling", root / ".scaling")
    shutil.copytree(OLD / "sweeps", root / "sweeps")
    (root / "results" / "micro").mkdir(parents=True)
    shutil.copy(OLD / "runs.csv", root / "results" / "micro" / "runs.csv")
    for path in root.glob(".scaling/launches/*/*.json"):
        path.write_text(path.read_text().replace("@ROOT@", str(root)))
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command in this process; what it printed, after its exit status was compared."""

    def run(*arguments: str, status: int = 0) -> str:
        found = main(list(arguments))
        out, err = capsys.readouterr()
        assert found == status, err
        assert "Traceback" not in err
        assert "should not have" not in err, "the last handler"
        return out + err

    return run


def finished(project: Path) -> list[str]:
    return last_launch(project, "micro").ids


def rows(project: Path) -> dict[str, dict[str, str]]:
    with (project / "results" / "micro" / "runs.csv").open() as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def damaged(say, project: Path, run_id: str) -> dict[str, object]:
    document = json.loads(say("status", SWEEP, "--json"))
    [run] = [run for run in document["runs"] if run["id"] == run_id]
    assert document["counts"]["completed"] == 25, "the others are as they were"
    return run | {"counted": document["counts"]["damaged"]}


def test_the_project_of_0_1_is_whole(project: Path, say) -> None:
    before = rows(project)
    for verb in VERBS:
        say(*verb)
    assert {run_id: row["loss"] for run_id, row in rows(project).items()} == {
        run_id: row["loss"] for run_id, row in before.items()
    }


@pytest.mark.parametrize("content", [b"", b'{"attempt": 1', b"\xff", b"null"])
def test_a_damaged_result_is_named_and_every_verb_goes_on(project: Path, say, content: bytes) -> None:
    victim, other = finished(project)[:2]
    (project / ".scaling" / "store" / victim / "result.json").write_bytes(content)
    run = damaged(say, project, victim)
    assert (run["status"], run["loss"], run["counted"]) == ("damaged", None, 1)
    assert "result.json" in run["damaged"]
    for verb in VERBS:
        say(*verb)
    assert "BAD" in say("status", SWEEP)
    table = rows(project)
    assert (table[victim]["status"], table[victim]["loss"]) == ("damaged", "")
    assert float(table[other]["loss"]) > 0


def test_the_result_of_another_run_gives_no_loss(project: Path, say) -> None:
    a, b = finished(project)[:2]
    store = project / ".scaling" / "store"
    shutil.copy(store / b / "result.json", store / a / "result.json")
    assert damaged(say, project, a)["loss"] is None
    say("collect", SWEEP)
    assert rows(project)[a]["loss"] == ""


def test_an_empty_claim_and_a_damaged_error_stop_nothing(project: Path, say) -> None:
    victim = finished(project)[0]
    folder = project / ".scaling" / "store" / victim
    (folder / "attempts" / "0001.json").write_bytes(b"")
    (folder / "attempts" / "0001.error.json").write_bytes(b"\xff\xfe")
    assert "attempt" in damaged(say, project, victim)["damaged"]
    assert "cannot be read" in say("logs", SWEEP, victim)
    say("collect", SWEEP)


def test_control_characters_of_an_error_do_not_reach_the_terminal(project: Path, say) -> None:
    victim = finished(project)[0]
    store = Store(project / ".scaling" / "store")
    store.newest(victim).fail("\x1b]0;owned\x07 failed", "Traceback\x1b[2J")
    (store.folder(victim) / "result.json").unlink()
    for told in (say("logs", SWEEP, victim), say("status", SWEEP)):
        assert "\x1b" not in told
        assert "\\x1b]0;owned" in told


def test_a_cut_launch_file_is_passed_over_or_says_what_to_do(project: Path, say) -> None:
    folder = project / ".scaling" / "launches" / "micro"
    (folder / "2.json").write_text((folder / "1.json").read_text()[:500])
    told = say("status", SWEEP)
    assert "a damaged launch is passed over" in told
    assert "micro, launch 1" in told
    (folder / "1.json").write_bytes(b"\xff")
    assert f"scaling launch {SWEEP}" in say("status", SWEEP, status=1)


def test_a_launch_of_a_later_version_says_what_to_do(project: Path, say) -> None:
    path = project / ".scaling" / "launches" / "micro" / "1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    for verb in ("status", "collect", "launch"):
        told = say(verb, SWEEP, *(["--yes"] if verb == "launch" else []), status=1)
        assert "a later version of scaling" in told
        assert "move the file away" in told


def test_an_emptied_store_is_recognised_before_anything_is_overwritten(project: Path, say) -> None:
    table = project / "results" / "micro" / "runs.csv"
    before = table.read_bytes()
    (project / ".scaling" / "store").rename(project / "moved")
    assert "not mounted" in say("collect", SWEEP, status=1)
    (project / ".scaling" / "store").mkdir()
    for verb in ("collect", "status", "report"):
        told = say(verb, SWEEP, status=1)
        assert "moved, emptied, or not mounted" in told
        assert "--replan" in told
    assert "--replan" in say("launch", SWEEP, "--yes", status=1)
    assert table.read_bytes() == before


def test_finished_runs_do_not_vanish_from_the_table(project: Path, say) -> None:
    table = project / "results" / "micro" / "runs.csv"
    before = table.read_bytes()
    for run_id in finished(project)[:3]:
        shutil.rmtree(project / ".scaling" / "store" / run_id)
    told = say("collect", SWEEP, status=1)
    assert "3 of 26" in told
    assert table.read_bytes() == before
    table.write_bytes(before + b"\xff\xfe\n")
    assert "move" in say("collect", SWEEP, status=1), "what cannot be read is not replaced"
    table.unlink()
    say("collect", SWEEP)


def test_another_store_at_the_same_place_is_told_apart(project: Path, say) -> None:
    store = project / ".scaling" / "store"
    path = project / ".scaling" / "launches" / "micro" / "1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"store_id": "aaaa"}))
    say("status", SWEEP)  # its own runs are there, only the file is missing
    (store / "store.json").write_bytes(b"damaged")
    say("status", SWEEP)
    from scaling.records import sealed

    (store / "store.json").write_text(sealed({"store_id": "bbbb"}))
    assert "another store" in say("status", SWEEP, status=1)
    (store / "store.json").write_text(sealed({"store_id": "aaaa"}))
    say("status", SWEEP)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize(("options", "word"), [("ro", "mount"), ("size=4k", "space")])
def test_results_that_cannot_be_written_say_why(project: Path, say, options: str, word: str) -> None:
    import subprocess

    results = project / "results" / "micro"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(results)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        told = say("collect", SWEEP, status=1)
    finally:
        subprocess.run(["umount", str(results)], check=True)
    assert str(results) in told
    assert word in told


def test_a_launch_works_without_flock_and_tidies_up(project: Path, say, monkeypatch: pytest.MonkeyPatch) -> None:
    """The launch of a finished sweep: data are prepared, what killed processes left is swept, records of 0.1 stay."""

    def refuse(*arguments: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr("scaling.project.launching.report_on", lambda *arguments: None)
    store, launches = project / ".scaling" / "store", project / ".scaling" / "launches" / "micro"
    victim = finished(project)[0]
    (launches / "1").mkdir()
    owner = json.loads((store / victim / "attempts" / "0001.json").read_text())
    (launches / "1" / "launcher-99.json").write_text("{}")
    (launches / "1" / "runs-99.json").write_text("{}")
    (launches / "1" / "launcher-98.json").write_text(json.dumps(owner))
    from scaling.files import _host

    left = store / victim / f".result.json.{_host()}.4194305.01234567.tmp"
    left.touch()
    kept = {path: path.read_bytes() for path in store.glob("*/result.json")}
    say("launch", SWEEP, "--yes")
    assert not left.exists()
    assert {path.name for path in (launches / "1").glob("*-9*.json")} == {"launcher-98.json"}, "on another host"
    assert {path: path.read_bytes() for path in kept} == kept
    launch = last_launch(project, "micro")
    assert launch.number == 2
    assert launch.store_id == json.loads((store / "store.json").read_text())["store_id"]
    assert (launches / "2.json").stat().st_mode & 0o777 == 0o600


def test_a_store_that_cannot_be_made_is_refused(project: Path, say) -> None:
    (project / "runner.yaml").write_text("runner: local\nstore: /proc/store\n")
    told = say("launch", SWEEP, "--runner", "runner.yaml", "--yes", status=1)
    assert "cannot be written" in told
    assert "runner file" in told


@pytest.mark.parametrize("place", ["results/micro/runs.csv", "results/micro", "results", ".scaling/launches/micro"])
@pytest.mark.parametrize("kind", ["file", "folder", "pipe"])
def test_something_else_in_place_of_a_file_or_a_folder_is_named(project: Path, say, place: str, kind: str) -> None:
    path = project / place
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    {"file": path.touch, "folder": path.mkdir, "pipe": lambda: os.mkfifo(path)}[kind]()
    fine = kind == ("file" if path.suffix == ".csv" else "folder") and place.startswith("results")
    told = say("collect", SWEEP, status=0 if fine else 1)
    assert fine or "next:" in told


def test_a_link_to_another_run_is_set_aside_and_leaves_that_run_alone(project: Path, say) -> None:
    a, b = finished(project)[:2]
    store = Store(project / ".scaling" / "store")
    before = store.result(b)
    run = store.run(a)
    shutil.rmtree(store.folder(a))
    store.folder(a).symlink_to(b)
    assert "symbolic link" in damaged(say, project, a)["damaged"]
    assert store.set_aside_damaged(a) == [a]
    assert Store(store.path).result(b) == before
    store.folder(a).symlink_to(b)
    store.add(run)
    assert store.run(a) == run
    assert Store(store.path).result(b) == before
    assert (store.path / f"{a}.bad").is_symlink()


def test_a_pipe_in_place_of_metrics_hangs_nobody(project: Path, say) -> None:
    victim = finished(project)[0]
    for path in (project / ".scaling" / "store" / victim / "attempts").glob("*.jsonl"):
        path.unlink()
        os.mkfifo(path)
    assert victim in say("show", SWEEP, victim)
    assert "26 runs" in say("collect", SWEEP, "--records")


def test_a_launch_file_with_other_kinds_of_values_is_passed_over(project: Path, say) -> None:
    folder = project / ".scaling" / "launches" / "micro"
    for number, change in enumerate(({"store": 5}, {"number": "x"}, {"rows": [{}]}, {"store_id": 3}), start=2):
        (folder / f"{number}.json").write_text(json.dumps(json.loads((folder / "1.json").read_text()) | change))
    told = say("status", SWEEP)
    assert told.count("a damaged launch is passed over") == 4
    assert "micro, launch 1" in told


def test_a_pipe_in_place_of_an_input_is_refused(project: Path, say) -> None:
    say("collect", SWEEP, "--records")
    (project / "runner.yaml").write_text("runner: local\n")
    for place, verb in {
        "results/micro/curves.csv": ["import", "results/micro"],
        "results/micro/records.jsonl": ["import", "results/micro"],
        "runner.yaml": ["plan", SWEEP, "--runner", "runner.yaml"],
        SWEEP: ["status", SWEEP],
    }.items():
        (project / place).unlink()
        os.mkfifo(project / place)
        assert "a pipe" in say(*verb, status=1)
