"""The interface between a launch and what starts its processes.

A scheduler has five methods: the text it would submit (`scripts`), `submit`, which runs its jobs hold (`poll`),
`cancel`, and which of its jobs this process is in (`environment`). All coordination between workers is in the store, so
a scheduler only starts processes: `Order.worker`, the complete command of one worker (`scaling work`), once for every
run that should train at the same time.

To add one, derive a class from `Scheduler`, write those five methods, and name it in a runner file, as ``runner:
my_package.pbs:Pbs`` or by an entry point of the group ``scaling.schedulers``. `tests/runners/shell_scheduler.py` is a
complete example in one page.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, cast

from scaling.results.jobs import HeldRun, JobActive, JobRef
from scaling.runners.scheduler_names import BUILT_IN, load_class

if TYPE_CHECKING:
    from scaling.runners.runner_file import Runner


@dataclass(frozen=True)
class Work:
    """One run to be trained: what a resource rule and the packing look at."""

    run_id: str
    params: float  # params_total
    seconds: float | None  # predicted wall time on its own devices; None where unknown
    trunk: str | None = None  # runs of one trunk share a task, in the order they come in
    runs_per_gpu: int = 1  # runs that may share its GPU, itself included


@dataclass(frozen=True)
class Order:
    """What a launch asks for beside the runs.

    Attributes:
        worker: the complete command of one worker, which trains what is open of the launch; exit status 75 means that
            it was stopped or left work to others, and may be started again.
        worklist: the file that this command reads (`scaling.runners.worker.WorkList`).
        corpus_hash: of the prepared data.
        keep: what a finished run keeps.
        continuation: the command that goes on when all jobs of this launch have ended (the next stage, or collect, fit
            and report); None where the launch waits for that itself.
    """

    worker: tuple[str, ...]
    worklist: Path
    corpus_hash: str
    keep: Literal["weights", "none"] = "weights"
    continuation: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Outcome:
    """What `submit` did: runs handed over now, runs that jobs hold already, the ids of the new jobs, how many runs can
    train side by side (None: all), and messages for the user.
    """

    submitted: tuple[str, ...]
    held: Mapping[str, HeldRun]
    jobs: tuple[str, ...]
    slots: int | None = None
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobsView:
    """What the scheduler knows of some runs.

    Attributes:
        held: run id -> the job that trains it or has it queued.
        endings: run id -> in words, how the last job that held it ended.
        notes: which part of the scheduler did not answer.
        goes_on: True where a job will run `scaling launch` again when the others have ended.
    """

    held: Mapping[str, HeldRun] = field(default_factory=dict)
    endings: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    goes_on: bool = False


@dataclass(frozen=True)
class Cancelled:
    """The jobs that were asked to stop, and messages for the user."""

    jobs: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ranks:
    """The processes that train one run together, seen from one of them; `address` and `port` are where they meet."""

    rank: int
    world: int
    local_rank: int
    address: str
    port: int

    def variables(self) -> dict[str, str]:
        """The environment variables that torchrun sets and training reads."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
        return dict(
            zip(names, map(str, (self.rank, self.world, self.local_rank, self.address, self.port)), strict=True)
        )


def nobody_can_say(job: JobRef) -> bool | None:
    """The answer where no scheduler can be asked about a job."""
    return None


@dataclass(frozen=True)
class JobEnvironment:
    """What a process inside a job knows of it: which job, its ranks where the job has several, and how to ask whether
    another job of the same scheduler still runs.
    """

    job: JobRef
    ranks: Ranks | None = None
    active: JobActive = nobody_can_say


class Scheduler(Protocol):
    """One launch on one store, at the place that a runner file describes. Methods with a body need not be written."""

    keys: ClassVar[frozenset[str]] = frozenset({"options"})
    """The keys of a runner file that this scheduler reads, beside those that all read; any other is refused."""

    attached: ClassVar[bool] = False
    """True where jobs live only as long as the process that submitted them: the launch waits for them."""

    poll_seconds: ClassVar[float] = 5.0
    """Seconds between two polls of a launch that waits."""

    programs: ClassVar[tuple[str, ...]] = ()
    """Commands that it needs on this machine; `scaling doctor` says where they are."""

    runner: Runner
    store: Path
    launch: str
    folder: Path
    where: str

    def __init__(
        self, runner: Runner, store: Path, *, launch: str, folder: Path, where: str = "the runner file"
    ) -> None:
        """Keep what the methods need; nothing is asked or started.

        Args:
            runner: the runner file.
            store: where the runs lie; every job must see it.
            launch: a name of this launch that no other launch has, safe in a shell and in a file name.
            folder: for the scheduler's own files about this launch; its siblings are those of the same sweep's other
                launches.
            where: the path of the runner file, for errors.

        Raises:
            SpecError: the runner file asks for something that this scheduler cannot do.
        """
        self.runner, self.store, self.launch, self.folder, self.where = runner, store, launch, folder, where

    def scripts(self, work: Sequence[Work], order: Order) -> list[str]:
        """Exactly what `submit` would submit now, as text; nothing is started (`scaling launch --dry-run`)."""
        ...

    def submit(self, work: Sequence[Work], order: Order) -> Outcome:
        """Start, or queue, workers for every run of `work` that no job holds.

        Args:
            work: runs without a result, in the order in which they should be trained.
            order: the launch.

        Raises:
            RunnerError: the scheduler refuses or does not answer.
        """
        ...

    def poll(self, run_ids: set[str]) -> JobsView:
        """What the jobs of any launch on this store are doing about these runs.

        A job of unknown state holds its runs: it is never reported as failed or gone.
        """
        ...

    def cancel(self, run_ids: set[str]) -> Cancelled:
        """Ask the jobs of this launch, and of every other launch of the same sweep, to checkpoint and stop (TERM).

        Args:
            run_ids: of this launch; jobs of other sweeps that hold some of them are named, not cancelled.

        Raises:
            RunnerError: the scheduler refuses.
        """
        ...

    @classmethod
    def environment(cls) -> JobEnvironment | None:
        """The job of this scheduler that this process runs in, from its environment variables; None outside of one."""
        ...

    def active(self, job: JobRef) -> bool | None:
        """Whether `job` may still run; None where that is unknown, and then its workers' heartbeat decides."""
        return None

    def check(self, work: Sequence[Work]) -> None:
        """Refuse what cannot run here, before the user is asked to confirm. Raises RunnerError."""

    def check_store(self) -> str | None:
        """Refuse a store that the jobs would not see; a warning where that could not be checked. Raises RunnerError."""
        return None

    def leave(self, *, interrupted: bool) -> None:
        """The launch that submitted ends, after its last `poll` or interrupted by Ctrl-C or TERM. Where it is
        `attached`, the workers are waited for.

        Raises:
            RunnerError: a worker could not work.
            KeyboardInterrupt: somebody else stopped the workers.
        """

    def logs(self, job: JobRef) -> list[Path]:
        """The files that the job wrote."""
        return []

    def diagnose(self) -> dict[str, object]:
        """Findings of `scaling doctor --runner`; `problem` is None, or left out, where all is well."""
        return {}


def scheduler_class(name: str) -> type[Scheduler]:
    """The class that a runner file names: ``local``, ``slurm``, an entry point, or ``module:Class``.

    Raises:
        RunnerError: there is none, or it lacks a method.
    """
    return cast(type[Scheduler], load_class(name))


def current_job(name: str | None = None) -> JobEnvironment | None:
    """The job that this process runs in; None where no scheduler knows of one.

    Args:
        name: of the scheduler to ask before the built-in ones.
    """
    asked = dict.fromkeys([name, *BUILT_IN] if name else BUILT_IN)
    environments = (scheduler_class(name_asked).environment() for name_asked in asked)
    return next((environment for environment in environments if environment is not None), None)


def join_ranks(environment: JobEnvironment | None) -> None:
    """Set the environment variables of torchrun, unless they are set."""
    if environment is not None and environment.ranks is not None and "RANK" not in os.environ:
        os.environ.update(environment.ranks.variables())
