"""A sweep through every method of `Project`, from Python, with real training of seconds."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from scaling import Project, ScalingError
from scaling.data import python_files
from scaling.data.corpus import BUILT_IN
from scaling.errors import DataError, SpecError
from scaling.project import Listener
from scaling.project.sweep_list import list_sweeps
from scaling.results.launches import Launch
from scaling.results.status import RunStatus
from scaling.rows import read_runs
from scaling.sweeps.price import Priced

SWEEP = """\
sweep: small
question: Does a script get what the command line prints?
data: {corpus: python-stdlib, tokenizer: bytes, validation_tokens: 4k}
grid:
  kind: isoflop
  budgets: [7e7, 1.4e8]
  ladder:
    - {layers: 1, width: 8, heads: 1, ff_width: 24}
    - {layers: 1, width: 12, heads: 1, ff_width: 32}
  sizes: all
families:
  dense: {parameterization: dense, optimizer: muon, lr: 0.02}
training:
  sequence_length: 32
  batch_tokens: 32
  replicates: {seeds: 2}
analysis: {bootstrap: 20, predict: [1e10]}
"""
RUNS = 5
LAUNCH_TWICE = "import sys; from scaling import Project; print(Project.open(sys.argv[1]).launch().number)"


class Recorder(Listener):
    """Remembers what it hears."""

    interval_s = 0.0

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.todo: list[int] = []
        self.seen: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def planned(self, plan: Priced, todo: int) -> None:
        self.todo.append(todo)

    def submitting(self, launch: Launch, *, attached: bool) -> None:
        self.seen.append(f"submitting {launch.number} {attached}")

    def progress(self, runs: Sequence[RunStatus]) -> None:
        self.seen.append("progress")

    def ended(self) -> None:
        self.seen.append("ended")


class Interrupter(Listener):
    """Presses Ctrl-C as soon as a run has a result and another trains."""

    interval_s = 0.0

    def progress(self, runs: Sequence[RunStatus]) -> None:
        if {"running", "completed"} <= {run.status for run in runs}:
            raise KeyboardInterrupt


def write_sweep(root: Path, text: str = SWEEP) -> Path:
    path = root / "sweeps" / "small.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Launched to its end; tests only read it."""
    project = Project.open(write_sweep(tmp_path_factory.mktemp("launched")), listener=Recorder())
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    done = project.launch()
    assert (done.number, len(done.submitted), done.failed) == (1, RUNS, ())
    assert done.report is not None
    assert done.report.page == project.results / "report.html"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    return project


def losses(project: Project) -> dict[str, float | None]:
    return {run.row.id: run.loss for run in project.runs}


def test_a_plan_is_priced_and_writes_nothing(tmp_path: Path) -> None:
    project = Project.open(str(write_sweep(tmp_path)))
    plan = project.plan()
    assert plan.totals.runs == RUNS
    done = project.launch(dry_run=True)
    assert (done.number, len(done.planned), len(done.submitted), done.report) == (None, RUNS, RUNS, None)
    assert all("scaling.runners.program" in script for script in done.scripts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sweeps"]


def test_a_launch_tells_its_listener_and_prints_nothing(launched: Project, capfd: pytest.CaptureFixture[str]) -> None:
    heard = launched.listener
    assert isinstance(heard, Recorder)
    assert heard.todo[0] == RUNS
    assert heard.seen[0] == "submitting 1 True"
    assert heard.seen.count("ended") == 1
    assert any(message.startswith(f"trained {RUNS} runs") for message in heard.messages)
    again = Project.open(launched.path).launch(confirm=lambda plan, todo: False)  # nothing to do: nobody is asked
    assert (again.number, again.submitted, len(again.runs)) == (1, (), RUNS)
    assert capfd.readouterr() == ("", "")


def test_a_built_in_corpus_that_is_not_that_of_the_launch_is_refused(
    launched: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    version, folder = python_files.standard_library()["python"]
    monkeypatch.setitem(BUILT_IN, "python-stdlib", lambda: {"python": ("3.0.0", folder)})
    monkeypatch.setattr(python_files, "_LONGEST_LINE", 100)  # leaves out files: other text
    with pytest.raises(DataError, match="not that of launch 1: its finished runs would be stale") as refused:
        Project.open(launched.path).launch()
    assert refused.value.got == f"python {version} -> 3.0.0"
    assert "--replan" in str(refused.value.hint)
    assert launched.last_launch.number == 1
    assert {run.status for run in launched.runs} == {"completed"}


def test_every_question_has_a_typed_answer(launched: Project) -> None:
    assert launched.last_launch.number == 1
    status = launched.status()
    assert (status.counts["completed"], status.hours_left) == (RUNS, 0)
    assert status.collected
    assert not status.in_progress
    rows = launched.collect()
    assert {row.id: row.loss for row in rows} == losses(launched)
    assert list(read_runs(launched.table)) == rows
    study = launched.study()
    assert [line.name for line in study.lines] == ["dense"]
    assert len(study.cells) == RUNS - 1
    assert study.settings.bootstrap == 20
    assert launched.study(replace(launched.settings, bootstrap=0, drop_highest=1)).settings.drop_highest == 1
    assert launched.report().page.exists()
    assert launched.cancel().jobs == ()


def test_imported_runs_stand_beside_those_of_the_launch(launched: Project, tmp_path: Path) -> None:
    table = tmp_path / "other.csv"
    lines = [f"{n},{d},{3 + 20 / n**0.3 + 50 / d**0.3}" for n in (1000, 2000) for d in (10_000, 20_000, 40_000)]
    table.write_text("\n".join(["params_matmul,tokens,loss", *lines]) + "\n")
    imported = launched.import_table(table)
    try:
        assert (imported.new, imported.replaced) == (6, 0)
        rows = read_runs(launched.table)
        assert [row.imported for row in rows] == [None] * RUNS + ["other.csv"] * 6
        assert launched.collect() == rows
        assert [line.name for line in launched.study().lines] == ["dense", "other"]
    finally:
        imported.path.unlink()
    assert len(launched.collect()) == RUNS


def test_a_run_is_found_by_id_and_by_label(launched: Project) -> None:
    row = launched.last_launch.rows[-1]
    history = launched.history(row.id[:10])
    assert (history.row, len(history.attempts), history.status.status) == (row, 1, "completed")
    assert history.curve[-1]["step"] == row.steps
    assert history.to_json()["settings"]["seed"] == row.seed
    label = f"{row.cell}/lr={row.lr:g}/seed={row.seed}"
    assert launched.find(launched.last_launch, label) == row
    [replicated] = {str(row.cell) for row in launched.last_launch.rows if row.seed == 1}
    with pytest.raises(ScalingError, match=re.escape(f"2 runs are named '{replicated}'")) as refused:
        launched.history(replicated)
    assert f"{replicated}/lr=0.02/seed=1" in str(refused.value)
    with pytest.raises(ScalingError, match="no runs are named"):
        launched.history("dense/7e+07")


def test_weights_are_exported_and_evaluated(launched: Project, tmp_path: Path) -> None:
    run = launched.last_launch.ids[0]
    assert launched.export(run[:8], tmp_path / "model") == run
    assert (tmp_path / "model" / "model.safetensors").exists()
    (tmp_path / "more.txt").write_text("def f(x):\n    return x + 1\n" * 2000)
    found = launched.evaluate(tmp_path / "more.txt")
    assert [one.row.id for one in found] == launched.last_launch.ids
    assert all(one.loss.loss is not None and 0 < one.loss.loss < 6 for one in found)


def test_wrong_use_raises_typed_errors(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.yaml"):
        Project.open(tmp_path / "none.yaml")
    project = Project.open(write_sweep(tmp_path))
    for question in (project.status, project.collect, project.study, project.report, lambda: project.runs):
        with pytest.raises(ScalingError, match="never launched") as refused:
            question()
        assert refused.value.hint == f"scaling launch {project.path}"
    with pytest.raises(SpecError, match=r"none\.yaml"):
        project.launch(tmp_path / "none.yaml")
    with pytest.raises(ScalingError, match=f"the launch of {RUNS} runs was not confirmed"):
        project.launch(confirm=lambda plan, todo: todo < RUNS)
    assert not (tmp_path / ".scaling").exists()


def test_a_changed_sweep_is_refused_until_replanned(launched: Project, tmp_path: Path) -> None:
    changed = write_sweep(tmp_path, SWEEP.replace("lr: 0.02", "lr: 0.03"))
    project = Project.open(changed, launched.root, listener=Recorder())
    with pytest.raises(ScalingError, match=r"optimizer\.lr: 0\.02 -> 0\.03"):
        project.launch(dry_run=True)
    assert len(project.launch(dry_run=True, replan=True).submitted) == RUNS
    assert project.status().launch.number == 1
    assert isinstance(project.listener, Recorder)
    assert "the sweep file has changed since launch 1" in project.listener.messages[0]


def test_an_interrupted_launch_goes_on_with_the_same_losses(launched: Project, tmp_path: Path) -> None:
    path = write_sweep(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        Project.open(path, listener=Interrupter()).launch()
    project = Project.open(path)
    assert not project.status().in_progress
    finished = project.status().counts["completed"]
    assert 1 <= finished < RUNS
    assert len(project.launch().submitted) == RUNS - finished
    assert losses(project) == losses(launched)


def test_two_projects_at_once_train_nothing_twice(launched: Project, tmp_path: Path) -> None:
    path = write_sweep(tmp_path)
    command = [sys.executable, "-c", LAUNCH_TWICE, str(path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=300) for process in both]
    assert answers == [("1\n", "")] * 2, answers
    assert len([*(tmp_path / ".scaling" / "store").glob("*/attempts/[0-9]*.json")]) == RUNS
    assert losses(Project.open(path)) == losses(launched)


def test_the_sweeps_of_a_folder_are_listed_with_what_is_wrong(launched: Project, tmp_path: Path) -> None:
    [own] = list_sweeps(launched.root)
    assert (own.sweep, own.launch, own.finished, own.runs) == ("small", 1, RUNS, RUNS)
    assert own.flops == pytest.approx(sum(row.flops for row in launched.last_launch.rows))
    write_sweep(tmp_path)
    (tmp_path / "sweeps" / "bad.yaml").write_text("sweep: [")
    (tmp_path / ".scaling" / "launches" / "gone").mkdir(parents=True)
    bad, gone, small = sorted(list_sweeps(tmp_path), key=lambda one: one.sweep)
    assert bad.problem is not None
    assert "bad.yaml" in bad.problem
    assert (gone.file, small.launch) == (None, None)
