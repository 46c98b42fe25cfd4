"""SLURM answers late, oddly, or not at all: no job is forgotten, none submitted twice, none gone on one answer."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.errors import RunnerError
from scaling.results.jobs import JobRef
from scaling.runners.scheduler import Order, Work, current_job
from scaling.runners.slurm import queue, sbatch
from scaling.runners.slurm.preflight import check_cluster
from scaling.runners.slurm.sbatch import SubmissionRefused, job_of
from scaling.runners.slurm.scheduler import SlurmScheduler
from scaling.runners.slurm.submissions import all_submitted

pytest_plugins = ("slurm_fixtures",)

ORDER = Order((), Path(), "c0ffee", "none", ("scaling", "launch"))
QOS = "sbatch: error: QOSMaxSubmitJobPerUserLimit"


def work(count: int) -> list[Work]:
    return [Work(f"{n:016x}", 1e5, 60.0) for n in range(count)]


def ids(count: int) -> set[str]:
    return {run.run_id for run in work(count)}


@pytest.fixture
def cluster(slurm, slurm_profile, empty_store, monkeypatch):
    """A function that makes the cluster for a launch, as a new process sees it."""
    monkeypatch.setattr(queue, "CONFIRM_SECONDS", 0.01)
    monkeypatch.delenv("SBATCH_CLUSTERS", raising=False)
    monkeypatch.delenv("SLURM_CLUSTER_NAME", raising=False)

    def make(*lines: str, launch: str = "grid-1-abcd") -> SlurmScheduler:
        return SlurmScheduler(slurm_profile(*lines), empty_store.path, launch=launch)

    return make


def live(slurm) -> list[str]:
    return [job for job, values in slurm.jobs().items() if values["state"] in ("PENDING", "RUNNING")]


def ready(store: Path) -> int:
    """How many tasks can start."""
    return len(list((store / "launches").glob("*/*_submitted.pkl")))


@pytest.mark.parametrize("words", ["sbatch: error: Socket timed out on send/recv operation", "hang"])
def test_sbatch_takes_the_job_and_then_fails(slurm, cluster, empty_store, monkeypatch, words) -> None:
    monkeypatch.setattr(sbatch, "SBATCH_SECONDS", 2.0)
    slurm.switch("no-answer", words)
    outcome = cluster().submit(work(2), replace(ORDER, continuation=None))
    assert (outcome.submitted, outcome.jobs) == (tuple(sorted(ids(2))), ("101",))
    assert ready(empty_store.path) == 2
    again = cluster().submit(work(2), replace(ORDER, continuation=None))
    assert (set(again.held), again.submitted) == (ids(2), ())
    assert live(slurm) == ["101"]


def test_sbatch_takes_the_job_and_nobody_can_be_asked_about_it(slurm, cluster, empty_store) -> None:
    """Whether there is a job is then not known; the next launch finds it by its name."""
    slurm.switch("no-answer", "sbatch: error: Unable to contact slurm controller")
    program = slurm.folder / "bin" / "squeue"
    whole = program.read_text()
    program.write_text("#!/bin/sh\necho 'Unable to contact slurm controller' >&2\nexit 1\n")
    with pytest.raises(RunnerError, match="whether it has a job is not known") as error:
        cluster().submit(work(2), ORDER)
    assert not isinstance(error.value, SubmissionRefused)
    assert [submitted.job_id for submitted in all_submitted(empty_store.path)] == [None]
    program.write_text(whole)
    (slurm.folder / "no-answer").unlink()
    again = cluster().submit(work(2), replace(ORDER, continuation=None))
    assert (set(again.held), again.submitted, live(slurm)) == (ids(2), (), ["101"])
    assert ready(empty_store.path) == 2


@pytest.mark.parametrize("says", ["ID", "ID;main", "logging to /var/log\nID", "accepted", "{'job': ID}"])
def test_a_wrapper_of_sbatch_says_it_in_its_own_words(slurm, cluster, empty_store, says) -> None:
    slurm.switch("says", says)
    outcome = cluster().submit(work(3), replace(ORDER, continuation=None))
    assert outcome.jobs == ("101",)
    assert ready(empty_store.path) == 3
    (slurm.folder / "says").unlink()
    if ";" not in says:
        assert cluster().submit(work(3), replace(ORDER, continuation=None)).submitted == ()
        assert live(slurm) == ["101"]


def test_what_sbatch_prints() -> None:
    assert job_of("Submitted batch job 12\n") == ("12", "")
    assert job_of("Submitted batch job 12 on cluster gpu2\n") == ("12", "gpu2")
    assert job_of("12\n") == ("12", "")
    assert job_of("12;gpu2\n") == ("12", "gpu2")
    assert job_of("queued\n") is None
    assert job_of("") is None


def test_a_job_of_another_cluster_is_asked_for_there(slurm, cluster, monkeypatch) -> None:
    """squeue without the option says of it that the id is invalid, which read as gone."""
    runner = cluster("sbatch: {clusters: gpu2}")
    [job, after] = runner.submit(work(2), ORDER).jobs
    slurm.set(job, state=["RUNNING", "PENDING"])
    later = cluster("sbatch: {clusters: gpu2}")
    assert set(later.poll(ids(2)).held) == ids(2)
    assert later.submit(work(2), ORDER).submitted == ()
    other = cluster("partition: main", launch="grid-2-abcd")
    assert other.submit(work(3), replace(ORDER, continuation=None)).submitted == (f"{2:016x}",)
    assert other.active(JobRef(f"{job}_0", slurm.jobs()[job]["submitted"], cluster="gpu2")) is True
    assert set(cluster("sbatch: {clusters: gpu2}").cancel(ids(2)).jobs) == {job, after, "103"}
    assert live(slurm) == []


def test_a_process_in_a_job_cannot_ask_another_cluster(slurm, cluster, monkeypatch) -> None:
    [job] = cluster("sbatch: {clusters: gpu2}").submit(work(1), replace(ORDER, continuation=None)).jobs
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_CLUSTER_NAME", "main")
    here = current_job("slurm")
    assert here.job.cluster == "main"
    assert here.active(JobRef(job, "1800000101", cluster="gpu2")) is None, "its heartbeat decides"
    assert here.active(JobRef(job, "1800000101", cluster="main")) is False


@pytest.mark.parametrize("accounting", [True, False])
def test_one_empty_answer_of_squeue_ends_no_job(slurm, cluster, accounting) -> None:
    [job] = cluster().submit(work(3), replace(ORDER, continuation=None)).jobs
    slurm.set(job, state=["RUNNING", "PENDING", "COMPLETED"])
    if not accounting:
        slurm.switch("no-accounting")
    for question in (
        lambda: set(cluster().poll(ids(2)).held),
        lambda: set(cluster().submit(work(2), replace(ORDER, continuation=None)).held),
    ):
        slurm.switch("empty-answers", "1")
        assert question() == ids(2)
    slurm.switch("empty-answers", "1")
    assert cluster().active(JobRef(f"{job}_0", "1800000101")) is True
    assert list(slurm.jobs()) == [job]


def test_a_job_is_gone_when_accounting_or_a_second_answer_says_so(slurm, cluster) -> None:
    [job] = cluster().submit(work(2), replace(ORDER, continuation=None)).jobs
    slurm.set(job, state=["FORGOTTEN", "RUNNING"])
    assert set(cluster().poll(ids(2)).held) == {f"{1:016x}"}
    assert len(slurm.calls("squeue")) == 2
    slurm.set(job, state="COMPLETED")
    slurm.switch("empty-answers", "9")
    assert not cluster().poll(ids(2)).held
    assert len(slurm.calls("squeue")) == 3, "accounting has said how it ended"


@pytest.mark.parametrize("moment", ["named", "refused"])
def test_one_empty_answer_is_not_believed_when_a_job_is_looked_up_by_its_name(slurm, cluster, moment) -> None:
    slurm.switch("no-answer", "sbatch: error: Socket timed out")
    slurm.switch("empty-answers", "1" if moment == "named" else "2")
    if moment == "named":
        assert cluster().submit(work(2), replace(ORDER, continuation=None)).jobs == ("101",)
        return
    with pytest.raises(SubmissionRefused, match="Socket timed out"):
        cluster().submit(work(2), replace(ORDER, continuation=None))


def test_a_refusal_while_the_controller_restarts_is_tried_again(slurm, slurm_profile, cluster) -> None:
    scripts = cluster().samples(work(1))
    waits: list[float] = []
    slurm.switch("refusals", "4 allocation failure: Unable to contact slurm controller (connect failure)")
    check_cluster(slurm_profile(), scripts, where="r.yaml", sleep=waits.append)
    assert len(waits) == 4
    slurm.switch("refusals", "1 allocation failure: Requested node configuration is not available")
    check_cluster(slurm_profile(), scripts, where="r.yaml", sleep=waits.append)
    slurm.switch("refusals", "99 Slurm backup controller in standby mode")
    with pytest.raises(RunnerError, match="controller does not answer"):
        check_cluster(slurm_profile(), scripts, where="r.yaml", sleep=waits.append)
    slurm.switch("refusals", "2 allocation failure: Requested node configuration is not available")
    with pytest.raises(RunnerError, match="SLURM would refuse"):
        check_cluster(slurm_profile(), scripts, where="r.yaml", sleep=waits.append)


def running_at_most(slurm) -> int:
    """The most tasks that the live arrays may run at a time; one that waits for another follows it."""
    shares, behind = {}, {}
    for job in live(slurm):
        text = slurm.text(job)
        array = re.search(r"--array=0-(\d+)%(\d+)", text)
        tasks = max(1, slurm.jobs()[job]["tasks"])
        after = re.search(r"--dependency=afterany:(\d+)\b", text)
        share = min(int(array[2]), tasks) if array else tasks
        if after and after[1] in live(slurm):
            behind[job] = after[1]
        shares[job] = share
    heads = [job for job in shares if job not in behind]
    chains = {head: [head] for head in heads}
    for job, before in behind.items():
        head = before
        while head in behind:
            head = behind[head]
        chains[head].append(job)
    return sum(max(shares[job] for job in chain) for chain in chains.values())


def test_max_concurrent_holds_over_relaunches(slurm, cluster) -> None:
    """Ten tasks ran under a limit of six."""
    limit, order = "max_concurrent: 6", replace(ORDER, continuation=None)
    [first] = cluster(limit).submit(work(6), order).jobs
    slurm.set(first, state="RUNNING")
    for count in (8, 10, 14):
        texts = cluster(limit).scripts(work(count), order)
        outcome = cluster(limit).submit(work(count), order)
        assert [slurm.text(job) for job in outcome.jobs] == texts, "the dry run says so too"
        assert running_at_most(slurm) <= 6
    assert len({run for submitted in all_submitted(cluster().store) for run in submitted.submission.runs}) == 14


def test_what_has_ended_leaves_room_under_max_concurrent(slurm, cluster) -> None:
    limit, order = "max_concurrent: 6", replace(ORDER, continuation=None)
    [first] = cluster(limit).submit(work(6), order).jobs
    slurm.set(first, state=["RUNNING", "RUNNING", "CANCELLED", "CANCELLED", "CANCELLED", "CANCELLED"])
    [second] = cluster(limit).submit(work(6), order).jobs
    assert "--array=0-3%4\n" in slurm.text(second)
    assert "dependency" not in slurm.text(second)
    [other] = cluster(limit, launch="other-1-ffff").submit(work(10)[6:], order).jobs
    assert "--array=0-3%4\n" in slurm.text(other), "another sweep has a limit of its own"


def test_a_limit_in_mid_submission_keeps_what_was_submitted(slurm, cluster, empty_store, monkeypatch) -> None:
    slurm.switch("limit", f"2 {QOS}")
    outcome = cluster().submit(work(14), ORDER)
    assert (len(outcome.submitted), outcome.jobs) == (12, ("101", "102"))
    [message] = outcome.messages
    assert "QOSMaxSubmitJobPerUserLimit" in message
    assert "2 runs are not submitted yet; `scaling launch` submits them" in message
    again = cluster().submit(work(14), ORDER)
    assert (len(again.held), again.submitted, again.jobs) == (12, (), ())
    assert "2 runs are not submitted yet" in again.messages[0]
    slurm.set("101", state="COMPLETED")
    slurm.set("102", state="COMPLETED")
    monkeypatch.setenv("SCALING_CONTINUATION", "1")
    assert cluster().submit(work(14), ORDER).submitted == tuple(sorted(ids(14) - ids(12))), "refused is not tried"


def test_the_job_that_goes_on_submits_what_a_limit_left(slurm, cluster) -> None:
    slurm.switch("limit", f"2 {QOS}")
    outcome = cluster().submit(work(14), replace(ORDER, continuation=None))
    slurm.switch("limit", f"3 {QOS}")
    slurm.set("101", state="COMPLETED")
    empty = cluster().submit(work(14)[6:], ORDER)
    assert len(outcome.submitted) + len(empty.submitted) == 14
    assert len(empty.jobs) == 2


def test_the_first_job_refused_is_an_error(slurm, cluster) -> None:
    slurm.switch("limit", f"0 {QOS}")
    with pytest.raises(SubmissionRefused, match="QOSMax"):
        cluster().submit(work(2), ORDER)


def test_srun_args_reach_srun(slurm, cluster) -> None:
    runner = cluster("srun_args: ['--mpi=pmix', '--container-image=a b']")
    [job] = runner.submit(work(1), replace(ORDER, continuation=None)).jobs
    [line] = [line for line in slurm.text(job).splitlines() if line.startswith("srun ")]
    assert "--kill-on-bad-exit=1 --mpi=pmix '--container-image=a b' " in line


def test_a_damaged_submission_is_named_and_set_aside_and_the_others_go_on(slurm, cluster, empty_store) -> None:
    order = replace(ORDER, continuation=None)
    cluster().submit(work(2), order)
    cluster().submit(work(4), order)
    [first, second] = [submitted.path for submitted in all_submitted(empty_store.path)]
    first.write_text(first.read_text()[:40])
    view = cluster().poll(ids(4))
    assert set(view.held) == ids(4) - ids(2)
    assert any(str(first) in note for note in view.notes)
    outcome = cluster().submit(work(4), order)
    assert set(outcome.submitted) == ids(2)
    assert any(str(first) in message and "job 101" in message for message in outcome.messages)
    assert first.with_name("01.json.bad").exists()
    assert sorted(path.name for path in first.parent.glob("0?.json")) == ["02.json", "03.json"]
    assert second.exists()
