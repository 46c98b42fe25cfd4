"""Several ranks that train one run together: one worker per rank, on one list.

Rank 0 claims, logs and publishes; it tells the others which run comes next, and all agree to stop at the same step.
Whatever goes wrong on one rank ends its process: the others cannot go on alone, and what started them must end them
(`torchrun`, or `srun --kill-on-bad-exit`).
"""

from __future__ import annotations

import os
import time
import traceback

from scaling.results.store import Attempt, Store
from scaling.runners.scheduler import JobEnvironment, join_ranks
from scaling.runners.worker import EXIT_STOPPED, POLL_SECONDS, StopFlag, Worker, WorkList

_BITS = 32  # of the numbers that rank 0 announces


class TeamWorker(Worker):
    """One rank."""

    def __init__(
        self,
        store: Store,
        worklist: WorkList,
        stop: StopFlag,
        *,
        strategy: str,
        device: str = "cpu",
        environment: JobEnvironment | None = None,
    ) -> None:
        from scaling.training.loop import open_device
        from scaling.training.parallel import join

        join_ranks(environment)
        own = f"cuda:{os.environ['LOCAL_RANK']}" if device == "cuda" and "LOCAL_RANK" in os.environ else device
        super().__init__(store, worklist, stop, device=own, environment=environment)
        assert strategy in ("ddp", "fsdp")
        self.peers = self.team = join("ddp" if strategy == "ddp" else "fsdp", open_device(self.device))
        self.leads = self.peers.rank == 0

    def work(self) -> int:
        """Train what rank 0 finds to train; the process's exit status."""
        wait = len(self.worklist.runs) + 1  # in place of a run: look again in a moment
        while True:
            mine = self._next() if self.leads else None
            place = self.worklist.runs.index(mine.run_id) + 1 if mine else wait if self.waits else 0
            stop, place, number = self._announce(place, mine.number if mine else 0)
            if stop:
                if mine is not None:
                    mine.log({"event": "stopped", "step": 0})
                return EXIT_STOPPED
            if place == 0:
                return self._leave() if self.leads else 0
            if place == wait:
                time.sleep(POLL_SECONDS)
                continue
            run_id = self.worklist.runs[place - 1]
            self._execute(mine or Attempt(run_id, number, self.store.folder(run_id), self.owner))

    def _execute(self, attempt: Attempt) -> None:
        try:
            self._train(attempt)
        except Exception as error:
            attempt.fail(f"rank {self.peers.rank}: {type(error).__name__}: {error}", traceback.format_exc())
            raise

    def _announce(self, *numbers: int) -> tuple[bool, int, int]:
        """Whether any rank was asked to stop, and rank 0's two numbers, on every rank."""
        bits = [bool(number >> place & 1) for number in numbers for place in range(_BITS)]
        stop, *known = self.peers.any(self.stop(), *bits)
        first, second = (sum(bit << place for place, bit in enumerate(known[at : at + _BITS])) for at in (0, _BITS))
        return stop, first, second
