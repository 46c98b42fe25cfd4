"""A SLURM at the subprocess boundary: `sbatch`, `squeue`, `sacct`, `scontrol`, `scancel`, `srun` over one folder.

<folder>/bin/*             this file under six names
<folder>/jobs.json         id -> {name, tasks, state, reason}; a test edits states
<folder>/<id>.sh           the text that was submitted
<folder>/calls             one JSON line per call
<folder>/down              (made by a test) the controller does not answer
<folder>/no-accounting     (made by a test) sacct is disabled
<folder>/refuse            (made by a test) sbatch refuses, with this file's text
<folder>/kill-launcher-N   (made by a test) the N-th sbatch call kills its launcher, "before" or "after" it submits
<folder>/no-answer         (made by a test) sbatch takes the job, then exits 1 with this text, or hangs ("hang")
<folder>/says              (made by a test) sbatch prints this text, with ID in place of the job id
<folder>/limit             (made by a test) sbatch refuses, with the text after the number, where so many jobs are live
<folder>/empty-answers     (made by a test) squeue lists nothing so many times, with exit status 0
<folder>/refusals          (made by a test) so many times sbatch --test-only refuses, with the text after the number

A job submitted with ``--clusters=NAME`` is seen only by commands with the same option.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path

HANGS = 999
COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "srun")


class FakeSlurm:
    """The test's side: makes the folder, reads what was called, sets states."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir(parents=True)
        for name in COMMANDS:
            program = folder / "bin" / name
            program.write_text(
                f"#!/bin/sh\nexec {shlex.quote(sys.executable)} -I -S {shlex.quote(__file__)} {name} "
                f'{shlex.quote(str(folder))} "$@"\n'
            )
            program.chmod(0o755)

    @property
    def path(self) -> str:
        return f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"

    def calls(self, program: str) -> list[list[str]]:
        file = self.folder / "calls"
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [line[1:] for line in lines if line[0] == program]

    def jobs(self) -> dict:
        file = self.folder / "jobs.json"
        return json.loads(file.read_text()) if file.exists() else {}

    def set(self, job_id: str, **values: object) -> None:
        jobs = self.jobs()
        jobs[job_id] |= values
        (self.folder / "jobs.json").write_text(json.dumps(jobs))

    def text(self, job_id: str) -> str:
        return (self.folder / f"{job_id}.sh").read_text()

    def switch(self, name: str, text: str = "") -> None:
        (self.folder / name).write_text(text)


def main(program: str, folder: Path, arguments: list[str]) -> int:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (folder / "calls").open("a") as file:
            file.write(json.dumps([program, *arguments]) + "\n")
        status = globals()[program](folder, arguments)
    if status == HANGS:
        time.sleep(600)
    return status


def sbatch(folder: Path, arguments: list[str]) -> int:
    if (folder / "refuse").exists():
        print((folder / "refuse").read_text(), file=sys.stderr)
        return 1
    if "--test-only" in arguments and (words := countdown(folder / "refusals")) is not None:
        print(words, file=sys.stderr)
        return 1
    if down(folder) or "--test-only" in arguments:
        return int(down(folder))
    count = sum(1 for line in (folder / "calls").read_text().splitlines() if json.loads(line)[0] == "sbatch")
    kill = folder / f"kill-launcher-{count}"
    if kill.exists() and kill.read_text() == "before":
        os.kill(os.getppid(), signal.SIGKILL)
        return 1
    text = Path(arguments[-1]).read_text()
    flags = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", text, re.MULTILINE))
    tasks = int(re.match(r"0-(\d+)", shlex.split(flags["array"])[0])[1]) + 1 if "array" in flags else 0
    jobs = read(folder)
    if (folder / "limit").exists():
        limit, _, words = (folder / "limit").read_text().partition(" ")
        if sum(job["state"] in ("PENDING", "RUNNING") for job in jobs.values()) >= int(limit):
            print(words, file=sys.stderr)
            return 1
    job_id = str(max(map(int, jobs), default=100) + 1)
    jobs[job_id] = {"name": shlex.split(flags["job-name"])[0], "tasks": tasks, "state": "PENDING"}
    jobs[job_id] |= {"reason": "Priority", "submitted": str(1_800_000_000 + int(job_id))}
    jobs[job_id] |= {"cluster": flags.get("clusters", "")}
    (folder / "jobs.json").write_text(json.dumps(jobs))
    (folder / f"{job_id}.sh").write_text(text)
    if kill.exists():
        os.kill(os.getppid(), signal.SIGKILL)
        return 0
    if (folder / "no-answer").exists():
        words = (folder / "no-answer").read_text()
        print(words, file=sys.stderr)
        return HANGS if words == "hang" else 1
    cluster = flags.get("clusters")
    says = (folder / "says").read_text() if (folder / "says").exists() else "Submitted batch job ID"
    print(says.replace("ID", job_id) + (f" on cluster {cluster}" if cluster else ""))
    return 0


def squeue(folder: Path, arguments: list[str]) -> int:
    if down(folder):
        return 1
    if countdown(folder / "empty-answers") is not None:
        return 0
    jobs = seen_from(folder, arguments)
    if any(a.startswith("--clusters=") for a in arguments):
        print("CLUSTER: " + next(a for a in arguments if a.startswith("--clusters=")).partition("=")[2])
    names = [a.partition("=")[2].split(",") for a in arguments if a.startswith("--name=")]
    if names:
        for job_id, job in jobs.items():
            if job["name"] in names[0] and job["state"] in ("PENDING", "RUNNING", "COMPLETING"):
                print(f"{job_id}|{job['name']}")
        return 0
    asked = arguments[arguments.index("-j") + 1].split(",")
    if "%V" in arguments:
        job = jobs.get(asked[0].partition("_")[0])
        print(job["submitted"] if job else "slurm_load_jobs error: Invalid job id specified")
        return int(job is None)
    if len(asked) == 1 and asked[0] not in jobs:
        print("slurm_load_jobs error: Invalid job id specified", file=sys.stderr)
        return 1
    for job_id, element, state in elements({j: jobs[j] for j in asked if j in jobs}):
        job = jobs[job_id]
        print(f"{element}|{state}|{job['reason']}|{job['submitted']}|{job['name']}")
    return 0


def sacct(folder: Path, arguments: list[str]) -> int:
    if (folder / "no-accounting").exists():
        print("Slurm accounting storage is disabled", file=sys.stderr)
        return 1
    asked = arguments[arguments.index("-j") + 1].split(",") if "-j" in arguments else []
    jobs = {job_id: job for job_id, job in seen_from(folder, arguments).items() if job_id in asked}
    for job_id in [job_id for job_id, job in jobs.items() if job["tasks"] and job["state"] == "CANCELLED"]:
        print(f"{job_id}_[0-{jobs.pop(job_id)['tasks'] - 1}%4]|CANCELLED by 0")  # none of its elements has started
    for _, element, state in elements(jobs):
        print(f"{element}|{state}")
    return 0


def scontrol(folder: Path, arguments: list[str]) -> int:
    if down(folder):
        return 1
    arguments = [a for a in arguments if not a.startswith("--clusters=")]
    if arguments[:2] == ["show", "config"]:
        print("MaxArraySize            = 6\nMaxJobCount             = 10000")
    if arguments[0] == "release":
        jobs = read(folder)
        jobs[arguments[1].partition("_")[0]]["reason"] = "Priority"
        (folder / "jobs.json").write_text(json.dumps(jobs))
    if arguments[:2] == ["show", "partition"]:
        print("PartitionName=main AllowGroups=ALL Default=YES MaxTime=UNLIMITED Nodes=node[1-4] State=UP")
        print("PartitionName=short AllowGroups=ALL Default=NO MaxTime=00:10:00 Nodes=node[1-4] State=UP")
    return 0


def scancel(folder: Path, arguments: list[str]) -> int:
    jobs, seen = read(folder), seen_from(folder, arguments)
    for job_id in [a for a in arguments if a in seen]:
        jobs[job_id]["state"] = "CANCELLED"
    (folder / "jobs.json").write_text(json.dumps(jobs))
    return 0


def srun(folder: Path, arguments: list[str]) -> int:
    return 0


def elements(jobs: dict) -> list[tuple[str, str, str]]:
    """(job id, element id, state); `state` of an array may be a list, one per task."""
    rows = []
    for job_id, job in jobs.items():
        for task in range(max(1, job["tasks"])):
            state = job["state"] if isinstance(job["state"], str) else job["state"][task]
            rows.append((job_id, f"{job_id}_{task}" if job["tasks"] else job_id, state))
    return [row for row in rows if row[2] != "FORGOTTEN"]


def read(folder: Path) -> dict:
    file = folder / "jobs.json"
    return json.loads(file.read_text()) if file.exists() else {}


def seen_from(folder: Path, arguments: list[str]) -> dict:
    """The jobs of the cluster that a command asks."""
    cluster = next((a.partition("=")[2] for a in arguments if a.startswith("--clusters=")), "")
    return {job_id: job for job_id, job in read(folder).items() if job.get("cluster", "") == cluster}


def countdown(file: Path) -> str | None:
    """The text after the number in `file`, as many times as the number says; None where there is none left."""
    if not file.exists():
        return None
    number, _, words = file.read_text().partition(" ")
    if number == "1":
        file.unlink()
    else:
        file.write_text(f"{int(number) - 1} {words}")
    return words


def down(folder: Path) -> bool:
    if (folder / "down").exists():
        print("slurm_load_jobs error: Unable to contact slurm controller (connect failure)", file=sys.stderr)
    return (folder / "down").exists()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
