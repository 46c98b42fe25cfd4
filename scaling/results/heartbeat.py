"""Heartbeats: whether a worker that nobody can be asked about still writes, by the file server's clock.

age = modification time of a new probe file beside the claim − the newer one of metrics and claim; a negative age counts
as 0. A worker is dead where the age is 600 s or more and neither file changes in 10 s more. Every observer may write
there, so all of them, however short their lives, come to the same judgement; one that may not write decides nothing.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scaling.files import server_time

HEARTBEAT_SECONDS = 600.0  # assumption: docs/design.md, "The store and claims"
WATCH_SECONDS = 10.0  # assumption: longer than an attribute cache of NFS (acregmin is 3 s) may hide a write
BEAT_SECONDS = 30.0  # assumption: half of the minute that docs/design.md promises

Pulse = Literal["beating", "quiet", "silent", "stopped", "hidden"]
"""`beating`: seen to change; `quiet`: not yet seen to change; `silent`: nothing for ten minutes, and watched for ten
seconds more; `stopped`: dead; `hidden`: this process may not write here, so it cannot tell.
"""


@dataclass
class _Watch:
    """What was seen of one heartbeat; times of the observer's own clock, in seconds."""

    written: tuple[float, int]  # newest modification time, size of the metrics
    since: float  # when it was first seen so
    fresh_until: float  # until then no probe is needed
    beaten: bool = False  # it has changed since it was first looked at


class Heartbeats:
    """The heartbeats that one process watches."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        server_clock: Callable[[Path], float | None] = server_time,
    ) -> None:
        self._clock, self._server_clock = clock, server_clock
        self._watches: dict[Path, _Watch] = {}

    def pulse(self, metrics: Path, claim: Path) -> Pulse:
        """The heartbeat of the attempt with these two files."""
        now, written = self._clock(), last_write(metrics, claim)
        watch = self._watches.get(claim)
        if watch is None or watch.written != written:
            watch = self._watches[claim] = _Watch(written, now, now, beaten=watch is not None)
        if now < watch.fresh_until:
            return _living(watch)
        server_now = self._server_clock(claim.parent)
        if server_now is None:
            return "hidden"
        age = max(0.0, server_now - written[0])
        if age < HEARTBEAT_SECONDS:
            watch.fresh_until = now + HEARTBEAT_SECONDS - age
            return _living(watch)
        return "stopped" if now - watch.since >= WATCH_SECONDS else "silent"


def last_write(metrics: Path, claim: Path) -> tuple[float, int]:
    """The newest modification time of an attempt's files, in seconds, and the size of its metrics, in bytes."""
    written, size = 0.0, 0
    for path in (metrics, claim, claim.with_name(f"{claim.name}.bad")):
        with contextlib.suppress(OSError):
            info = path.lstat()
            written = max(written, info.st_mtime)
            size = info.st_size if path == metrics else size
    return written, size


@contextmanager
def beating(metrics: Path, claim: Path) -> Iterator[None]:
    """Touch the metrics (before the first line: the claim) every `BEAT_SECONDS` during the block, whatever it does."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS):
            touch(metrics, claim)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def touch(metrics: Path, claim: Path) -> None:
    """Give the metrics, or else the claim, the file server's time. A store that is away for a while is left alone: the
    run itself meets the error.
    """
    for path in (metrics, claim):
        with contextlib.suppress(OSError):
            os.utime(path, follow_symlinks=False)
            return


def _living(watch: _Watch) -> Pulse:
    return "beating" if watch.beaten else "quiet"
