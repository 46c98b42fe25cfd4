"""Chaos: random faults over a sweep of 48 runs, driven by the shipped command line, until every run has its result.

    python tests/slurm/chaos.py --seed 3        appends a row to results/benchmarks/slurm-chaos.md

The store lies on a small tmpfs that fills up; SLURM launches and local launches on "another machine" (a host name of
its own) own its runs by turns. Every event is drawn from the seed; when it strikes depends on the machine. The row says
what was done and whether every run has the loss of an undisturbed local launch, bit for bit. Where a process is dead
that nobody can be asked about, ten minutes pass at once: its files get an older time.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from box import CLUSTER, DIR, ROOT, endings, slurm_command, wait_until, write_corpus

from scaling.results.store import Attempt, Store

TABLE = ROOT / "results" / "benchmarks" / "slurm-chaos.md"
HEADER = """
## By the command line

`python tests/slurm/chaos.py --seed N`, as root: `scaling launch`, `cancel` and `status` on 48 runs, 4 virtual nodes, at
most 8 tasks at a time, and local launches beside them on a machine of another name.

| date | seed | events | what | launches | attempts | wall s | tracebacks | completed once | losses equal bit for bit |
|---|---|---|---|---|---|---|---|---|---|
"""
SWEEP = """
sweep: chaos
question: Does a sweep survive everything that can happen to a cluster?
data: {corpus: corpus.jsonl, validation_tokens: 4k}
grid:
  kind: tokens_per_param
  multiples: [12, 15, 18]
  ladder: [{layers: 1, width: 12, heads: 1, ff_width: 36}, {layers: 1, width: 16, heads: 1, ff_width: 48}]
families: {dense: {parameterization: dense, optimizer: adamw, lr: 0.01}}
training: {sequence_length: 64, batch_tokens: 128, keep: none, seeds: [0, 1, 2, 3, 4, 5, 6, 7]}
analysis: {bootstrap: 20}
"""
SLURM = """
runner: slurm
partition: main
device: cpu
time_limit: 60m
max_concurrent: 8
resources: [{cpus: 2}]
"""
LOCAL = "runner: local\ndevice: cpu\nslots: 1\n"
NODES = ("node1", "node2", "node3", "node4")
WEIGHTS = {
    "warn": 4, "terminate": 3, "requeue": 3, "scancel": 3, "kill_worker": 4, "kill_slurmstepd": 1, "kill_slurmd": 2,
    "kill_slurmctld": 1, "kill_slurmdbd": 2, "node": 3, "launch": 3, "kill_launch": 4, "two_launches": 2, "cancel": 1,
    "local": 4, "kill_local": 2, "kill_local_and_workers": 3, "disk_full": 3, "damage": 4, "status": 2,
}  # fmt: skip
SILENT_SECONDS = 90.0  # a living worker touches its files every 30 s


class Sweep:
    """A project folder and the command line in it."""

    def __init__(self, root: Path, store: Path) -> None:
        self.root, self.store = root, Store(store)
        (root / "sweeps").mkdir(parents=True)
        write_corpus(root / "corpus.jsonl")
        (root / "sweeps" / "chaos.yaml").write_text(SWEEP)
        (root / "slurm.yaml").write_text(f"{SLURM}store: {store}\n")
        (root / "local.yaml").write_text(f"{LOCAL}store: {store}\n")
        self.logs = root / "logs"
        self.logs.mkdir()
        self.words: dict[int, tuple[Path, Path]] = {}  # pid -> standard output and error
        self.errors: list[str] = []
        self.launches = self.verbs = 0

    def start(self, verb: str, *arguments: str, host: str | None = None) -> subprocess.Popen[bytes]:
        """Start a verb; on a machine of another name where `host` is given."""
        command = [sys.executable, "-P", "-m", "scaling.cli", verb, "sweeps/chaos.yaml", *arguments]
        if host:
            command = ["unshare", "--uts", "sh", "-c", f'hostname {host} && exec "$@"', "-", *command]
        self.launches += verb == "launch"
        self.verbs += 1
        out, error = (self.logs / f"{self.verbs}.{kind}" for kind in ("out", "err"))
        with (
            out.open("w") as stdout,
            error.open("w") as stderr,
        ):  # files, because a launcher that is killed leaves workers
            process = subprocess.Popen(command, cwd=self.root, stdout=stdout, stderr=stderr, start_new_session=True)
        self.words[process.pid] = (out, error)
        return process

    def end(self, process: subprocess.Popen[bytes]) -> str:
        """Wait for a verb; its standard output. A traceback is kept."""
        process.wait()
        out, error = (path.read_text() for path in self.words[process.pid])
        if "Traceback" in error or "unexpected" in error:
            self.errors.append(error)
            print(error, flush=True)
        return out

    def __call__(self, verb: str, *arguments: str) -> str:
        return self.end(self.start(verb, *arguments))

    def losses(self) -> dict[str, float | None]:
        """Run id -> loss, as `scaling status` says."""
        return {run["id"]: run["loss"] for run in json.loads(self("status", "--json"))["runs"]}


class Chaos:
    """The faults, by name."""

    def __init__(self, sweep: Sweep, ids: list[str], rng: random.Random) -> None:
        self.sweep, self.store, self.ids, self.rng = sweep, sweep.store, ids, rng
        self.down: str | None = None
        self.beside: subprocess.Popen[bytes] | None = None  # the local launch

    # ---- SLURM

    def on_a_job(self, *command: str) -> None:
        answer = subprocess.run(
            ["squeue", "-h", "-r", "-t", "R", "-o", "%i"], capture_output=True, text=True, check=False
        )
        if jobs := answer.stdout.split():
            with contextlib.suppress(subprocess.TimeoutExpired):  # scancel --signal waits long for a node that is down
                subprocess.run([*command, self.rng.choice(jobs)], capture_output=True, check=False, timeout=5)

    def warn(self) -> None:
        self.on_a_job("scancel", "--signal=USR2")

    def terminate(self) -> None:
        self.on_a_job("scancel", "--signal=TERM")

    def requeue(self) -> None:
        self.on_a_job("scontrol", "requeue")

    def scancel(self) -> None:
        self.on_a_job("scancel")

    def node(self) -> None:
        """Set a node down, or the one that is down up again."""
        if self.down:
            self.scontrol(f"nodename={self.down}", "state=resume")
            self.down = None
        else:
            self.down = self.rng.choice(NODES)
            self.scontrol(f"nodename={self.down}", "state=down", "reason=chaos")

    def scontrol(self, *words: str) -> None:
        subprocess.run(["scontrol", "update", *words], capture_output=True, check=False, timeout=60)

    # ---- processes

    def kill_worker(self) -> None:
        pids = [attempt.owner.pid for attempt in self.open_attempts() if _command(attempt.owner.pid, "runners.program")]
        self.kill(pids)

    def kill_slurmstepd(self) -> None:
        ours = f"SLURM_CONF={os.environ['SLURM_CONF']}".encode()
        pids = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "comm").read_text().strip() == "slurmstepd" and ours in (
                    process / "environ"
                ).read_bytes():
                    pids.append(int(process.name))
        self.kill(pids)

    def kill_slurmd(self) -> None:
        self.restart(f"slurmd-{self.rng.choice(NODES)}")

    def kill_slurmctld(self) -> None:
        time.sleep(3)  # a controller killed within seconds of a submission forgets it (SLURM 22.05)
        self.restart("slurmctld")

    def kill_slurmdbd(self) -> None:
        self.restart("slurmdbd")

    def restart(self, daemon: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int((DIR / "pids" / daemon).read_text().split()[0]), signal.SIGKILL)
        time.sleep(self.rng.uniform(0, 5))
        start_cluster()
        self.down = None  # start brings every node back

    def kill(self, pids: list[int]) -> None:
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.rng.choice(sorted(pids)), signal.SIGKILL)

    # ---- launchers

    def launch(self) -> None:
        self.sweep("launch", "--runner", "slurm.yaml", "--yes")

    def two_launches(self) -> None:
        both = [self.sweep.start("launch", "--runner", "slurm.yaml", "--yes") for _ in range(2)]
        for one in both:
            self.sweep.end(one)

    def kill_launch(self) -> None:
        """SIGKILL somewhere between planning and the last sbatch."""
        process = self.sweep.start("launch", "--runner", "slurm.yaml", "--yes")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=self.rng.uniform(0.5, 6.0))
        process.kill()
        self.sweep.end(process)

    def cancel(self) -> None:
        self.sweep("cancel")

    def status(self) -> None:
        self.sweep("status", "--json")

    def local(self) -> None:
        """A local launch beside the jobs, on a machine of another name; or Ctrl-C for the one that runs."""
        if self.beside is None:
            self.beside = self.sweep.start("launch", "--runner", "local.yaml", "--yes", host="workstation")
        else:
            self.end_local(signal.SIGINT)

    def kill_local(self) -> None:
        """SIGKILL for the launcher alone: its workers see the end of their pipe."""
        self.end_local(signal.SIGKILL)

    def kill_local_and_workers(self) -> None:
        if self.beside is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                for worker in psutil.Process(self.beside.pid).children():
                    worker.kill()
        self.end_local(signal.SIGKILL)

    def end_local(self, number: signal.Signals) -> None:
        if self.beside is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.beside.pid, number)
            self.sweep.end(self.beside)
            self.beside = None

    # ---- the disk

    def disk_full(self) -> None:
        filler = self.store.path.parent / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        time.sleep(self.rng.uniform(1, 4))
        filler.unlink()

    def damage(self) -> None:
        """Cut a checkpoint, the metrics or the claim of a run that is not finished."""
        attempts = list(self.open_attempts())
        if not attempts:
            return
        attempt = self.rng.choice(attempts)
        checkpoints = sorted(self.store.checkpoints(attempt.run_id).glob("*.pt"))
        path = self.rng.choice([*checkpoints[-1:], attempt.metrics_path, attempt.claim_path])
        with contextlib.suppress(OSError):
            os.truncate(path, int(path.stat().st_size * self.rng.uniform(0, 1)))

    # ---- time

    def open_attempts(self) -> Iterator[Attempt]:
        for run_id in self.ids:
            if not self.store.has_result(run_id) and (newest := self.store.newest(run_id)):
                yield newest

    def ten_minutes_pass(self) -> None:
        """For the heartbeats of dead processes: an owner that is gone, or an unknown one that is silent."""
        for attempt in self.open_attempts():
            gone = not attempt.damaged and not _is(attempt)
            for path in (attempt.metrics_path, *attempt.claim_path.parent.glob(f"{attempt.number:04d}.json*")):
                with contextlib.suppress(OSError):
                    if gone or time.time() - path.stat().st_mtime > SILENT_SECONDS:
                        os.utime(path, (time.time() - 700, time.time() - 700))

    def finished(self) -> int:
        return sum(self.store.has_result(run_id) for run_id in self.ids)


def _is(attempt: Attempt) -> bool:
    """Whether the process of an attempt lives, whatever its host is called: all hosts here are this machine."""
    owner = attempt.owner
    with contextlib.suppress(OSError):
        return Path(f"/proc/{owner.pid}/stat").read_text().rpartition(")")[2].split()[19] == owner.started
    return False


def _command(pid: int, word: str) -> bool:
    with contextlib.suppress(OSError):
        return word.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def start_cluster() -> None:
    """Until it answers; a daemon that was killed a moment ago may need a second try."""
    for _ in range(3):
        if subprocess.run([CLUSTER, "start"], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(2)
    raise SystemExit("the cluster does not start")


@contextlib.contextmanager
def cluster_with_a_small_disk() -> Iterator[Path]:
    """The cluster, and a tmpfs of 48 MB that its nodes see; both are gone afterwards."""
    disk = DIR / "small" / "chaos"
    subprocess.run([CLUSTER, "stop"], check=True, capture_output=True)
    disk.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "scaling-small", disk], check=True)
    try:
        start_cluster()
        yield disk
    finally:
        subprocess.run([CLUSTER, "stop"], check=False, capture_output=True)
        subprocess.run(["umount", disk], check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=60)
    options = parser.parse_args()
    os.environ["SLURM_CONF"] = str(DIR / "etc" / "slurm.conf")
    with cluster_with_a_small_disk() as disk, tempfile.TemporaryDirectory(prefix="scaling-chaos-") as folder:
        alone = Sweep(Path(folder) / "alone", Path(folder) / "alone" / "store")
        alone("launch", "--yes")
        expected = alone.losses()
        sweep = Sweep(Path(folder) / "project", disk / "store")
        chaos = Chaos(sweep, sorted(expected), random.Random(options.seed))
        try:
            return _strike(chaos, expected, options.seed, options.events)
        finally:
            chaos.end_local(signal.SIGINT)


def _strike(chaos: Chaos, expected: dict[str, float | None], seed: int, count: int) -> int:
    sweep = chaos.sweep
    started, struck = time.monotonic(), collections.Counter[str]()
    names, weights = list(WEIGHTS), list(WEIGHTS.values())
    chaos.launch()
    while sum(struck.values()) < count and chaos.finished() < len(expected):
        time.sleep(chaos.rng.uniform(0.5, 3.0))
        [event] = chaos.rng.choices(names, weights)
        getattr(chaos, event)()
        chaos.ten_minutes_pass()
        struck[event] += 1
        print(f"{time.monotonic() - started:6.1f} s  {event}  {chaos.finished()}/{len(expected)}", flush=True)
    chaos.end_local(signal.SIGINT)
    while chaos.finished() < len(expected):
        start_cluster()
        chaos.ten_minutes_pass()
        chaos.launch()
        print(f"{time.monotonic() - started:6.1f} s  {chaos.finished()}/{len(expected)}", flush=True)
        time.sleep(5)
    wait_until(lambda: not slurm_command("squeue", "-h").strip(), "every job has ended")
    losses = sweep.losses()
    ends = [endings(sweep.store, run_id) for run_id in expected]
    once = sum(of_run.count("completed") == 1 for of_run in ends)
    equal = sum(losses[run_id] == loss is not None for run_id, loss in expected.items())
    what = ", ".join(f"{number} {event}" for event, number in sorted(struck.items()))
    facts = [sum(struck.values()), what, sweep.launches, sum(map(len, ends)), f"{time.monotonic() - started:.0f}"]
    row = [time.strftime("%Y-%m-%d"), seed, *facts, len(sweep.errors), f"{once}/{len(ends)}", f"{equal}/{len(ends)}"]
    text = TABLE.read_text()
    heading = HEADER if "## By the command line" not in text else ""
    TABLE.write_text(text + heading + "| " + " | ".join(map(str, row)) + " |\n")
    print(row)
    return 0 if equal == len(expected) and not sweep.errors else 1


if __name__ == "__main__":
    sys.exit(main())
