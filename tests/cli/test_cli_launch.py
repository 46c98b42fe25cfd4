"""From a sweep file to a report through the real command, with real training, interrupted in every way."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

from scaling.cli import main
from scaling.report import html
from scaling.report.figures import FIGURES

SWEEP = "sweeps/micro.yaml"
SETTINGS = {"sweep", "flops_convention", "runs", "dropped", "totals", "checks", "schema_version"}
ROW = {"id", "family", "line", "parameterization", "optimizer", "rank_ratio", "shape", "params_total"}
ROW |= {
    "params_non_embedding",
    "params_matmul",
    "tokens",
    "steps",
    "budget",
    "flops",
    "flops_6nd",
    "lr",
    "seed",
    "hours",
}


def results_on_disk(scaling) -> int:
    return len(list((scaling.root / ".scaling" / "store").glob("*/result.json")))


def wait_until(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_plan_is_the_contract_and_launches_nothing(scaling) -> None:
    document = scaling.json("plan", SWEEP)
    assert document.keys() >= SETTINGS
    assert all(run.keys() >= ROW for run in document["runs"])
    assert document["totals"].keys() >= {"runs", "flops", "hours"}
    assert document["totals"]["runs"] == len(document["runs"]) == 2 * (12 + 1)
    assert not (scaling.root / ".scaling").exists()
    assert "next: scaling launch" in scaling("plan", SWEEP).stderr


def test_launch_trains_collects_fits_and_reports(launched) -> None:
    assert results_on_disk(launched) == 26
    report = launched.root / "results" / "micro" / "report.html"
    assert report.exists()
    assert (launched.root / "results" / "micro" / "runs.csv").exists()
    assert launched.first_launch.rstrip().splitlines()[-1] == f"report: {report}"
    status = launched.json("status", SWEEP)
    assert status["counts"] == {
        "completed": 26, "diverged": 0, "failed": 0, "running": 0, "queued": 0, "planned": 0, "stale": 0, "stopped": 0,
        "damaged": 0,
    }  # fmt: skip
    keys = {"id", "line", "cell", "seed", "lr", "budget", "params_total"}
    keys |= {"status", "loss", "message", "damaged", "code_change"}
    assert all(set(run) == keys for run in status["runs"])
    assert all(0.5 < run["loss"] < 5.6 for run in status["runs"]), "between entropy and ln 256"


def test_a_figure_and_a_table_that_fail_are_named_and_the_verb_succeeds(
    launched, tmp_path, monkeypatch, capsys
) -> None:
    def fail(*_):
        raise ValueError("nothing to divide by")

    project = tmp_path / "project"
    shutil.copytree(launched.root, project)
    broken = [replace(figure, data=fail) if figure.name == "isoflop" else figure for figure in FIGURES]
    monkeypatch.setattr(html, "FIGURES", broken)
    monkeypatch.setitem(html.TABLES, "cells", fail)
    assert main(["report", str(project / SWEEP)]) == 0
    told = capsys.readouterr().err
    assert "not made: table cells: ValueError: nothing to divide by" in told
    assert "not made: figure isoflop: ValueError: nothing to divide by" in told
    assert told.rstrip().endswith(f"report: {project / 'results' / 'micro' / 'report.html'}")


def test_a_second_launch_trains_nothing(launched) -> None:
    before = sorted((launched.root / ".scaling" / "store").glob("*/attempts/*.json"))
    document = launched.json("launch", SWEEP, "--yes")
    assert (document["launch"], document["submitted"], document["skipped"]) == (1, 0, 26)
    assert sorted((launched.root / ".scaling" / "store").glob("*/attempts/*.json")) == before


def test_killed_launcher_and_workers_lose_nothing(one_line, launched) -> None:
    first = one_line.start("launch", SWEEP, "--yes")
    wait_until(lambda: results_on_disk(one_line) >= 4)
    workers = children(first.pid)
    assert workers
    for pid in (first.pid, *workers):
        os.kill(pid, signal.SIGKILL)
    first.communicate()
    half = results_on_disk(one_line)
    assert 4 <= half < 9
    one_line("launch", SWEEP, "--yes")
    assert one_line.losses().items() <= launched.losses().items()


def test_a_killed_launcher_leaves_no_worker_behind(scaling) -> None:
    launcher = scaling.start("launch", SWEEP, "--yes")
    wait_until(lambda: results_on_disk(scaling) >= 1)
    workers = children(launcher.pid)
    launcher.kill()
    launcher.communicate()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), seconds=30)
    status = scaling.json("status", SWEEP)
    assert status["counts"]["running"] == 0


def test_interrupt_checkpoints_exits_130_and_the_next_launch_continues(one_line, launched) -> None:
    launcher = one_line.start("launch", SWEEP, "--yes", start_new_session=True)
    wait_until(lambda: results_on_disk(one_line) >= 2)
    os.killpg(launcher.pid, signal.SIGINT)
    _, err = launcher.communicate(timeout=60)
    assert launcher.returncode == 130, err
    assert "continues where it was" in err
    assert one_line.json("status", SWEEP)["counts"]["running"] == 0
    one_line("launch", SWEEP, "--yes")
    assert one_line.losses().items() <= launched.losses().items()


def test_cancel_stops_only_what_this_sweep_launched(scaling) -> None:
    launcher = scaling.start("launch", SWEEP, "--yes")
    wait_until(lambda: results_on_disk(scaling) >= 1)
    assert "asked the launcher" in scaling("cancel", SWEEP).stderr
    launcher.communicate(timeout=60)
    assert launcher.returncode == 130
    assert "no launch of micro runs" in scaling("cancel", SWEEP).stderr


def test_two_launches_at_once_and_a_second_user_train_nothing_twice(one_line, launched) -> None:
    other = one_line.root / "sweeps" / "other.yaml"
    other.write_text(one_line.sweep.read_text().replace("sweep: micro", "sweep: other"))
    both = [one_line.start("launch", f"sweeps/{name}.yaml", "--yes") for name in ("micro", "other")]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    attempts = list((one_line.root / ".scaling" / "store").glob("*/attempts/[0-9]*.json"))
    assert len(attempts) == 9, "one attempt per run although two launches raced"
    assert one_line.losses().items() <= launched.losses().items()


def test_a_changed_sweep_is_refused_until_replanned(launched, tmp_path) -> None:
    changed = tmp_path / "micro.yaml"
    changed.write_text(launched.sweep.read_text().replace("lr: 0.02}", "lr: 0.03}"))
    refused = launched("launch", str(changed), "--root", str(launched.root), "--yes", status=1)
    assert "optimizer.lr: 0.02 -> 0.03 (13 runs)" in refused.stderr
    assert "--replan" in refused.stderr
    assert refused.stdout == ""


def test_a_question_without_a_terminal_is_wrong_usage(scaling) -> None:
    refused = scaling("launch", SWEEP, status=2)
    assert "--yes" in refused.stderr
    assert not (scaling.root / ".scaling").exists()


def test_a_crashed_run_is_shown_and_never_becomes_a_point(one_line) -> None:
    """A run whose weights cannot be written fails; the others finish; exit status 1; its loss stays empty."""
    document = one_line.json("plan", SWEEP)
    victim = document["runs"][0]["id"]
    folder = one_line.root / ".scaling" / "store" / victim
    (folder / "checkpoints" / "weights.safetensors" / "a folder where a file should be").mkdir(parents=True)
    done = one_line("launch", SWEEP, "--yes", status=1)
    assert f"failed: {victim}" in done.stderr
    status = one_line.json("status", SWEEP)
    assert (status["counts"]["failed"], status["counts"]["completed"]) == (1, 8)
    assert "Traceback" in one_line("logs", SWEEP, victim[:6]).stdout
    rows = (one_line.root / "results" / "micro" / "runs.csv").read_text().splitlines()
    assert sum("failed" in row for row in rows) == 1
    fits = json.loads(one_line("fit", SWEEP, "--json", status=1).stdout)["fits"]  # two budgets give no law
    assert sum(fit["points"] for fit in fits if fit["approach"] == 3) == 8
