"""Texts in files: plain text, JSON lines, Parquet, and data sets of the Hugging Face hub.

Text is UTF-8. Bytes that are not become U+FFFD and are counted, so that one bad file does not stop a launch and is
reported. A record without text is an error that names the file and the line: a guess would
train on the wrong column.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from scaling.errors import DataError

TEXT_FIELDS = ("text", "content")  # the names public data sets use; the first that is present is read
PIECE_CHARACTERS = 4096  # plain text has no documents: a file is cut at line ends into pieces of about this length


def text_pieces(path: Path, counts: Counter[str]) -> Iterator[str]:
    """The pieces of a plain text file, whole lines each."""
    lines: list[str] = []
    length = 0
    for line in decoded(read(path), counts).splitlines(keepends=True):
        lines.append(line)
        length += len(line)
        if length >= PIECE_CHARACTERS:
            yield "".join(lines)
            lines, length = [], 0
    if lines:
        yield "".join(lines)


def jsonl_texts(path: Path, counts: Counter[str]) -> Iterator[str]:
    """The text of each line's object; empty lines are passed over."""
    with _open(path) as file:
        for number, raw in enumerate(file, start=1):
            if raw.strip():
                where = f"{path}:{number}"
                try:
                    record = json.loads(decoded(raw, counts))
                except (json.JSONDecodeError, RecursionError) as error:
                    raise DataError("this line is not JSON", where=where, got=str(error)) from error
                yield _text_of(record, where)


def parquet_texts(path: Path, counts: Counter[str]) -> Iterator[str]:
    """The text column of a Parquet file, a thousand rows in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            column = next((n for n in TEXT_FIELDS if n in schema.names and _is_string(schema.field(n).type)), None)
            if column is None:
                raise DataError(
                    "there is no text column",
                    where=str(path),
                    got=", ".join(f"{f.name} ({f.type})" for f in schema),
                    allowed=f"a string column named {' or '.join(TEXT_FIELDS)}",
                )
            for batch in file.iter_batches(batch_size=1024, columns=[column]):
                for raw in batch.column(0).cast(pa.large_binary()).to_pylist():
                    yield decoded(raw or b"", counts)
    except (pa.ArrowException, OSError) as error:
        raise DataError("the Parquet file cannot be read", where=str(path), got=str(error)) from error


def hugging_face_texts(source: str, config: str | None, revision: str | None) -> Iterator[str]:
    """The texts of the split called train, read as a stream: nothing is kept on the disk but what `prepare` writes."""
    try:
        import datasets
    except ImportError as error:
        hint = "pip install 'scaling-orchestrator[hf]' (or: pip install datasets)"
        raise DataError(f"the corpus hf:{source} needs the package datasets", hint=hint) from error
    try:
        rows = datasets.load_dataset(source, config, revision=revision, split="train", streaming=True)
        for number, row in enumerate(rows):
            yield _text_of(row, f"hf:{source}: row {number}")
    except (OSError, ValueError) as error:  # what datasets raises for a missing set, split, column or connection
        raise DataError(
            "the data set cannot be loaded",
            where=f"hf:{source}",
            got=f"{type(error).__name__}: {error}",
            hint="check the name and the network, or download it and give the folder: hf:PATH",
        ) from error


BY_SUFFIX: Mapping[str, Callable[[Path, Counter[str]], Iterator[str]]] = {
    ".txt": text_pieces,
    ".jsonl": jsonl_texts,
    ".parquet": parquet_texts,
}


def decoded(raw: bytes, counts: Counter[str]) -> str:
    """UTF-8 text; what is not UTF-8 becomes U+FFFD and is counted."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "replace")
        counts["repaired: invalid UTF-8"] += text.count("\ufffd") - raw.count("\ufffd".encode())
        return text


def read(path: Path) -> bytes:
    """The bytes of a file, or a DataError that names it."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> DataError:
    return DataError("the file cannot be read", where=str(path), got=error.strerror)


def _is_string(kind: object) -> bool:
    return str(kind) in ("string", "large_string")


def _text_of(record: Any, where: str) -> str:
    if isinstance(record, Mapping):
        for name in TEXT_FIELDS:
            if isinstance(text := record.get(name), str):
                # JSON can write lone surrogates, UTF-8 cannot
                return text if text.isascii() else text.encode("utf-8", "replace").decode()
    raise DataError(
        "a record has no text",
        where=where,
        got=f"fields {list(record)}" if isinstance(record, Mapping) else type(record).__name__,
        allowed=f"an object with a string named {' or '.join(TEXT_FIELDS)}",
    )
