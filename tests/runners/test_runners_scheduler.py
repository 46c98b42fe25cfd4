"""The scheduler interface: a scheduler of seventy lines runs a sweep through every verb, with real training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scaling.errors import RunnerError, SpecError
from scaling.results.jobs import JobRef, JobState
from scaling.runners.local import LocalScheduler
from scaling.runners.runner_file import load_runner
from scaling.runners.scheduler import Order, Ranks, Scheduler, Work, current_job, scheduler_class
from scaling.runners.scheduler_names import names

SWEEP = """\
sweep: loops
question: Does a scheduler of seventy lines do?
data: {corpus: python-stdlib, tokenizer: bytes, validation_tokens: 4k}
grid:
  kind: isoflop
  budgets: [4.2e8, 8.4e8]
  ladder:
    - {layers: 1, width: 8, heads: 1, ff_width: 24}
    - {layers: 1, width: 12, heads: 1, ff_width: 32}
    - {layers: 1, width: 16, heads: 1, ff_width: 40}
  sizes: all
families:
  dense: {parameterization: dense, optimizer: muon, lr: 0.02}
training: {sequence_length: 32, batch_tokens: 32}
analysis: {bootstrap: 50}
"""
RUNNER = "runner: shell_scheduler:ShellLoop\ndevice: cpu\noptions: {before: 'echo begun'}\n"


class Project:
    """The command in a folder with one sweep and one runner file."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "sweeps").mkdir(parents=True)
        (root / "sweeps" / "loops.yaml").write_text(SWEEP)
        (root / "runner.yaml").write_text(RUNNER)

    def __call__(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        path = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
        command = [sys.executable, "-m", "scaling.cli", *arguments]
        environment = os.environ | {"PYTHONPATH": path}
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == status, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def status(self) -> dict:
        return json.loads(self("status", "sweeps/loops.yaml", "--json").stdout)

    @property
    def results(self) -> list[Path]:
        return list((self.root / ".scaling" / "store").glob("*/result.json"))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def wait_until(condition, seconds: float = 180, every: float = 0.1) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(every)


def test_a_user_s_scheduler_runs_a_sweep_through_every_verb(project: Project) -> None:
    launch = ("launch", "sweeps/loops.yaml", "--runner", "runner.yaml")
    planned = json.loads(project("plan", "sweeps/loops.yaml", "--runner", "runner.yaml", "--json").stdout)
    assert len(planned["runs"]) == 6
    [script] = json.loads(project(*launch, "--dry-run", "--json").stdout)["scripts"]
    assert script.startswith("echo begun\nuntil ")
    assert (
        f"work --store {project.root}/.scaling/store --launch {project.root}/.scaling/launches/loops/1.json" in script
    )

    submitted = json.loads(project(*launch, "--yes", "--json").stdout)
    assert (submitted["submitted"], submitted["skipped"], len(submitted["jobs"])) == (6, 0, 1)
    counts = project.status()["counts"]
    assert counts["queued"] + counts["running"] + counts["completed"] == 6
    wait_until(lambda: list((project.root / ".scaling" / "store").glob("*/attempts/0001.json")), every=0.01)
    os.killpg(int(submitted["jobs"][0]), signal.SIGSTOP)  # the sweep is not over before `cancel` has started
    assert "told the loop" in project("cancel", "sweeps/loops.yaml").stderr
    os.killpg(int(submitted["jobs"][0]), signal.SIGCONT)
    # a stopped run is queued as long as its loop is there
    wait_until(lambda: not {"running", "queued"} & {run["status"] for run in project.status()["runs"]})
    [stopped, *_] = [run for run in project.status()["runs"] if run["status"] in ("stopped", "failed")]
    assert f"job {submitted['jobs'][0]} ended" in stopped["message"]
    assert "no launch of loops" in project("cancel", "sweeps/loops.yaml").stderr

    done = project(*launch, "--yes", "--wait")
    assert "report: " in done.stderr
    assert project.status()["counts"]["completed"] == 6
    attempts = sorted((project.root / ".scaling" / "store").glob("*/attempts/[0-9]*[0-9].json"))
    owners = [json.loads(path.read_text()) for path in attempts]
    assert {owner["job_id"] for owner in owners} >= set(submitted["jobs"]), "a worker knows the job that it runs in"
    assert all(int(owner["job_submitted"]) > 1_600_000_000 for owner in owners)
    project("collect", "sweeps/loops.yaml")
    rows = (project.root / "results" / "loops" / "runs.csv").read_text().splitlines()
    assert len(rows) == 7
    project("report", "sweeps/loops.yaml")


def test_the_public_worker_says_what_is_left_by_its_exit_status(project: Project) -> None:
    work = ("work", "--store", ".scaling/store", "--launch")
    assert "no such launch" in project(*work, "loops", status=1).stderr
    (project.root / "runner.yaml").write_text("runner: external\ndevice: cpu\n")
    launched = project("launch", "sweeps/loops.yaml", "--runner", "runner.yaml", "--yes")
    assert "start as many workers as you like: " in launched.stderr
    assert project.status()["counts"]["queued"] == 6
    assert "where you started them" in project("cancel", "sweeps/loops.yaml").stderr
    [first, *_] = json.loads((project.root / ".scaling" / "launches" / "loops" / "1.json").read_text())["rows"]
    broken = project.root / ".scaling" / "store" / first["id"] / "run.json"
    whole = broken.read_text()
    broken.write_text("{")
    answer = project(*work, "loops/1", status=1)
    assert f"failed: {first['id']}: " in answer.stderr
    assert len(project.results) == 5, "a run that fails does not stop the others"
    assert project(*work, "loops", status=1).stderr.count("failed: ") == 1, "it is not tried again by this launch"
    attempts = list((broken.parent / "attempts").glob("*.error.json"))
    assert len(attempts) == 1
    broken.write_text(whole)
    project("launch", "sweeps/loops.yaml", "--runner", "runner.yaml", "--yes")
    assert "all 6 runs" in project(*work, str(project.root / ".scaling" / "launches" / "loops" / "1.json")).stderr
    assert "report: " in project("launch", "sweeps/loops.yaml", "--runner", "runner.yaml", "--yes").stderr
    (project.root / "elsewhere").mkdir()
    wrong = project("work", "--store", "elsewhere", "--launch", "loops", status=1)
    assert "holds no run of the launch" in wrong.stderr
    assert not list((project.root / "elsewhere").iterdir()), "nothing is written into a wrong store"


def test_runs_that_another_worker_may_be_training_are_left_with_status_75(project: Project) -> None:
    from scaling.results.owner import Owner
    from scaling.results.store import Store

    (project.root / "runner.yaml").write_text("runner: external\ndevice: cpu\n")
    project("launch", "sweeps/loops.yaml", "--runner", "runner.yaml", "--yes")
    [first, *_] = json.loads((project.root / ".scaling" / "launches" / "loops" / "1.json").read_text())["rows"]
    Store(project.root / ".scaling" / "store").claim(first["id"], Owner.current())
    left = project("work", "--store", ".scaling/store", "--launch", "loops", status=75)
    assert "1 runs are left" in left.stderr
    assert len(project.results) == 5


@pytest.mark.parametrize("name", names())
def test_every_known_scheduler_is_one(name: str) -> None:
    made = scheduler_class(name)
    assert Scheduler in made.__mro__
    assert {"scripts", "submit", "poll", "cancel", "environment"} <= vars(made).keys()


@pytest.mark.parametrize(
    ("name", "message"),
    [("slurn", "no such scheduler"), ("nowhere:It", "cannot be imported"), ("json:dumps", "no scheduler")],
)
def test_a_runner_that_is_no_scheduler_is_refused_with_its_line(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "runner.yaml").write_text(f"device: cpu\nrunner: {name}\n")
    with pytest.raises(SpecError, match=message) as error:
        load_runner(tmp_path / "runner.yaml")
    assert error.value.where == f"{tmp_path}/runner.yaml:2: runner"
    with pytest.raises(RunnerError, match=message):
        scheduler_class(name)


def test_an_installed_package_may_name_its_scheduler(tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "loops-1.0.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: loops\nVersion: 1.0\n")
    (package / "entry_points.txt").write_text("[scaling.schedulers]\nloops = shell_scheduler:ShellLoop\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert names() == ["local", "external", "slurm", "loops"]
    assert scheduler_class("loops").__name__ == "ShellLoop"
    (tmp_path / "runner.yaml").write_text("runner: loops\noptions: {before: 'echo hello'}\n")
    assert load_runner(tmp_path / "runner.yaml").options == {"before": "echo hello"}


@pytest.mark.parametrize(("runner", "key"), [("local", "time_limit: 4h"), ("slurm", "options: {queue: long}")])
def test_a_key_that_the_scheduler_does_not_read_is_refused(tmp_path: Path, runner: str, key: str) -> None:
    (tmp_path / "runner.yaml").write_text(f"runner: {runner}\n{key}\n")
    with pytest.raises(SpecError, match=f"`runner: {runner}` does not read '{key.partition(':')[0]}'"):
        load_runner(tmp_path / "runner.yaml")


def test_no_scheduler_claims_a_process_outside_of_its_jobs(monkeypatch) -> None:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    assert current_job() is None


def test_an_id_given_out_again_is_another_job() -> None:
    running = JobState("RUNNING", True, submitted="1800000200")
    assert running.active_for(JobRef("7", "1800000200")) is True
    assert running.active_for(JobRef("7", "1800000100")) is False, "before the cluster was set up anew, or a requeue"
    assert running.active_for(JobRef("7")) is None, "without a time it may be another job: its heartbeat decides"


def test_training_reads_the_ranks_as_torchrun_says_them() -> None:
    variables = Ranks(3, 4, 1, "node1", 20_007).variables()
    assert variables == {
        "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "20007"
    }  # fmt: skip


def test_a_dry_run_on_this_machine_names_every_worker_and_starts_none(tmp_path: Path) -> None:
    (tmp_path / "runner.yaml").write_text("runner: local\nslots: 2\n")
    here = LocalScheduler(load_runner(tmp_path / "runner.yaml"), tmp_path / "S", launch="a-1", folder=tmp_path / "1")
    order = Order(("scaling", "work"), tmp_path / "1" / "worklist.json", "c0ffee")
    commands = here.scripts([Work(f"{n:016x}", 1.0, 1.0) for n in range(3)], order)
    worker = f"-m scaling.runners.program --lifeline --store {tmp_path}/S --runs {order.worklist} --follow --device cpu"
    assert [command.partition(" -P ")[2] for command in commands] == [worker] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["runner.yaml"]
