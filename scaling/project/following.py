"""Stay with a launch until no job holds one of its runs."""

from __future__ import annotations

import resource
import time

from scaling.project.opened import OpenSweep
from scaling.quantity import format_duration
from scaling.results.launches import Launch
from scaling.runners.scheduler import Outcome, Scheduler


def stay(opened: OpenSweep, scheduler: Scheduler, frozen: Launch, outcome: Outcome) -> None:
    """Tell the listener of progress until no job holds a run.

    Ctrl-C, and what else raises KeyboardInterrupt here, lets the workers of an attached scheduler checkpoint; it is
    raised again when they have. Raises RunnerError where a worker could not work.
    """
    started, spent = time.monotonic(), _children_seconds()
    try:
        _follow(opened, scheduler, frozen, outcome)
    except KeyboardInterrupt:
        if scheduler.attached:
            opened.listener.message("stopping: every run checkpoints at its next step ...")
        scheduler.leave(interrupted=True)
        _say_continues(opened, scheduler)
        raise
    except BaseException:
        scheduler.leave(interrupted=True)
        raise
    try:
        scheduler.leave(interrupted=False)
    except KeyboardInterrupt:
        _say_continues(opened, scheduler)
        raise
    if scheduler.attached:
        took = format_duration(time.monotonic() - started)
        cpu = f"{_children_seconds() - spent:.0f} CPU seconds"
        opened.listener.message(f"trained {len(outcome.submitted)} runs in {took} on {outcome.slots} workers, {cpu}")


def _follow(opened: OpenSweep, scheduler: Scheduler, frozen: Launch, outcome: Outcome) -> None:
    listener, ids = opened.listener, set(frozen.ids)
    shown = -listener.interval_s
    listener.training(frozen, slots=outcome.slots or len(ids))
    try:
        while True:
            jobs = scheduler.poll(ids)
            if time.monotonic() - shown >= listener.interval_s or not jobs.held:
                shown = time.monotonic()
                runs = opened.statuses(frozen, scheduler=scheduler, jobs=jobs)
                listener.progress(runs)
                others = not scheduler.attached and any(run.status in ("running", "queued") for run in runs)
                if not jobs.held and not others:
                    return
            time.sleep(scheduler.poll_seconds)
    finally:
        listener.ended()


def _children_seconds() -> float:
    """CPU seconds of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _say_continues(opened: OpenSweep, scheduler: Scheduler) -> None:
    if scheduler.attached:
        opened.listener.message(f"stopped; `scaling launch {opened.path}` continues where it was")
    else:
        opened.listener.message(f"the jobs go on; next: scaling status {opened.path}")
