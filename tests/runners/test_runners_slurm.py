"""Submission against a fake SLURM at the subprocess boundary; submitit and our code are real."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling.errors import RunnerError, SpecError
from scaling.results.jobs import JobRef
from scaling.results.launches import launch_name, same_sweep
from scaling.results.owner import Owner
from scaling.results.store import Attempt
from scaling.runners.runner_file import load_runner
from scaling.runners.scheduler import Order, Work
from scaling.runners.slurm.preflight import check_cluster, check_shared, file_system
from scaling.runners.slurm.queue import SlurmQueue
from scaling.runners.slurm.scheduler import SlurmScheduler
from scaling.runners.slurm.script import check_folder, check_runner
from scaling.runners.slurm.submissions import Submission, all_submitted

pytest_plugins = ("slurm_fixtures",)

GOLDEN = Path(__file__).parent / "sbatch_array.txt"
RUNNERS = Path(__file__).parent.parent.parent / "runners"
ORDER = Order((), Path(), "c0ffee", "none")
FIXED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
PROGRAM = """
import sys
from pathlib import Path
from scaling.runners.runner_file import load_runner
from scaling.runners.scheduler import Order, Work
from scaling.runners.slurm.scheduler import SlurmScheduler
work = [Work(f"{n:016x}", 1.0, 60.0) for n in range(int(sys.argv[4]))]
slurm = SlurmScheduler(load_runner(Path(sys.argv[1])), Path(sys.argv[2]), launch=sys.argv[3])
print(len(slurm.submit(work, Order((), Path(), "c0ffee", "none")).submitted))
"""


def work(count: int, *, first: int = 0, seconds: float | None = 60.0) -> list[Work]:
    return [Work(f"{n:016x}", 1e5, seconds) for n in range(first, first + count)]


def ids(count: int) -> set[str]:
    return {run.run_id for run in work(count)}


@pytest.fixture
def cluster(slurm, slurm_profile, empty_store):
    """A function that makes the cluster for a launch."""

    def make(*lines: str, launch: str = "grid-1-abcd") -> SlurmScheduler:
        return SlurmScheduler(slurm_profile(*lines), empty_store.path, launch=launch)

    return make


def submit(cluster: SlurmScheduler, runs: list[Work], *, continuation: tuple[str, ...] | None = None):
    return cluster.submit(runs, replace(ORDER, continuation=continuation))


def holders(store: Path) -> dict[str, list[str]]:
    """run id -> the job ids whose tasks train it."""
    found: dict[str, list[str]] = {}
    for submitted in all_submitted(store):
        for run_id in submitted.submission.runs if submitted.job_id else ():
            found.setdefault(run_id, []).append(submitted.job_id)
    return found


def test_the_text_of_a_dry_run_is_the_text_that_is_submitted(slurm, cluster, empty_store):
    runner = cluster(
        "partition: main",
        "resources: [{gpus: 2, cpus_per_gpu: 4, memory: 64G, nodes: 2}]",
        "max_concurrent: 2",
        'setup: ["module load cuda", "export NCCL_DEBUG=WARN"]',
        'sbatch: {qos: normal, mail_user: "o\'hara; rm -rf $HOME", exclusive: true}',
    )
    [text] = runner.scripts(work(3), ORDER)
    outcome = submit(runner, work(3))
    assert slurm.text(outcome.jobs[0]) == text
    text = text.replace(shlex.quote(sys.executable), "PYTHON").replace(str(empty_store.path), "STORE")
    assert text == GOLDEN.read_text(), "if the change is meant, write the new text to the golden file"


def test_arrays_carry_the_launch_in_their_names_and_stay_below_max_array_size(slurm, cluster, empty_store):
    outcome = submit(cluster(), work(14), continuation=("scaling", "launch"))
    jobs = slurm.jobs()
    assert [jobs[job]["name"] for job in outcome.jobs] == [f"grid-1-abcd.{n:02d}" for n in (1, 2, 3, 4)]
    assert [jobs[job]["tasks"] for job in outcome.jobs] == [6, 6, 2, 0]
    assert f"--dependency=afterany:{':'.join(outcome.jobs[:3])}" in slurm.text(outcome.jobs[3])
    assert {run: len(held) for run, held in holders(empty_store.path).items()} == dict.fromkeys(ids(14), 1)


def test_a_second_launch_leaves_alone_what_jobs_hold(slurm, cluster):
    first = submit(cluster(), work(4))
    slurm.set(first.jobs[0], state=["RUNNING", "PENDING", "COMPLETED", "CANCELLED"])
    again = submit(cluster(launch="other-1-ffff"), work(5))
    assert again.submitted == (f"{2:016x}", f"{3:016x}", f"{4:016x}"), "ended without a result, or never submitted"
    assert {run: str(held) for run, held in again.held.items()} == {
        f"{0:016x}": f"job {first.jobs[0]}_0 is running, without a heartbeat: no worker of it has taken a run yet",
        f"{1:016x}": f"job {first.jobs[0]}_1 pending: Priority",
    }


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_between_two_sbatch_calls_the_next_launch_finds_what_was_submitted(
    slurm, cluster, empty_store, slurm_profile, tmp_path, moment
):
    slurm.switch("kill-launcher-2", moment)
    slurm_profile()
    arguments = [str(tmp_path / "runner.yaml"), str(empty_store.path), "grid-1-abcd", "14"]
    killed = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    outcome = submit(cluster(), work(14))
    assert len(outcome.held) == (6 if moment == "before" else 12), "what SLURM has taken is found by its name"
    assert len(outcome.held) + len(outcome.submitted) == 14
    live = {job for job, values in slurm.jobs().items() if values["state"] == "PENDING"}
    for run_id, jobs in holders(empty_store.path).items():
        assert len(live.intersection(jobs)) == 1, run_id
    assert len(live) == 3
    assert len(list((empty_store.path / "launches").glob("*/*_submitted.pkl"))) == 14, "and its tasks can start"
    assert not list((empty_store.path / "launches").glob("*/0?.*.pkl"))


def test_two_launches_at_once_submit_every_run_once(slurm, cluster, empty_store, slurm_profile, tmp_path):
    slurm_profile()
    launches = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                PROGRAM,
                str(tmp_path / "runner.yaml"),
                str(empty_store.path),
                f"grid-{n}-abcd",
                "9",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in (1, 2)
    ]
    submitted = [int(launch.communicate()[0]) for launch in launches]
    assert sorted(submitted) == [0, 9]
    assert {run: len(held) for run, held in holders(empty_store.path).items()} == dict.fromkeys(ids(9), 1)


def test_one_query_answers_for_all_arrays(slurm, cluster):
    runner = cluster()
    submit(runner, work(14))
    before = len(slurm.calls("squeue"))
    for _ in range(3):  # asked again within a few seconds, SLURM is left in peace
        assert len(runner.jobs.held(ids(14))) == 14
    assert len(slurm.calls("squeue")) == before + 1
    assert not slurm.calls("sacct")


def test_a_controller_that_does_not_answer_never_reads_as_failed(slurm, cluster, empty_store):
    runner = cluster()
    [job] = submit(runner, work(4)).jobs
    slurm.set(job, state=["RUNNING", "COMPLETED", "NODE_FAIL", "PENDING"])
    slurm.switch("down")
    view = runner.poll(ids(4))
    assert set(view.held) == ids(4) - {f"{1:016x}"}, "accounting knows that one has completed"
    assert [runner.active(JobRef(f"{job}_{task}")) for task in range(3)] == [None, False, None], "the heartbeat decides"
    assert "controller does not answer" in view.notes[0]
    slurm.switch("no-accounting")
    runner.jobs.queue.forget()
    assert set(runner.poll(ids(4)).held) == ids(4)
    assert [runner.active(JobRef(f"{job}_{task}")) for task in range(4)] == [None] * 4
    with pytest.raises(RunnerError, match="controller"):
        submit(runner, work(6))


def test_a_dead_controller_is_waited_for_once():
    """squeue takes longer to give up than an answer is remembered."""
    now, asked = [0.0], []

    def hanging(command):
        asked.append(command[0])
        now[0] += 18.0
        return subprocess.CompletedProcess(command, 1, "", "Unable to contact slurm controller (connect failure)")

    queue = SlurmQueue(run=hanging, clock=lambda: now[0])
    assert [queue.active(JobRef(job)) for job in ("7", "7", "7_1")] == [None, None, None]
    assert asked == ["squeue", "sacct"]


def test_without_accounting_squeue_alone_is_enough(slurm, cluster, empty_store):
    runner = cluster()
    [job] = submit(runner, work(3)).jobs
    slurm.switch("no-accounting")
    slurm.set(job, state=["RUNNING", "SOMETHING_NEW", "FORGOTTEN"])
    view = runner.poll(ids(3))
    assert set(view.held) == {f"{0:016x}", f"{1:016x}"}, "a state of a newer SLURM is not a failure"
    assert view.endings == {f"{2:016x}": f"job {job}_2 ended"}
    assert "accounting does not answer" in view.notes[0]


def test_a_job_that_ended_before_its_worker_shows_its_last_line(slurm, cluster, empty_store):
    runner = cluster()
    [job] = submit(runner, work(2)).jobs
    slurm.set(job, state=["FAILED", "CANCELLED"])
    (runner.folder / f"{job}_0_0_log.err").write_text("warning\nbash: modul: command not found\n")
    (runner.folder / f"{job}_0_log.err").write_text("")
    endings = runner.poll(ids(2)).endings
    assert endings[f"{0:016x}"].startswith(f"job {job}_0 failed: bash: modul: command not found")
    assert endings[f"{1:016x}"] == f"job {job}_1 cancelled"


def test_a_job_that_a_node_failed_to_start_is_released_by_the_next_launch(slurm, cluster, empty_store):
    runner = cluster()
    [job] = submit(runner, work(1)).jobs
    slurm.set(job, reason="launch failed requeued held")
    assert "`scaling launch` releases it" in str(runner.poll(ids(1)).held[f"{0:016x}"])
    assert submit(cluster(), work(1)).submitted == ()
    assert slurm.jobs()[job]["reason"] == "Priority"


def test_elements_that_never_started_share_one_row_of_accounting(slurm, cluster, empty_store):
    runner = cluster()
    [job] = submit(runner, work(4)).jobs
    slurm.set(job, state="CANCELLED")
    endings = runner.poll(ids(4)).endings
    assert endings == {f"{n:016x}": f"job {job}_{n} cancelled by 0" for n in range(4)}


def test_cancel_touches_only_launches_of_its_own_sweep(slurm, cluster):
    own = submit(cluster(launch="grid-1-abcd"), work(2), continuation=("scaling",)).jobs
    later = submit(cluster(launch="grid-2-abcd"), work(4)).jobs
    other = submit(cluster(launch="grid-1-9999"), work(6)).jobs
    cancelled, foreign = cluster(launch="grid-2-abcd").jobs.cancel("grid-2-abcd", ids(6))
    assert cancelled == [*later, *reversed(own)], "what waits for the others goes first"
    assert {held.launch for held in foreign.values()} == {"grid-1-9999"}
    assert set(foreign) == {f"{4:016x}", f"{5:016x}"}
    assert slurm.jobs()[other[0]]["state"] == "PENDING"


def test_the_job_that_goes_on_is_submitted_again_only_when_it_is_missing(slurm, cluster):
    runner = cluster()
    [array] = submit(runner, work(2)).jobs
    [after] = submit(runner, work(2), continuation=("scaling",)).jobs
    assert f"afterany:{array}" in slurm.text(after)
    assert submit(runner, work(2), continuation=("scaling",)).jobs == ()


def test_unattended_a_run_that_failed_or_never_started_is_not_tried_for_ever(
    slurm, cluster, empty_store, tiny_run, monkeypatch
):
    runs = [tiny_run(seed=seed) for seed in range(4)]
    for run in runs:
        empty_store.add(run)
    listed = [Work(run.id, 1.0, 60.0) for run in runs]
    first = submit(cluster(), listed[:3])
    slurm.set(first.jobs[0], state="FAILED")
    preempted, crashed = (empty_store.claim(run.id, Owner.current()) for run in runs[:2])
    assert isinstance(preempted, Attempt)
    crashed.fail("ValueError", "Traceback")
    monkeypatch.setenv("SCALING_CONTINUATION", "1")
    again = submit(cluster(), listed)
    assert again.submitted == (runs[0].id, runs[3].id), "what was lost on the way, and what is new"
    slurm.set(again.jobs[0], state="FAILED")
    assert submit(cluster(), listed).submitted == (), "no worker took the run meanwhile"
    read = []
    whole = Submission.read
    monkeypatch.setattr(Submission, "read", lambda path: read.append(path) or whole(path))
    assert submit(cluster(), listed).submitted == ()
    assert max(map(read.count, read)) <= 4, "as often for a hundred runs as for one"
    monkeypatch.delenv("SCALING_CONTINUATION")
    assert len(submit(cluster(), listed).submitted) == 4, "a person may always try again"


def test_sbatch_s_own_words_reach_the_user_and_nothing_is_held(slurm, cluster, capfd):
    slurm.switch("refuse", "sbatch: error: Invalid account or account/partition combination specified")
    with pytest.raises(RunnerError) as error:
        submit(cluster(), work(2))
    assert "Invalid account" in str(error.value)
    assert "scaling doctor" in error.value.hint
    (slurm.folder / "refuse").unlink()
    assert len(submit(cluster(), work(2)).submitted) == 2


@FIXED
@given(
    st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=20),
    st.text("abc '\"$;&|`\\()<>#*?{}~!\t", max_size=20),
)
def test_no_value_reaches_a_shell_unquoted(tmp_path_factory, sweep, value):
    """The script is run by bash with an `srun` that writes down its arguments: they arrive as they were given."""
    from scaling.runners.runner_file import Runner

    place = tmp_path_factory.mktemp("quoting")
    store = place / "my store; $(touch owned) 'x'"
    profile = Runner(runner="slurm", time_limit="1h", partition=value or "p", sbatch={"comment": value})
    check_runner(profile, where="r.yaml")
    name = launch_name(sweep, 3, root=place, store=store)
    assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    [text] = SlurmScheduler(profile, store, launch=name).scripts(work(1), ORDER)
    flags = {line.partition("=")[0]: line.partition("=")[2] for line in text.splitlines() if line.startswith("#SBATCH")}
    assert shlex.split(flags["#SBATCH --comment"]) == [value]
    assert shlex.split(flags["#SBATCH --partition"]) == [value or "p"]
    assert "\n" not in flags["#SBATCH --comment"]
    (place / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@" >seen\n')
    (place / "srun").chmod(0o755)
    environment = os.environ | {"PATH": f"{place}:{os.environ['PATH']}"}
    subprocess.run(["bash", "-c", text], cwd=place, env=environment, check=True)
    assert (place / "seen").read_text().splitlines()[-1] == str(store.resolve() / "launches" / name)
    assert sorted(path.name for path in place.iterdir()) == ["seen", "srun"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['sbatch: {comment: "one\\ntwo"}'], "newline"),
        (['partition: "one\\ntwo"'], "newline"),
        (["sbatch: {time: 10}"], "not passed through"),
        (["sbatch: {array: 0-3}"], "not passed through"),
        (["sbatch: {'x; rm -rf /': 1}"], "not the name of an sbatch option"),
        (["sbatch: {qos: [a, b]}"], "not a value"),
    ],
)
def test_what_sbatch_would_misread_is_refused_with_its_place(slurm_profile, lines, message):
    with pytest.raises(SpecError, match=message) as error:
        check_runner(slurm_profile(*lines), where="runners/x.yaml")
    assert error.value.where.startswith("runners/x.yaml: ")


def test_a_time_limit_is_needed(tmp_path):
    from scaling.runners.runner_file import Runner

    with pytest.raises(SpecError, match="time limit"):
        check_runner(Runner(runner="slurm"), where="r.yaml")


@pytest.mark.parametrize("name", ["100%", "a\\b", "a\nb", 'a"b'])
def test_a_store_that_slurm_reads_as_a_pattern_is_refused(name):
    with pytest.raises(RunnerError, match="SLURM cannot write logs"):
        check_folder(Path("/data") / name)


def test_an_unknown_device_is_refused_with_its_line(tmp_path):
    (tmp_path / "runner.yaml").write_text("runner: local\ndevice: h2000\n")
    with pytest.raises(SpecError, match="no such device") as error:
        load_runner(tmp_path / "runner.yaml")
    assert error.value.where == f"{tmp_path}/runner.yaml:2: device"
    assert error.value.hint == "did you mean 'h200'?"


def test_without_slurm_the_next_command_is_named(slurm_profile, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunnerError, match="no SLURM on this machine") as error:
        check_cluster(slurm_profile(), [], where="r.yaml")
    assert "without --runner" in error.value.hint


def test_unknown_partitions_and_long_limits_are_refused_before_submission(slurm, slurm_profile, cluster):
    with pytest.raises(RunnerError) as unknown:
        check_cluster(slurm_profile("partition: gpus"), [], where="r.yaml")
    assert (unknown.value.got, unknown.value.allowed) == ("gpus", "main, short")
    with pytest.raises(RunnerError) as long:
        check_cluster(slurm_profile("partition: short"), [], where="r.yaml")
    assert (long.value.got, long.value.allowed.partition(";")[0]) == ("4h 0m", "at most 10m 0s")
    slurm.switch("refuse", "sbatch: error: Requested node configuration is not available")
    with pytest.raises(RunnerError, match="would refuse") as misfit:
        check_cluster(slurm_profile(), cluster().samples(work(1)), where="r.yaml")
    assert "node configuration" in misfit.value.got
    slurm.switch("down")
    with pytest.raises(RunnerError, match="controller"):
        check_cluster(slurm_profile(), [], where="r.yaml")
    assert not slurm.jobs()


def test_a_store_that_a_node_does_not_see_is_refused(slurm, slurm_profile, empty_store):
    answer = {"host": "node7", "store": False}
    program = slurm.folder / "bin" / "srun"
    program.write_text(f"#!/bin/sh\necho 'PROBE {json.dumps(answer)}'\n")
    with pytest.raises(RunnerError, match="node7 does not see") as error:
        check_shared(slurm_profile(), empty_store.path, where="r.yaml")
    assert file_system(empty_store.path) in error.value.got
    program.write_text(f'#!/bin/sh\necho "$@" >{slurm.folder}/srun-arguments\nexit 1\n')
    later = slurm_profile("sbatch: {begin: now+1hour, account: lab}")
    assert "no node was free" in check_shared(later, empty_store.path, where="r.yaml")
    assert "--account=lab" in (slurm.folder / "srun-arguments").read_text()
    assert "--begin" not in (slurm.folder / "srun-arguments").read_text(), "a probe does not wait for the jobs' time"
    program.write_text(f"#!/bin/sh\necho 'PROBE {json.dumps(answer | {'store': True})}'\n")
    assert check_shared(slurm_profile(), empty_store.path, where="r.yaml") is None
    program.unlink()
    assert check_shared(slurm_profile(), empty_store.path, where="r.yaml") is None, "asked once per store"


def test_a_task_of_many_slots_asks_for_as_many_times_the_resources(slurm_profile, empty_store):
    profile = slurm_profile("slots: 4", "pack: {target: 1h}", "resources: [{gpus: 1, cpus_per_gpu: 3, memory: 20G}]")
    [text] = SlurmScheduler(profile, empty_store.path, launch="x-1-abcd").scripts(work(8, seconds=1800.0), ORDER)
    for flag in ("--gpus-per-node=4", "--cpus-per-task=12", "--mem=80G", "--ntasks-per-node=1"):
        assert f"#SBATCH {flag}\n" in text


def test_launches_of_one_sweep_differ_in_their_number_only(tmp_path):
    first, second = (launch_name("my grid", number, root=tmp_path, store=tmp_path) for number in (1, 12))
    assert same_sweep(first, second)
    assert not same_sweep(first, launch_name("my grid", 1, root=tmp_path / "elsewhere", store=tmp_path))
    assert not same_sweep(first, launch_name("my grid", 1, root=tmp_path, store=tmp_path / "elsewhere"))
    assert not same_sweep(first, launch_name("my grid 2", 1, root=tmp_path, store=tmp_path))


@pytest.mark.parametrize("path", sorted(RUNNERS.glob("slurm*.yaml")), ids=lambda path: path.name)
def test_the_example_profiles_give_a_script(path, empty_store):
    profile = load_runner(path)
    check_runner(profile, where=str(path))
    runs = [Work(f"{n:016x}", params, 120.0) for n, params in enumerate((1e6, 1e8, 2e9, 7e9))]
    assert SlurmScheduler(profile, empty_store.path, launch="x-1-abcd").scripts(runs, ORDER)


def test_doctor_asks_the_cluster(slurm, slurm_profile, tmp_path, capsys):
    from scaling.cli import main

    slurm_profile("store: store")
    program = slurm.folder / "bin" / "srun"
    program.write_text('#!/bin/sh\necho \'PROBE {"host": "node7", "store": true, "submits": true}\'\n')
    arguments = ["doctor", "--runner", str(tmp_path / "runner.yaml"), "--root", str(tmp_path), "--json"]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)["cluster"]
    assert (found["partition"], found["time limit"], found["nodes submit"]) == ("main", "UNLIMITED", True)
    program.write_text("#!/bin/sh\necho 'srun: error: Unable to allocate resources' >&2\nexit 1\n")
    assert main(arguments) == 1
    assert "Unable to allocate" in json.loads(capsys.readouterr().out)["cluster"]["problem"]


def test_a_run_that_failed_is_not_held_by_the_job_that_goes_on_with_others(slurm, cluster, empty_store, tiny_run):
    runs = [tiny_run(seed=seed) for seed in range(2)]
    for run in runs:
        empty_store.add(run)
    listed = [Work(run.id, 1.0, 60.0) for run in runs]
    runner = cluster("pack: {target: 1h}")
    [job] = submit(runner, listed).jobs
    slurm.set(job, state="RUNNING")
    empty_store.claim(runs[0].id, Owner.current(job=JobRef(job))).fail("ValueError: no", "Traceback")
    assert set(runner.jobs.held({run.id for run in runs})) == {runs[1].id}
    assert submit(runner, listed).submitted == (runs[0].id,)


def test_inside_a_job_sbatch_sees_a_login_node(slurm, cluster, monkeypatch):
    seen = slurm.folder / "seen"
    program = slurm.folder / "bin" / "sbatch"
    program.write_text(program.read_text().replace("exec ", f"env >{shlex.quote(str(seen))}\nexec "))
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm/slurm.conf")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "7")
    submit(cluster(), work(1))
    assert "SLURM_CONF=/etc/slurm/slurm.conf" in seen.read_text()
    assert "SLURM_CPUS_PER_TASK" not in seen.read_text()
    assert os.environ["SLURM_CPUS_PER_TASK"] == "7"
