"""A corpus: documents in a fixed order, and a cheap fingerprint of where they come from.

Four kinds, told apart by the name a sweep gives: `python-packages`, `python-stdlib`, `hf:OWNER/NAME`, and a path. A
document goes to the validation part when the hash of its text says so: the split depends on no order, machine or
seed, and a text that occurs twice is never in both parts.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scaling.data import python_files, readers
from scaling.errors import DataError
from scaling.run import DataRef

BUILT_IN = {"python-packages": python_files.installed_packages, "python-stdlib": python_files.standard_library}
VALIDATION_PERCENT = 4


@dataclass(frozen=True)
class Document:
    """One cleaned text and the part it belongs to."""

    text: str
    held_out: bool


@dataclass(frozen=True)
class Corpus:
    """Documents that can be walked more than once.

    `fingerprint` changes when the sources change (file names, sizes, times; package versions) and costs a walk over
    the file list. `versions` names the packages that were found.
    """

    name: str
    fingerprint: str
    versions: Mapping[str, str]
    _texts: Callable[[Counter[str]], Iterator[str]] = field(repr=False)

    def documents(self, counts: Counter[str] | None = None) -> Iterator[Document]:
        """Every document in the corpus' own order. `counts` receives what was dropped and what was repaired.

        NUL separates documents in the byte tokenizer and is removed; bytes that are not UTF-8 become U+FFFD.

        Raises:
            DataError: a source cannot be read or has no text in it.
        """
        counts = Counter() if counts is None else counts
        for raw in self._texts(counts):
            text = raw.replace("\0", "") if "\0" in raw else raw
            counts["repaired: NUL characters"] += len(raw) - len(text)
            if text.strip():
                yield Document(text, is_held_out(text))
            else:
                counts["dropped: empty"] += 1


def is_held_out(text: str) -> bool:
    """Whether the text is in the validation part: `VALIDATION_PERCENT` of all texts, by their SHA-256."""
    digest = hashlib.sha256(text.encode()).digest()
    return int.from_bytes(digest[:8], "big") % 100 < VALIDATION_PERCENT


def open_corpus(name: str, *, root: Path) -> Corpus:
    """The corpus a sweep names; relative paths start at `root`. Nothing is read but the list of files.

    Raises:
        DataError: no such path, or no file in the folder that can be read.
    """
    if name in BUILT_IN:
        return _built_in(name)
    if name.startswith("hf:"):
        return _hugging_face(name, root)
    return _path(name, root)


def missing_packages(ref: DataRef) -> list[str]:
    """The packages that a built-in corpus of `ref` needs and that are not installed; none for other corpora."""
    named = {ref.corpus, *(path for _, path in ref.validation or ())}
    return python_files.missing_packages() if "python-packages" in named else []


def _built_in(name: str) -> Corpus:
    packages = BUILT_IN[name]()
    files = [
        path
        for _, (_, folder) in sorted(packages.items())
        for path in _walk(folder, (".py",), skip=python_files.SKIPPED_FOLDERS)
        if python_files.is_source(path)
    ]
    versions = {package: version for package, (version, _) in packages.items()}
    return Corpus(name, _fingerprint(name, versions, files), versions, lambda counts: python_files.texts(files, counts))


def _path(name: str, root: Path) -> Corpus:
    path = root / Path(name).expanduser()
    if not path.exists():
        raise DataError(
            "there is no such corpus",
            where=f"data: {name}",
            got=str(path),
            allowed=f"{', '.join(BUILT_IN)}, hf:OWNER/NAME, a file or folder of {' '.join(readers.BY_SUFFIX)}",
        )
    files = list(_walk(path, tuple(readers.BY_SUFFIX))) if path.is_dir() else [path]
    if not files or files[0].suffix not in readers.BY_SUFFIX:
        raise DataError("nothing here can be read as text", where=str(path), allowed=" ".join(readers.BY_SUFFIX))

    def texts(counts: Counter[str]) -> Iterator[str]:
        for file in files:
            yield from readers.BY_SUFFIX[file.suffix](file, counts)

    return Corpus(name, _fingerprint(name, {}, files), {}, texts)


def _hugging_face(name: str, root: Path) -> Corpus:
    """`hf:OWNER/NAME[:CONFIG][@REVISION]`, or `hf:` and a local folder in a layout that `datasets` understands.

    A data set on the hub is taken to stay as it is under its name and revision; a local folder is fingerprinted file
    by file.
    """
    source, _, revision = name.removeprefix("hf:").partition("@")
    source, _, config = source.partition(":")
    folder = root / Path(source).expanduser()
    files = list(_walk(folder, ("",))) if folder.is_dir() else []
    if files:
        source = str(folder)
    rows = lambda counts: readers.hugging_face_texts(source, config or None, revision or None)  # noqa: E731
    return Corpus(name, _fingerprint(name, {}, files), {}, rows)


def _walk(folder: Path, suffixes: tuple[str, ...], skip: frozenset[str] = frozenset()) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f not in skip)
        yield from (Path(here, f) for f in sorted(files) if f.endswith(suffixes) and not f.startswith("."))


def _fingerprint(name: str, versions: Mapping[str, str], files: list[Path]) -> str:
    digest = hashlib.sha256(json.dumps([name, dict(versions)]).encode())
    for path in files:
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
