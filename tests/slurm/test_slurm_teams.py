"""One run on two nodes: torch.distributed from the SLURM environment, over gloo."""

from __future__ import annotations

import os
import signal
import time

import pytest
from box import Box, slurm_command, states, wait_until

from scaling.run import Run

pytestmark = pytest.mark.slurm

TWO_NODES = ("resources: [{nodes: 2, cpus: 1}]", "sbatch: {exclude: 'node3,node4'}")
SHARDED = ("resources: [{nodes: 2, cpus: 1, strategy: fsdp}]", TWO_NODES[1])


@pytest.mark.extra
def test_two_nodes_shard_one_run_and_a_requeue_changes_no_bit(box: Box, short_runs) -> None:
    [disturbed] = box.add(short_runs[:1])  # its steps are slow here: every one gathers the model over the network
    twin = Box(box.folder / "twin", box.reference, box.corpus_hash)
    twin.add([disturbed])
    box.submit([disturbed], *SHARDED)
    twin.submit([disturbed], *SHARDED)
    box.wait_for_training(disturbed)
    slurm_command("scancel", "--signal=USR2", box.store.newest(disturbed.id).owner.job_id)
    box.wait_for_results([disturbed])
    twin.wait_for_results([disturbed])
    assert box.endings(disturbed) == ["stopped", "completed"]
    assert box.store.result(disturbed.id).loss_nats == twin.store.result(disturbed.id).loss_nats
    assert twin.store.result(disturbed.id).loss_nats == nearly(twin, disturbed)


def test_one_failing_rank_ends_the_task_at_once(box: Box, team_run) -> None:
    """The other rank stands still and notices nothing: SLURM has to end it."""
    [run] = box.add([team_run])
    [job] = box.submit([run], *TWO_NODES).jobs
    box.wait_for_training(run)
    leader = box.store.newest(run.id).owner.pid
    [other] = [pid for pid in ranks_of(job) if pid != leader]
    os.kill(leader, signal.SIGSTOP)
    os.kill(other, signal.SIGKILL)
    killed = time.monotonic()
    wait_until(lambda: not states(job), "the other rank was ended", box.report)
    assert time.monotonic() - killed < 60
    assert not box.store.has_result(run.id)
    box.submit([run], *TWO_NODES)
    box.wait_for_results([run])
    assert box.endings(run) == [None, "completed"]
    assert box.store.result(run.id).loss_nats == nearly(box, run)


def nearly(box: Box, run: Run) -> object:
    """The loss of one process; another number of ranks adds in another order."""
    return pytest.approx(box.reference.result(run.id).loss_nats, abs=2e-3)


def ranks_of(job: str) -> list[int]:
    """The worker processes of a job."""
    import psutil

    return [
        process.pid
        for process in psutil.process_iter(["cmdline", "environ"])  # None where a process ends while it is looked at
        if "scaling.runners.program" in (process.info["cmdline"] or [])
        and (process.info["environ"] or {}).get("SLURM_JOB_ID") == job
    ]
