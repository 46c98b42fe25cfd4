"""Checkpoints: `<step>-<attempt>.pt`, whole or absent, the last two kept.

A file holds the full state of a run after `step` steps, by parameter name and independent of how many processes wrote
it. It names its schema, its run and its step, carries a checksum of every part (a zip archive's, compared when it is
read), and is read without pickled code (`weights_only=True`). A file that is damaged, of another run or corpus, or of a
step the run does not have is given a name that ends in `.bad`, with a message, and the one before it is read. Symbolic
links are not followed.
"""

from __future__ import annotations

import pickle
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch

from scaling.errors import DamagedRecord, NewerRecord, ScalingError
from scaling.files import JsonObject, plain_entries, replacing
from scaling.records import set_aside

SCHEMA = 3
KEPT = 2
_NAME = re.compile(r"(\d{8})-(\d{4})\.pt")
UNREADABLE = (
    DamagedRecord,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    struct.error,
    zlib.error,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds. `state` is nested dictionaries of tensors and numbers."""

    run_id: str
    corpus_hash: str
    step: int
    state: JsonObject


def write_checkpoint(folder: Path, checkpoint: Checkpoint, *, attempt: int) -> Path:
    """Write the file of `attempt`, then remove all but the last `KEPT`. Raises DamagedRecord where `folder` is a
    symbolic link.
    """
    if folder.is_symlink():
        raise DamagedRecord("a symbolic link in place of the folder of checkpoints", where=str(folder))
    path = folder / f"{checkpoint.step:08d}-{attempt:04d}.pt"
    with replacing(path) as file:
        save(checkpoint, file)
    for old in newest_first(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def save(checkpoint: Checkpoint, file: IO[bytes]) -> None:
    """Write one checkpoint as `read_checkpoint` reads it."""
    torch.save({"schema": SCHEMA, **vars(checkpoint)}, file)


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, the furthest first; symbolic links are none."""
    return [p for p in reversed(plain_entries(folder)) if _NAME.fullmatch(p.name) and not p.is_symlink()]


def read_newest(
    folder: Path, *, run_id: str, corpus_hash: str, steps: int, tell: Callable[[str], None], leads: bool = True
) -> Checkpoint | None:
    """The furthest usable checkpoint of a run, None where there is none; `tell` hears what was passed over.

    Args:
        folder: where they lie.
        run_id: the run they must be of.
        corpus_hash: the data they must be of.
        steps: of the run; there is no state after more.
        tell: takes one sentence per file that is passed over.
        leads: whether this process sets aside what cannot be used; of several ranks one does.

    Raises:
        NewerRecord: a later version wrote it.
    """

    def read(path: Path) -> Checkpoint:
        checkpoint = read_checkpoint(path, run_id)
        _check(checkpoint, path, corpus_hash=corpus_hash, steps=steps)
        return checkpoint

    for path in newest_first(folder):
        try:
            return read(path)
        except UNREADABLE as error:
            tell(f"checkpoint {path.name} cannot be used: {first_line(error)}")
            damaged = not isinstance(error, OSError)  # which says nothing about its content
        if leads and damaged:
            set_aside(path, lambda moved: _as_damaged(read, moved))
    return None


def _as_damaged(read: Callable[[Path], Checkpoint], path: Path) -> None:
    try:
        read(path)
    except UNREADABLE as error:
        raise DamagedRecord("the checkpoint cannot be used", where=str(path), got=first_line(error)) from None


def _check(checkpoint: Checkpoint, path: Path, *, corpus_hash: str, steps: int) -> None:
    """Raise DamagedRecord where a checkpoint is not a state of the run that its name and its settings tell of."""
    named = _NAME.match(path.name)
    losses = checkpoint.state.get("losses")
    if checkpoint.corpus_hash != corpus_hash:
        why = f"it was trained on other data ({checkpoint.corpus_hash})"
    elif type(checkpoint.step) is not int or not 0 <= checkpoint.step <= steps:
        why = f"step {checkpoint.step} of {steps}"
    elif named is not None and int(named[1]) != checkpoint.step:
        why = f"it holds step {checkpoint.step}"
    elif losses is not None and len(losses) != checkpoint.step:
        why = f"{len(losses)} losses after {checkpoint.step} steps"
    else:
        return
    raise DamagedRecord(why, where=path.name)


def first_line(error: Exception) -> str:
    """What an error says in one line; its kind where it says nothing."""
    if isinstance(error, ScalingError):
        return error.sentence
    return (str(error).splitlines() or [type(error).__name__])[0]


def read_checkpoint(path: Path, owner: str) -> Checkpoint:
    """The checkpoint in `path`.

    Raises:
        NewerRecord: a later version wrote it.
        UNREADABLE: it is damaged, or not `owner`'s.
    """
    if not stat.S_ISREG(path.lstat().st_mode):  # opening a pipe would wait for ever
        raise DamagedRecord("not a regular file", where=path.name)
    with zipfile.ZipFile(path) as archive:  # torch writes checksums and does not compare them
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} is damaged")
    content = torch.load(path, map_location="cpu", weights_only=True)
    schema, run_of = content.pop("schema"), content["run_id"]
    if schema != SCHEMA:
        kind = NewerRecord if isinstance(schema, int) and schema > SCHEMA else DamagedRecord
        raise kind(
            "the checkpoint has another schema", where=str(path), got=schema, allowed=f"schema {SCHEMA}",
            hint="use the version of scaling that wrote it, or move the file away to train the run again",
        )  # fmt: skip
    if run_of != owner:
        raise DamagedRecord("the checkpoint is of another run", where=path.name, got=run_of, allowed=f"run {owner}")
    return Checkpoint(**content)
