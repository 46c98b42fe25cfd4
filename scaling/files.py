"""The few ways a file comes into being here.

A file is written to a temporary name in its own folder, flushed to the disk, and renamed or linked: a reader sees
all of it or nothing. `create_exclusive` links, so of many writers one wins, on NFS too.
`fault_hook` is the one place where a test can interrupt the world: it is called by name before every step that
another process could observe.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

SCHEMA_VERSION = 1  # of every document that `--json` prints

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
    """A binary file that takes the name `path` when the block ends without an error, and leaves no trace otherwise."""
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            yield file
            _flush(file)
        fault(f"replace {path.name}")
        os.replace(temporary, path)
        _flush_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def create_exclusive(path: Path, text: str) -> bool:
    """Create `path` with all of `text`, or return False where it exists already. Exactly one of many callers gets
    True.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.write(text.encode())
            _flush(file)
        fault(f"link {path.name}")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        _flush_folder(path.parent)
        fault(f"linked {path.name}")
        return True
    finally:
        temporary.unlink(missing_ok=True)


def to_json(value: object, *, indent: int | None = 1) -> str:
    """JSON for files that people also read: indented, sorted, finite numbers only. On one line it is written and read
    some ten times faster.
    """
    return json.dumps(value, indent=indent, sort_keys=True, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """The JSON value in `path`. Raises FileNotFoundError and json.JSONDecodeError as they are."""
    return json.loads(path.read_text(encoding="utf-8"))


def _temporary(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    Path(name).chmod(0o666 & ~_umask())
    return Path(name)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
