"""Checks of a cluster before anything is submitted: the partition, its limits, whether sbatch accepts the script, and
whether the nodes see the store.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

import scaling
from scaling.errors import RunnerError
from scaling.files import JsonObject
from scaling.quantity import format_duration
from scaling.runners.slurm.queue import SlurmQueue, run_command
from scaling.runners.slurm.script import clusters_of

if TYPE_CHECKING:
    from scaling.runners.runner_file import Runner

PROBE_SECONDS = 20  # how long a probe may wait for a node; a busy cluster leaves the question open
_SHARED = re.compile(r"nfs|lustre|gpfs|beegfs|ceph|gluster|panfs|orangefs|wekafs|9p|afs|cvmfs|smb|cifs|fuse\.|quobyte")
# sbatch options that say where and for whom a job runs; the others (when, how much) do not concern a probe
_WHERE = {"account", "qos", "reservation", "constraint", "nodelist", "exclude", "wckey", "clusters"}
TRY_SECONDS, TRIES, REFUSALS = 3.0, 20, 2  # assumption: a controller that restarts is back within a minute
_AWAY = re.compile(r"[Uu]nable to contact|[Cc]onnection|timed out|no answer|standby|[Tt]emporarily|not responding")
_DAYS = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)")

_PROBE = """
import json, pathlib, shutil, socket, subprocess, sys
answer = {"host": socket.gethostname(), "store": pathlib.Path(sys.argv[1]).exists()}
try:
    import scaling
    answer["scaling"] = scaling.__version__
except ImportError as error:
    answer["problem"] = str(error)
ping = shutil.which("sbatch") and subprocess.run(["scontrol", "ping"], capture_output=True, text=True).stdout
answer["submits"] = bool(ping and "UP" in ping)
print("PROBE " + json.dumps(answer))
"""


def check_cluster(
    profile: Runner, scripts: Sequence[str], *, where: str, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Refuse what this cluster will not run.

    Args:
        profile: the runner file.
        scripts: sbatch texts to be tried with ``sbatch --test-only``.
        where: the runner file, for errors.
        sleep: waits between two tries.

    Raises:
        RunnerError: no SLURM here, no such partition, a time limit beyond the partition's, or sbatch refuses.
    """
    partition = find_partition(profile, where=where)
    limit = _seconds(partition.get("MaxTime", "UNLIMITED"))
    assert profile.time_limit is not None
    if limit is not None and profile.time_limit > limit:
        raise RunnerError(
            f"the time limit is beyond that of partition {partition['PartitionName']}",
            where=f"{where}: time_limit",
            got=format_duration(profile.time_limit),
            allowed=f"at most {format_duration(limit)}; a longer run is continued as often as needed",
            hint=f"lower it in {where}; sinfo -o '%P %l' shows the limit of every partition",
        )
    for script in scripts:
        _try_script(script, where=where, sleep=sleep)


def _try_script(script: str, *, where: str, sleep: Callable[[float], None]) -> None:
    """``sbatch --test-only``. A refusal counts when it comes twice, and not while the controller is away: one that has
    just started knows no nodes yet.
    """
    refused = 0
    for _ in range(TRIES):
        with tempfile.NamedTemporaryFile("w", suffix=".sh", prefix="scaling-test-") as file:
            file.write(script)
            file.flush()
            answer = run_command(["sbatch", "--test-only", file.name])
        if answer.returncode == 0:
            return
        words = " ".join(answer.stderr.split())
        away = _AWAY.search(words) is not None
        refused = 0 if away else refused + 1
        if refused == REFUSALS:
            hint = f"scaling doctor --runner {where}"
            raise RunnerError("SLURM would refuse these jobs", where=where, got=words, hint=hint)
        sleep(TRY_SECONDS)
    hint = "try again; `sinfo` shows when it is back"
    raise RunnerError("the SLURM controller does not answer", where=where, got=words, hint=hint)


def find_partition(profile: Runner, *, where: str) -> Mapping[str, str]:
    """The fields of the profile's partition (the default one where it names none). Raises RunnerError."""
    if shutil.which("sbatch") is None:
        hint = "run this on a login node of the cluster, or launch without --runner to train on this machine"
        raise RunnerError("there is no SLURM on this machine: sbatch is not found", where=where, hint=hint)
    queue = SlurmQueue(cluster=clusters_of(profile).partition(",")[0])
    answer = run_command(queue.command("scontrol", "show", "partition", "-o"))
    if answer.returncode != 0:
        hint = "try again; `sinfo` shows when it is back"
        raise RunnerError("the SLURM controller does not answer", where=where, got=answer.stderr.strip(), hint=hint)
    rows = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in answer.stdout.splitlines()]
    partitions = {row["PartitionName"]: row for row in rows if "PartitionName" in row}
    if profile.partition in partitions:
        return partitions[profile.partition]
    default = next((row for row in partitions.values() if row.get("Default") == "YES"), None)
    if profile.partition is None and default is not None:
        return default
    allowed = ", ".join(sorted(partitions)) or "none"
    what = "no such partition" if profile.partition else "this cluster has no default partition: name one"
    hint = f"name one of them in {where}; sinfo shows what they have"
    raise RunnerError(what, where=f"{where}: partition", got=profile.partition, allowed=allowed, hint=hint)


def check_shared(profile: Runner, store: Path, *, where: str) -> str | None:
    """Refuse a store that the nodes do not see, before a thousand jobs fail.

    A network file system is taken to be shared; for another one a node is asked, once per store.

    Returns:
        A warning where no node was free to check it, else None.

    Raises:
        RunnerError: a node was asked and does not see the store.
    """
    marker = store / "launches" / ".seen-by-a-node"
    if marker.exists() or _SHARED.search(file_system(store)):
        return None
    answer = probe(profile, store)
    if answer is None:
        return f"no node was free to check that it sees {store} ({file_system(store)}); scaling doctor --runner {where}"
    if not answer["store"]:
        raise RunnerError(
            f"node {answer['host']} does not see the store",
            where=f"{where}: store",
            got=f"{store} ({file_system(store)} on this machine)",
            allowed="a folder on a file system that the nodes share",
            hint=f"name one under `store:` in {where}; scaling doctor --runner {where} tries it",
        )
    marker.touch()
    return None


def probe(profile: Runner, store: Path, *, wait_seconds: int = PROBE_SECONDS) -> JsonObject | None:
    """What a probe job reports: host, whether it sees the store, the package's version, whether it may submit.

    None where no node was free, or the job did not get as far as Python (`scaling doctor` shows why).
    """
    answer, _ = probe_with_log(profile, store, wait_seconds=wait_seconds)
    return answer


def probe_with_log(profile: Runner, store: Path, *, wait_seconds: int) -> tuple[JsonObject | None, str]:
    """`probe`, and what srun wrote."""
    folder = store / "launches"
    folder.mkdir(parents=True, exist_ok=True)
    token = folder / f".probe-{secrets.token_hex(8)}"
    token.touch()
    command = [sys.executable, "-P", "-c", _PROBE, str(token)]
    script = "\n".join([*profile.setup, "exec " + shlex.join(command)])
    options = [f"--partition={profile.partition}"] if profile.partition else []
    passed = {key.replace("_", "-"): value for key, value in profile.sbatch.items()}
    options += [f"--{key}={value}" for key, value in passed.items() if key in _WHERE]
    name = f"--job-name=scaling-probe-{scaling.__version__}"
    srun = ["srun", "--quiet", "--nodes=1", "--ntasks=1", "--time=1", f"--immediate={wait_seconds}", name, *options]
    try:
        answer = run_command([*srun, *profile.srun_args, "bash", "-c", script])
    finally:
        token.unlink(missing_ok=True)
    lines = [line[6:] for line in answer.stdout.splitlines() if line.startswith("PROBE ")]
    return (json.loads(lines[0]) if lines else None), answer.stderr.strip()


def file_system(path: Path) -> str:
    """The type of the file system that holds `path`, or will: ``ext4``, ``nfs4``, ``lustre``."""
    path = path.resolve()
    mounts = [m for m in psutil.disk_partitions(all=True) if path.is_relative_to(m.mountpoint)]
    return max(mounts, key=lambda mount: len(mount.mountpoint)).fstype if mounts else "unknown"


def diagnose(profile: Runner, store: Path, *, where: str) -> dict[str, object]:
    """`scaling doctor --runner FILE`: one finding per line; `problem` is None where all is well."""
    partition = find_partition(profile, where=where)
    accounting = run_command(["sacct", "-X", "-n", "-o", "JobID"])
    answer, log = probe_with_log(profile, store, wait_seconds=60)
    problem = None
    if answer is None:
        problem = f"the probe job did not run: {log or 'no node was free'}"
    elif not answer["store"]:
        problem = f"node {answer['host']} does not see the store {store}"
    elif "problem" in answer:
        problem = f"node {answer['host']} cannot import the package with {sys.executable}: {answer['problem']}"
    else:
        (store / "launches" / ".seen-by-a-node").touch()
    return {
        "partition": partition["PartitionName"],
        "state": partition.get("State"),
        "nodes": partition.get("Nodes"),
        "time limit": partition.get("MaxTime"),
        "preemption": partition.get("PreemptMode"),
        "accounting": "answers" if accounting.returncode == 0 else "none: how an ended job ended is not shown",
        "store": f"{store} ({file_system(store)})",
        "probe": None if answer is None else f"node {answer['host']} sees the store: {answer['store']}",
        "nodes submit": None if answer is None else answer["submits"],
        "problem": problem,
    }


def _seconds(limit: str) -> float | None:
    """``2-00:00:00`` in seconds; None for UNLIMITED."""
    match = _DAYS.fullmatch(limit)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
