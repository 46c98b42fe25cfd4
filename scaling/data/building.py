"""The folder of prepared data, while it is being made.

Tokens go to the disk as they come, so a corpus may be larger than the memory. Every finished file is hashed in
blocks; the block hashes are what the data's own hash is made of, and what a reader compares.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from scaling.data.corpus import VALIDATION_PERCENT, Corpus, Document
from scaling.data.tokenizer import Tokenizer
from scaling.errors import DataError
from scaling.files import JsonObject, fault
from scaling.run import DataRef

FORMAT = 1  # raised by hand whenever the same sources give other tokens
BLOCK_BYTES = 1 << 24
_DOCUMENTS_AT_ONCE = 256


class _TokenFile:
    """Documents appended to one file: tokens, where each document starts, and its bytes."""

    def __init__(self, file: IO[bytes], tokenizer: Tokenizer) -> None:
        self.starts, self.sizes = array("q"), array("q")
        self.tokens = 0
        self._file = file
        self._separator = np.array([tokenizer.separator], tokenizer.dtype)
        self._vocab_size = tokenizer.vocab_size

    def append(self, ids: NDArray[np.integer], text: str) -> None:
        assert not len(ids) or ids.max() < self._vocab_size, "a token beyond the vocabulary"
        self.starts.append(self.tokens)
        self.sizes.append((len(text) if text.isascii() else len(text.encode())) + 1)
        self.tokens += len(ids) + 1
        self._file.write(ids.tobytes())
        self._file.write(self._separator.tobytes())

    def flush(self) -> None:
        _flush(self._file)


@contextmanager
def folder(data: Path, key: str) -> Iterator[Path]:
    """A temporary folder in `data`, removed in the end unless it was renamed.

    The caller holds the lock on `key`, so what an earlier holder left behind when it was killed is removed first.
    """
    for left in data.glob(f".building-{key}-*"):
        shutil.rmtree(left)
    building = data / f".building-{key}-{secrets.token_hex(4)}"
    building.mkdir()
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)


def publish(building: Path, final: Path) -> None:
    """Rename the folder to the hash of its content; where another process was first, its folder is the same."""
    fault(f"publish {final.name}")
    try:
        building.rename(final)
    except OSError:
        if not (final / "description.json").exists():
            raise


def write(
    building: Path, ref: DataRef, sources: Mapping[str, Corpus], tokenizer: Tokenizer
) -> tuple[JsonObject, JsonObject]:
    """Write all token files of `sources` (``train``, and further validation sets by name) into the folder `building`.

    Returns:
        content: what the hash is made of: format, tokenizer, validation tokens, and every file's size and block hashes.
        counted: documents, tokens and bytes by file, and what was dropped or repaired.

    Raises:
        DataError: too few tokens in a part.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in sources}
    with ExitStack() as stack:
        files = {
            name: _TokenFile(stack.enter_context((building / f"{name}.bin").open("wb")), tokenizer)
            for name in ("validation", *sources)
        }
        for name, corpus in sources.items():
            for document, ids in _encoded(corpus.documents(counts[name]), tokenizer):
                part = "validation" if name == "train" and document.held_out else name
                files[part].append(ids, document.text)
        for file in files.values():
            file.flush()
    _check_sizes(ref, files)
    _write_documents(building, files)
    if tokenizer.definition is not None:
        (building / "tokenizer.json").write_text(tokenizer.definition, encoding="utf-8")
    return _content(building, ref, tokenizer), {
        "documents": {name: len(file.starts) for name, file in files.items()},
        "tokens": {name: file.tokens for name, file in files.items()},
        "bytes": {name: sum(file.sizes) for name, file in files.items()},
        "cleaning": {name: {what: n for what, n in sorted(c.items()) if n} for name, c in counts.items()},
    }


def changed(path: Path, recorded: Mapping[str, Any], checked_blocks: int) -> bool:
    """Whether a file is not the one whose size and block hashes were recorded; of a long one an even sample is read."""
    if not path.is_file() or path.stat().st_size != recorded["bytes"]:
        return True
    stride = -(-len(recorded["blocks"]) // checked_blocks)
    with path.open("rb") as file:
        for number in range(0, len(recorded["blocks"]), stride):
            file.seek(number * BLOCK_BYTES)
            if hashlib.sha256(file.read(BLOCK_BYTES)).hexdigest() != recorded["blocks"][number]:
                return True
    return False


def _encoded(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[tuple[Document, NDArray[np.integer]]]:
    documents = iter(documents)
    while some := list(islice(documents, _DOCUMENTS_AT_ONCE)):
        yield from zip(some, tokenizer.encode_batch([d.text for d in some]), strict=True)


def _check_sizes(ref: DataRef, files: Mapping[str, _TokenFile]) -> None:
    held_out, needed = files["validation"].tokens, ref.validation_tokens + 1
    if held_out < needed:
        raise DataError(
            "the corpus is too small for the validation set",
            where=f"data: {ref.corpus}",
            got=f"{held_out} tokens held out ({VALIDATION_PERCENT} % of the documents), {needed} needed",
            allowed=f"validation_tokens up to {max(held_out - 1, 0)} with this corpus",
            hint="lower data.validation_tokens, or give more text",
        )
    for name, file in files.items():
        if file.tokens < 2:
            raise DataError("there is no text in this part", where=f"data: {name}", got=f"{file.tokens} tokens")


def _write_documents(building: Path, files: Mapping[str, _TokenFile]) -> None:
    for name, file in files.items():
        if name != "train":
            with (building / f"{name}.documents.npy").open("wb") as out:
                np.save(out, np.array([file.starts, file.sizes], np.int64), allow_pickle=False)
                _flush(out)


def _content(building: Path, ref: DataRef, tokenizer: Tokenizer) -> JsonObject:
    return {
        "format": FORMAT,
        "tokenizer": tokenizer.name,
        "vocab_size": tokenizer.vocab_size,
        "dtype": tokenizer.dtype.str,
        "validation_tokens": ref.validation_tokens,
        "files": {path.name: _recorded(path) for path in sorted(building.iterdir())},
    }


def _recorded(path: Path) -> JsonObject:
    with path.open("rb") as file:
        blocks = [hashlib.sha256(block).hexdigest() for block in iter(lambda: file.read(BLOCK_BYTES), b"")]
    return {"bytes": path.stat().st_size, "blocks": blocks}


def _flush(file: IO[bytes]) -> None:
    file.flush()
    os.fsync(file.fileno())
