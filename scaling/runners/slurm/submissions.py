"""Records of what was submitted to a scheduler, so that a launcher may be killed between any two calls.

    <store>/launches/<launch>/01.json    an intention, written before `sbatch`: job name, and the runs of every task
    <store>/launches/<launch>/01.0.pkl   what submitit starts in task 0, until the job id that names it is known
    <store>/launches/<launch>/01.job     its job id, written after; null where it turned out that nothing was submitted

The folder lies in the store because every launch that shares the store must see what the others hold. An intention
without a job id is looked up by its job name, which no other submission has.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from scaling.errors import DamagedRecord
from scaling.files import write_atomic
from scaling.records import read_record, sealed, set_aside


@dataclass(frozen=True)
class Submission:
    """One job array. Task k trains `tasks[k]`, in order; `attempts` are their newest attempts when it was written.

    The job that goes on when the others have ended trains nothing and has no tasks.
    """

    name: str  # of the job
    code_version: str
    tasks: tuple[tuple[str, ...], ...] = ()
    attempts: Mapping[str, int] = field(default_factory=dict)
    slots: int = 1  # runs that a task trains side by side
    runs_per_gpu: int = 1  # of them
    device: str = "cpu"  # or "cuda"
    strategy: str = "ddp"  # of the ranks, where there are several
    corpus_hash: str = ""
    keep: str = "weights"
    memory_bytes: float | None = None  # what the device's row states, by which batches are split
    micro_batch: int | None = None  # sequences at once, where the resource rule says so
    clusters: str = ""  # that sbatch chose from; empty: the only one
    parallelism: int | None = None  # tasks at a time; None: all
    after: str = ""  # the job whose end it waits for

    @property
    def runs(self) -> set[str]:
        """Every run of every task."""
        return set(self.attempts)

    def write(self, path: Path) -> None:
        """Write the intention."""
        write_atomic(path, sealed(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> Submission:
        """The intention that `write` left. Raises DamagedRecord."""
        values = read_record(path).values
        try:
            return cls(**(values | {"tasks": tuple(tuple(task) for task in values["tasks"])}))
        except (KeyError, TypeError) as error:
            raise DamagedRecord("the submission is damaged", where=str(path), got=str(error)) from None


@dataclass(frozen=True)
class Submitted:
    """An intention and its job: `job_id` is None while it is unknown, "" where nothing was submitted; `cluster` gave
    out the id where there are several.
    """

    path: Path
    submission: Submission
    job_id: str | None
    cluster: str = ""

    @property
    def launch(self) -> str:
        """The launch that made it."""
        return self.path.parent.name

    def element_ids(self, job_id: str | None = None) -> list[str]:
        """The scheduler's id of every task; a single task is a job, not an array."""
        job_id, count = job_id or self.job_id or "", len(self.submission.tasks)
        return [job_id] if count <= 1 else [f"{job_id}_{k}" for k in range(count)]

    def pickle_path(self, task: int) -> Path:
        """What submitit starts in a task, while the job has no id."""
        return self.path.with_suffix(f".{task}.pkl")

    def place(self, job_id: str) -> bool:
        """Give the pickles the names that submitit reads in the tasks of this job; False where one is missing."""
        places = [self.path.parent / f"{element}_submitted.pkl" for element in self.element_ids(job_id)]
        for task, place in enumerate(places):
            if self.pickle_path(task).exists():
                os.replace(self.pickle_path(task), place)
        return all(place.exists() for place in places)

    def settle(self, job_id: str, cluster: str = "") -> None:
        """Write down the job id ("" where there is none: then its pickles go)."""
        if not job_id:
            for task in range(max(1, len(self.submission.tasks))):
                self.pickle_path(task).unlink(missing_ok=True)
        write_atomic(self.path.with_suffix(".job"), sealed({"job_id": job_id or None, "cluster": cluster}))


def launch_folder(store: Path, name: str) -> Path:
    """Where the submissions of one launch are kept, with submitit's files and the workers' logs."""
    return store / "launches" / name


def all_submitted(store: Path) -> Iterator[Submitted]:
    """Every submission of every launch on this store but damaged ones (`damaged_submissions`), oldest names first."""
    for path in _paths(store):
        with contextlib.suppress(DamagedRecord):
            yield Submitted(path, Submission.read(path), *_job_of(path))


def damaged_submissions(store: Path) -> dict[Path, str]:
    """The damaged ones, and what is wrong in one sentence. Their runs are unknown: their tasks train them, and a task
    that is submitted beside one finds them alive and leaves them alone.
    """
    damaged = {}
    for path in _paths(store):
        try:
            Submission.read(path)
        except DamagedRecord as error:
            damaged[path] = error.sentence
    return damaged


def set_aside_submissions(store: Path) -> list[str]:
    """Give damaged submissions a name that ends in `.bad`; one message for each. The caller holds the launch lock."""
    messages = []
    for path, sentence in damaged_submissions(store).items():
        job_id, _ = _job_of(path)
        if set_aside(path, Submission.read):
            job = f"job {job_id}" if job_id else f"a job named {path.parent.name}.{path.stem}"
            messages.append(
                f"{sentence}; set aside. Runs that {job} still trains are left alone while they have a heartbeat"
            )
    return messages


def _paths(store: Path) -> list[Path]:
    return sorted((store / "launches").glob("*/[0-9]*.json"))


def _job_of(path: Path) -> tuple[str | None, str]:
    """The job id of the intention at `path`, None while it is unknown, "" where nothing was submitted; its cluster."""
    try:
        values = read_record(path.with_suffix(".job")).values
        job_id: Any = values["job_id"]
    except (FileNotFoundError, DamagedRecord, KeyError):  # then it is looked up by its name
        return None, ""
    return str(job_id or ""), str(values.get("cluster", ""))
