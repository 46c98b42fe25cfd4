"""One process at a time, also where the file system has no `flock`.

With `flock` the kernel frees the lock when its process ends. Some NFS and Lustre mounts refuse it (ENOLCK, ENOSYS);
there a lock file is created exclusively, and one whose process on this machine is gone is taken over.
"""

from __future__ import annotations

import errno
import fcntl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaling.errors import StoreError

IN_ITS_PLACE = frozenset({errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})
NO_FLOCK = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP})


@contextmanager
def hold(path: Path, *, timeout_s: float = -1.0, what: str = "another process holds the lock") -> Iterator[None]:
    """Hold the lock at `path` during the block.

    Args:
        path: the lock file; its folder exists.
        timeout_s: how long to wait for another holder; negative: until it is free.
        what: the text of the error when the time is over.

    Raises:
        StoreError: another process kept it longer than `timeout_s`.
        OSError: the lock file cannot be made.
    """
    from filelock import FileLock, SoftFileLock, Timeout  # 30 ms that `plan` and `status` need not pay

    native = _has_flock(path)
    lock = (FileLock if native else SoftFileLock)(path if native else _held(path), timeout=timeout_s)
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


def unwritable(folder: Path, error: OSError) -> StoreError:
    """The error for a store or a project's folder that cannot be written, with what to do about it; `folder` where
    the error names none.
    """
    if error.filename is not None:
        folder = Path(str(error.filename)).parent
    hint = "name a folder that you can write to under `store:` in the runner file"
    if error.errno in (errno.EACCES, errno.EPERM):
        hint = f"{_rights(folder)}; ask its owner for `chmod -R g+rwX {folder}` and `umask 002` before `scaling launch`"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space, then launch again: it continues where it was"
    elif error.errno in IN_ITS_PLACE:
        hint = f"move away what is in its place: {error.filename2 or error.filename or folder}"
    elif error.errno == errno.EROFS:
        hint = f"mount it for writing; or {hint}"
    return StoreError("the folder cannot be written", where=str(folder), got=str(error), hint=hint)


def _rights(folder: Path) -> str:
    """Owner, group and rights of a folder, as `ls -ld` shows them."""
    place = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    try:
        info = place.stat()
        owner, group = place.owner(), place.group()
    except (OSError, KeyError):
        return f"{place} is not yours"
    return f"{place} belongs to user {owner} and group {group} with rights {stat.filemode(info.st_mode)}"


def _has_flock(path: Path) -> bool:
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno not in NO_FLOCK
    return True


def _held(path: Path) -> Path:
    return path.with_name(f"{path.name}.held")
