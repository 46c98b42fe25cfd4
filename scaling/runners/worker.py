"""The worker: the loop that trains the runs of a list, one after another, in one process.

It takes the next run of an ordered list that has no result and no live attempt, trains it, publishes, and goes on.
It leaves a run to another worker only where it knows that one to be alive, or has seen its heartbeat; else it stays
until the heartbeat is ten minutes old and takes the run over.

Stopping has one rule: USR2, TERM, INT, or the end of the launcher's pipe set a flag; at the next step boundary the
loop checkpoints and the worker exits 75. Nothing is done inside a signal handler.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Literal

from scaling.errors import DamagedRecord, RunnerError, ScalingError, StoreError
from scaling.files import JsonObject, fault, plain_entries, write_atomic
from scaling.quantity import format_duration
from scaling.records import read_record, sealed
from scaling.results.heartbeat import beating, last_write
from scaling.results.owner import Owner, code_version
from scaling.results.store import Attempt, Liveness, Store
from scaling.results.tidy import tidy_run
from scaling.runners.scheduler import JobEnvironment
from scaling.sweeps.memory import USABLE, Placement, split

if TYPE_CHECKING:
    from scaling.data.shards import TokenData
    from scaling.run import Run
    from scaling.training.parallel import Team

EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: try again later
MPS = "CUDA_MPS_PIPE_DIRECTORY"  # where the processes of a GPU meet its MPS daemon (NVIDIA, Multi-Process Service)
EXIT_LEFT = 69  # EX_UNAVAILABLE: runs are left, because other workers may be training them
MAX_DEATHS = 3  # assumption: a run whose worker died this often within one launch (out of memory, say) is left alone
POLL_SECONDS = 0.5
OF_ONE_FOLDER = (errno.EACCES, errno.EPERM, errno.EEXIST, errno.ENOTDIR, errno.ELOOP)
STOP_SIGNALS = (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class WorkList:
    """The runs that one launch wants trained, in order.

    `attempts` holds, per run, the number of its newest attempt when the list was made: a run that fails after that
    is not tried again by this launch, and the next launch tries it once more. `memory_bytes` is what the row of the
    launch's device states, of which a run has the part that `runs_per_gpu` leaves it, by which batches are split;
    `micro_batches` are the splits that a resource rule asks for.
    """

    corpus_hash: str
    runs: tuple[str, ...]
    attempts: dict[str, int]
    keep: Literal["weights", "none"] = "weights"
    code_version: str | None = None  # when it was made
    memory_bytes: float | None = None  # None: batches are not split
    micro_batches: Mapping[str, int] = field(default_factory=dict)
    runs_per_gpu: int = 1

    @classmethod
    def of(
        cls,
        run_ids: Sequence[str],
        store: Store,
        *,
        corpus_hash: str,
        keep: Literal["weights", "none"],
        memory_bytes: float | None = None,
        micro_batches: Mapping[str, int] | None = None,
        runs_per_gpu: int = 1,
    ) -> WorkList:
        """The list for a launch that starts now."""
        newest = {run_id: store.newest(run_id) for run_id in run_ids}
        attempts = {run_id: attempt.number if attempt else 0 for run_id, attempt in newest.items()}
        parts = dict(micro_batches or {})
        return cls(corpus_hash, tuple(run_ids), attempts, keep, code_version(), memory_bytes, parts, runs_per_gpu)

    @classmethod
    def read(cls, path: Path) -> WorkList:
        """The list that `write` left. Raises StoreError where it is missing or damaged."""
        hint = "scaling launch SWEEP writes it again"
        try:
            values = read_record(path).values
            return cls(**(values | {"runs": tuple(values["runs"])}))
        except FileNotFoundError:
            raise StoreError("there is no such list of runs", where=str(path), hint=hint) from None
        except (KeyError, TypeError) as error:
            raise DamagedRecord("the list of runs is damaged", where=str(path), got=str(error), hint=hint) from None

    def write(self, path: Path) -> Path:
        """Write the list and return its path."""
        write_atomic(path, sealed(asdict(self)))
        return path

    def spent(self, run_id: str, newest: Attempt | None) -> bool:
        """True where this launch has tried the run and must not try again."""
        tried = (newest.number if newest else 0) - self.attempts[run_id]
        if newest is None or tried < 1:
            return False
        stopped = newest.last_record().get("event") == "stopped"
        return newest.error() is not None or (tried >= MAX_DEATHS and not stopped)


class StopFlag:
    """True once the worker was asked to stop, by a signal or because the launcher at the other end of its pipe is
    gone.
    """

    def __init__(self, *, lifeline: int | None = None) -> None:
        self._asked = False
        self._lifeline = lifeline

    def install(self) -> None:
        """Let the stop signals set the flag; a launcher may have started us with them blocked, so that none is lost."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def __call__(self) -> bool:
        """Whether to stop at this step boundary."""
        if not self._asked and self._lifeline is not None:
            readable, _, _ = select.select([self._lifeline], [], [], 0)
            self._asked = bool(readable)  # the launcher never writes, so readable means end of file
        return self._asked

    def _set(self, number: int, frame: FrameType | None) -> None:
        self._asked = True


class Worker:
    """Works through one list on one device."""

    def __init__(
        self,
        store: Store,
        worklist: WorkList,
        stop: StopFlag,
        *,
        device: str = "cpu",
        follow: bool = False,
        runs_on_device: int = 1,
        environment: JobEnvironment | None = None,
    ) -> None:
        self.store, self.worklist, self.stop = store, worklist, stop
        self.device, self.follow, self.runs_on_device = device, follow, runs_on_device
        self.job_active = environment.active if environment else None
        self.owner = Owner.current(submitted=worklist.code_version, job=environment.job if environment else None)
        self.data: TokenData | None = None
        self.team: Team | None = None
        self.leads = True  # of several ranks one writes
        self.waits = False  # for another worker to leave the state of a trunk, or to show its heartbeat
        self.unusable: set[str] = set()  # runs whose folders no attempt can be made in

    def work(self) -> int:
        """Train what is to be trained; the process's exit status.

        With `follow` it stays while other workers train runs of its list, to take over should they die. It always
        stays for runs whose shared trunk another worker is about to leave for them, and for runs whose worker may be
        dead.
        """
        while not self.stop():
            attempt = self._next()
            if attempt is not None:
                self._execute(attempt)
            elif self.stop():
                break
            elif (self.follow or self.waits) and any(self._open(run_id) for run_id in self.worklist.runs):
                time.sleep(POLL_SECONDS)
            else:
                return self._leave()
        return EXIT_STOPPED

    def _leave(self) -> int:
        """Say which runs are left to others; the exit status."""
        left = [run_id for run_id in self.worklist.runs if self._open(run_id)]
        for run_id in left:
            print(f"scaling worker: {left_alone(self.store, run_id)}", file=sys.stderr, flush=True)  # noqa: T201
        return EXIT_LEFT if left else 0

    def _next(self) -> Attempt | None:
        growing: set[str] = set()  # trunks that another worker is training
        self.waits = False
        for run_id in self.worklist.runs:
            if self.stop():
                return None
            if not self._open(run_id):
                continue
            if growing and self._trunk(run_id)[0] in growing:
                self.waits = True
            elif attempt := self._claim(run_id):
                fault("claimed")
                return attempt
            else:
                self.waits |= self._liveness(run_id) not in ("alive", "beating", "hidden")
                trunk, state = self._trunk(run_id)
                growing |= {trunk} if trunk and state and not state.exists() else set()
        return None

    def _liveness(self, run_id: str) -> Liveness:
        """Of the worker that has the run."""
        newest = self.store.newest(run_id)
        if newest is None:
            return "dead"
        return self.store.liveness(newest, seen_by=self.owner, job_active=self.job_active)

    def _claim(self, run_id: str) -> Attempt | None:
        """A new attempt; None where the run is another's, or where its folder cannot be used: the others go on."""
        try:
            return self.store.claim(run_id, self.owner, job_active=self.job_active)
        except OSError as error:
            if error.errno not in OF_ONE_FOLDER:
                raise
            reason: Exception = error
        except StoreError as error:
            reason = error
        print(f"scaling worker: run {run_id} is left alone: {reason}", file=sys.stderr, flush=True)  # noqa: T201
        self.unusable.add(run_id)
        return None

    def _trunk(self, run_id: str) -> tuple[str | None, Path | None]:
        """The trunk of a run, and the file it will leave there."""
        try:
            run = self.store.run(run_id)
        except StoreError:  # told when the run is tried
            return None, None
        from scaling.training.trunk import state_path

        if run.trunk_id is None or run.branch_step is None:
            return None, None
        return run.trunk_id, state_path(self.store.trunks / run.trunk_id, run.branch_step)

    def _open(self, run_id: str) -> bool:
        if run_id in self.unusable or self.store.has_result(run_id):
            return False
        return not self.worklist.spent(run_id, self.store.newest(run_id))

    def _execute(self, attempt: Attempt) -> None:
        try:
            with beating(attempt.metrics_path, attempt.claim_path):
                self._train(attempt)
        except Exception as error:  # noqa: BLE001  (a run that crashes must not stop the others; it is recorded and shown)
            message = str(error) if isinstance(error, ScalingError) else f"{type(error).__name__}: {error}"
            attempt.fail(message, traceback.format_exc())

    def _train(self, attempt: Attempt) -> None:
        from scaling.data.shards import open_data
        from scaling.training.loop import Stopped, Superseded, train

        if self.data is None:
            self.data = open_data(self.store.path, self.worklist.corpus_hash)
        run = self.store.run(attempt.run_id)

        def log(record: JsonObject) -> None:
            attempt.log({"time": round(time.time(), 3), **record})

        if self.runs_on_device > 1:
            log({"message": _company(self.runs_on_device)})
        checkpoints = self.store.checkpoints(run.id)
        options: JsonObject = {} if self.team is None else {"team": self.team}
        try:
            outcome = train(
                run,
                data=self.data,
                folder=checkpoints,
                attempt=attempt.number,
                stop=self.stop,
                owns=attempt.owns,
                log=log,
                device=self.device,
                trunks=self.store.trunks,
                micro_sequences=self._micro_batch(run),
                runs_on_device=self.runs_on_device,
                **options,
            )
        except Superseded:
            if self.team is not None:
                raise  # the other ranks wait in their next step
            return
        if not self.leads:
            return
        if isinstance(outcome, Stopped):
            log({"event": "stopped", "step": outcome.step})
            return
        fault("publish")
        if self.store.publish(attempt, outcome):
            fault("published")
            tidy_run(self.store, run.id, keep=self.worklist.keep)
            self._tidy_trunk(run)
            log({"event": "completed", "step": outcome.steps})

    def _micro_batch(self, run: Run) -> int | None:
        """Sequences at once, as the plan said; None: the whole share of a batch.

        Raises:
            RunnerError: the run cannot be placed on these devices.
        """
        if self.worklist.memory_bytes is None:
            return None
        asked = self.worklist.micro_batches.get(run.id)
        place = Placement(micro_batch=asked, runs_per_gpu=self.worklist.runs_per_gpu)
        if self.team is not None:
            place = Placement(self.team.world, self.team.strategy, asked)
        usable = USABLE * self.worklist.memory_bytes / place.runs_per_gpu
        micro_batch = split(run, memory_bytes=self.worklist.memory_bytes, placement=place)
        if micro_batch.problem is None and micro_batch.fits:
            return micro_batch.sequences
        raise RunnerError(
            "This run cannot be placed on these devices.",
            where=f"run {run.id}, {place.ranks} ranks ({place.strategy})",
            got=micro_batch.problem or f"{micro_batch.memory.peak:.3g} bytes on each device",
            allowed=f"equal parts that need at most {usable:.3g} bytes",
            hint="scaling plan SWEEP --runner FILE prices the run for the devices of a runner file",
        )

    def _tidy_trunk(self, run: Run) -> None:
        """When every branch of the list is done, the furthest state of its trunk stays for longer runs, or none."""
        unfinished = (run_id for run_id in self.worklist.runs if not self.store.has_result(run_id))
        if run.trunk_id is None or any(self._trunk(run_id)[0] == run.trunk_id for run_id in unfinished):
            return
        states = [path for path in plain_entries(self.store.trunks / run.trunk_id) if path.suffix == ".pt"]
        for path in states if self.worklist.keep == "none" else states[:-1]:
            path.unlink(missing_ok=True)


def _company(runs: int) -> str:
    """How a run shares its GPU, for its log."""
    mps = f"by MPS ({MPS}={os.environ[MPS]})" if MPS in os.environ else f"in turns: {MPS} is not set, so MPS is off"
    return f"{runs} runs share this GPU {mps}"


def left_alone(store: Store, run_id: str) -> str:
    """Why an open run is left to another worker: whose it is, and how old its heartbeat is by this machine's clock."""
    newest = store.newest(run_id)
    if newest is None:
        return f"run {run_id} is left: it waits for its trunk"
    owner = newest.owner
    written, _ = last_write(newest.metrics_path, newest.claim_path)
    age = format_duration(max(0.0, time.time() - written))
    job = f", job {owner.job_id}" if owner.job_id else ""
    return f"run {run_id} is left to {owner.host} (pid {owner.pid}{job}), which last wrote {age} ago"
