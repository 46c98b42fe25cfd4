"""One process at a time, also where the file system has no `flock`.

With `flock` the kernel frees the lock when its process ends. Some NFS and Lustre mounts refuse it (ENOLCK, ENOSYS);
there a lock file is created exclusively, and one whose process on this machine is gone is taken over.
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from scaling.errors import StoreError

NO_FLOCK = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


@contextmanager
def hold(path: Path, *, timeout_s: float = -1.0, what: str = "another process holds the lock") -> Iterator[None]:
    """Hold the lock at `path` during the block.

    Args:
        path: the lock file; its folder exists.
        timeout_s: how long to wait for another holder; negative: until it is free.
        what: what to say where the wait was in vain.

    Raises:
        StoreError: another process kept it longer than `timeout_s`.
        OSError: the lock file cannot be made.
    """
    native = _has_flock(path)
    lock: BaseFileLock = (FileLock if native else SoftFileLock)(path if native else _held(path), timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout:
        left = "" if native else f"; where no such process is left on any machine, remove {_held(path)}"
        hint = f"wait for it, or find it with `ps`{left}"
        raise StoreError(what, where=str(path.parent), hint=hint) from None
    try:
        yield
    finally:
        lock.release()


def _has_flock(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in NO_FLOCK
    return True


def _held(path: Path) -> Path:
    return path.with_name(f"{path.name}.held")
