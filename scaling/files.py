"""Atomic writes, and reads that follow no symbolic link.

A file is written to a temporary name in its own folder, flushed to the disk, and renamed or linked: a reader sees
all of it or nothing. `create_exclusive` links, so of many writers one wins, on NFS too.
What is read back is a regular file: no symbolic link is followed at the end of a path, and nothing that would block.
`fault_hook` is where a test can interrupt a write: it is called with a name before every step that another process
could observe, and before every write and flush.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

JsonObject: TypeAlias = dict[str, Any]  # values that json writes
SCHEMA_VERSION = 1  # of every document that `--json` prints
TEMPORARY = re.compile(r"\..+\.(?P<host>[^.]*)\.(?P<pid>\d+)\.[0-9a-f]{8}\.tmp")

fault_hook: Callable[[str], None] = lambda point: None  # noqa: E731  (replaced by tests)


def fault(point: str) -> None:
    """Tell the test hook that `point` is about to happen."""
    fault_hook(point)


def write_atomic(path: Path, text: str | bytes) -> None:
    """Replace `path` by `text` in one step; the folder is made where it is missing."""
    with replacing(path) as file:
        file.write(text.encode() if isinstance(text, str) else text)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` when the block ends without an error, and is removed otherwise."""
    with _temporary(path, 0o666) as (temporary, file):
        yield file
        _flush(file, path.name)
        fault(f"replace {path.name}")
        os.replace(temporary, path)
        _flush_folder(path.parent)
        fault(f"replaced {path.name}")


def create_exclusive(path: Path, text: str, *, mode: int = 0o666) -> bool:
    """Create `path` with all of `text`, or return False where it exists already. Exactly one of many callers gets
    True. `mode` is reduced by the process's umask.
    """
    with _temporary(path, mode) as (temporary, file):
        file.write(text.encode())
        _flush(file, path.name)
        fault(f"link {path.name}")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        _flush_folder(path.parent)
        fault(f"linked {path.name}")
        return True


def read_regular(path: Path, *, tail_bytes: int | None = None) -> bytes:
    """The content of a regular file, or its last bytes. A symbolic link, a folder or a pipe raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        info = os.fstat(handle)
        if not stat.S_ISREG(info.st_mode):
            raise IsADirectoryError(f"{path} is not a regular file")
        if tail_bytes is not None:
            os.lseek(handle, max(0, info.st_size - tail_bytes), os.SEEK_SET)
        parts: list[bytes] = []
        asked = info.st_size + 1  # unbuffered: a status reads tens of thousands of small files
        while not parts or len(parts[-1]) == asked:  # a regular file gives less at its end only
            parts.append(os.read(handle, asked))
        return b"".join(parts)
    finally:
        os.close(handle)


def refuse_pipe(path: Path) -> None:
    """Raise OSError where opening `path` would wait for another program. Links are followed."""
    if stat.S_ISFIFO(path.stat().st_mode):
        raise OSError(errno.EINVAL, "a pipe, not a file", str(path))


def append_line(path: Path, line: bytes) -> None:
    """Append to a regular file, in one write. Raises OSError where `path` is a symbolic link or a pipe."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(path, flags, 0o666)
    try:
        fault(f"append {path.name}")
        with _named(path):
            if os.write(handle, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    finally:
        os.close(handle)


def plain_entries(folder: Path) -> list[Path]:
    """What lies in `folder`, sorted; nothing where it is missing, no folder, or a symbolic link."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return []
    except OSError:
        return []
    return sorted(folder.iterdir())


def server_time(folder: Path) -> float | None:
    """Now, by the clock that gives the files in `folder` their times; None where no file may be made there."""
    try:
        with _temporary(folder / "clock", 0o666) as (_, file):
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


def sweep_temporary(folder: Path) -> None:
    """Remove temporary files of processes of this machine that are gone; those of other machines stay."""
    for path in plain_entries(folder):
        named = TEMPORARY.fullmatch(path.name)
        if named and named["host"] == _host() and not _lives(int(named["pid"])):
            path.unlink(missing_ok=True)


def to_json(value: object, *, indent: int | None = 1) -> str:
    """JSON for files that people also read: indented, sorted, finite numbers only. On one line it is written and read
    some ten times faster.
    """
    return json.dumps(value, indent=indent, sort_keys=True, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """The JSON value in `path`. Raises FileNotFoundError and json.JSONDecodeError as they are."""
    return json.loads(path.read_text(encoding="utf-8"))


@contextmanager
def _temporary(path: Path, mode: int) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new file beside `path`, open for writing; its name is gone when the block ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{_host()}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    fault(f"write {path.name}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with _named(path), os.fdopen(handle, "wb") as file:
            yield temporary, file
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an OSError of a write say which file it was."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _host() -> str:
    return socket.gethostname().partition(".")[0][:60]


def _flush(file: IO[bytes], name: str) -> None:
    file.flush()
    fault(f"flush {name}")
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
