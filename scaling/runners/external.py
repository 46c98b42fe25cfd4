"""Workers that something else starts: a PBS or LSF array, a Kubernetes job, a colleague's shell (docs/clusters.md).

`scaling launch` prepares everything and says which command to start; nothing is started here.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from scaling.results.jobs import HeldRun, JobState
from scaling.results.store import Store
from scaling.runners.scheduler import Cancelled, JobEnvironment, JobsView, Order, Outcome, Scheduler, Work


class ExternalScheduler(Scheduler):
    """A launch whose workers are started by hand, or by a scheduler that this package does not know."""

    keys = frozenset()

    def scripts(self, work: Sequence[Work], order: Order) -> list[str]:
        """The command of one worker."""
        return [shlex.join(order.worker)]

    def submit(self, work: Sequence[Work], order: Order) -> Outcome:
        """Start nothing: the workers are started by the user."""
        message = f"start as many workers as you like: {shlex.join(order.worker)}"
        return Outcome(tuple(run.run_id for run in work), {}, (), messages=(message,) if work else ())

    def poll(self, run_ids: set[str]) -> JobsView:
        """Runs that no worker has taken yet wait for one."""
        store = Store(self.store)
        waiting = {run_id for run_id in run_ids if not store.has_result(run_id) and store.newest(run_id) is None}
        return JobsView(
            dict.fromkeys(waiting, HeldRun(self.launch, "external", JobState("WAITING_FOR_A_WORKER", True)))
        )

    def cancel(self, run_ids: set[str]) -> Cancelled:
        """Nothing is known of the workers."""
        return Cancelled((), ("end the workers where you started them: on TERM they checkpoint and stop",))

    @classmethod
    def environment(cls) -> JobEnvironment | None:
        """None: its workers are in no job that is known here."""
        return None
