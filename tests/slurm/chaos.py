"""Chaos: random faults over a sweep of 24 runs on the cluster in a box, until every run has its result.

    tests/slurm/cluster.sh start
    python tests/slurm/chaos.py --seed 1        appends a row to results/benchmarks/slurm-chaos.md

Every event is drawn from the seed; when it strikes depends on the machine. The row says what was done and whether
every run completed exactly once with the loss of an undisturbed local run, bit for bit.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from box import CLUSTER, DIR, ROOT, STEPS, Box, make_reference, slurm_command, wait_until

from scaling.run import Run

TABLE = ROOT / "results" / "benchmarks" / "slurm-chaos.md"
HEADER = """# Random faults on the cluster in a box

`python tests/slurm/chaos.py --seed N`: 24 runs in tasks of their own, 4 virtual nodes, 8 at a time.

| date | seed | events | what | attempts | wall s | completed once | losses equal bit for bit |
|---|---|---|---|---|---|---|---|
"""
NODES = ("node1", "node2", "node3", "node4")


class Chaos:
    def __init__(self, box: Box, runs: list[Run], rng: random.Random) -> None:
        self.box, self.runs, self.rng = box, runs, rng
        self.down: str | None = None

    def launch(self) -> None:
        """Press the button again, as often as it takes for the controller to answer."""
        self.box.submit(self.runs, "max_concurrent: 8", "resources: [{cpus: 2}]")

    def running(self) -> list[str]:
        return slurm_command("squeue", "-h", "-r", "-t", "R", "-o", "%i").split()

    def warn(self) -> None:
        self.on_a_job("scancel", "--signal=USR2")

    def terminate(self) -> None:
        self.on_a_job("scancel", "--signal=TERM")

    def requeue(self) -> None:
        self.on_a_job("scontrol", "requeue")

    def cancel(self) -> None:
        self.on_a_job("scancel")

    def on_a_job(self, *command: str) -> None:
        if jobs := self.running():
            with contextlib.suppress(subprocess.TimeoutExpired):  # scancel --signal waits long for a node that is down
                subprocess.run([*command, self.rng.choice(jobs)], capture_output=True, check=False, timeout=5)

    def kill_worker(self) -> None:
        newest = [self.box.store.newest(run.id) for run in self.runs if not self.box.store.has_result(run.id)]
        pids = [attempt.owner.pid for attempt in newest if attempt and self.worker(attempt.owner.pid)]
        if pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.rng.choice(pids), signal.SIGKILL)

    def worker(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            return b"scaling.runners.program" in Path(f"/proc/{pid}/cmdline").read_bytes()
        return False

    def node(self) -> None:
        """Set a node down, or the one that is down up again."""
        if self.down:
            slurm_command("scontrol", "update", f"nodename={self.down}", "state=resume")
            self.down = None
        else:
            self.down = self.rng.choice(NODES)
            slurm_command("scontrol", "update", f"nodename={self.down}", "state=down", "reason=chaos")

    def controller(self) -> None:
        time.sleep(3)  # a controller killed within seconds of a submission forgets it (SLURM 22.05)
        pid = int((DIR / "pids" / "slurmctld").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        time.sleep(self.rng.uniform(0, 5))
        subprocess.run([CLUSTER, "start"], check=True, capture_output=True)
        self.down = None  # start brings every node back

    def finished(self) -> int:
        return sum(self.box.store.has_result(run.id) for run in self.runs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=30)
    parser.add_argument("--runs", type=int, default=24)
    options = parser.parse_args()
    os.environ["SLURM_CONF"] = str(DIR / "etc" / "slurm.conf")
    subprocess.run([CLUSTER, "status"], check=True, capture_output=True)
    with tempfile.TemporaryDirectory(prefix="scaling-chaos-", ignore_cleanup_errors=True) as folder:
        reference, corpus_hash, runs = make_reference(Path(folder), steps=[STEPS] * options.runs)
        box = Box(Path(folder) / "box", reference, corpus_hash)
        box.add(runs)
        chaos = Chaos(box, runs, random.Random(options.seed))
        started, counted = time.monotonic(), collections.Counter()
        events = ["warn"] * 5 + ["terminate", "requeue", "cancel", "kill_worker", "launch"] * 4 + ["node"] * 3
        chaos.launch()
        while chaos.finished() < len(runs):
            time.sleep(chaos.rng.uniform(1.0, 4.0))
            if sum(counted.values()) < options.events:
                event = chaos.rng.choice([*events, "controller"])
                getattr(chaos, event)()
                counted[event] += 1
                print(f"{time.monotonic() - started:6.1f} s  {event}  {chaos.finished()}/{len(runs)}", flush=True)
            else:
                if chaos.down:
                    chaos.node()
                chaos.launch()
        wait_until(lambda: not slurm_command("squeue", "-h").strip(), "every job has ended")
        attempts = [box.endings(run) for run in runs]
        once = sum(ends.count("completed") == 1 for ends in attempts)
        equal = sum(box.store.result(run.id).loss_nats == reference.result(run.id).loss_nats for run in runs)
        what = ", ".join(f"{count} {event}" for event, count in sorted(counted.items()))
        row = [
            time.strftime("%Y-%m-%d"),
            options.seed,
            sum(counted.values()),
            what,
            sum(map(len, attempts)),
            f"{time.monotonic() - started:.0f}",
            f"{once}/{len(runs)}",
            f"{equal}/{len(runs)}",
        ]
    TABLE.parent.mkdir(parents=True, exist_ok=True)
    text = TABLE.read_text() if TABLE.exists() else HEADER
    TABLE.write_text(text + "| " + " | ".join(map(str, row)) + " |\n")
    print(row)
    return 0 if once == equal == len(runs) else 1


if __name__ == "__main__":
    sys.exit(main())
