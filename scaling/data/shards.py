"""Prepared data: the tokens of a corpus, stored under a hash of their content.

`prepare` tokenizes once per store. Two keys are kept apart. The *hash* names the content (tokens, tokenizer,
validation windows): a result records it, and the same text prepared twice, or elsewhere, has the same one. The
*fingerprint* names the sources as the file system shows them; it costs a walk over the file list and finds the hash
again without reading any text.

    <store>/data/<hash>/train.bin  validation.bin  validation.documents.npy  tokenizer.json  description.json
    <store>/data/sources/<fingerprint>.json     which hash these sources gave
    <store>/data/tokenizers/<name>-<key>.json   trained vocabularies

A folder is built under a temporary name and renamed, so a reader sees all of it or nothing; a lock on the fingerprint
lets one of many processes do the work and ends with its process. `prepare` gives a damaged folder a name that ends in
`.bad` and builds it again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scaling.data import building
from scaling.data.corpus import Corpus, open_corpus
from scaling.data.tokenizer import load_tokenizer
from scaling.errors import DamagedRecord, DataError, StoreError
from scaling.files import JsonObject, write_atomic
from scaling.locks import hold, unwritable
from scaling.records import read_record, sealed, set_aside
from scaling.run import DataRef

MAIN = "validation"
_SET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
CHECKED_BLOCKS = 64  # of each file on opening: all of it up to 1 GiB, an even sample above


@dataclass(frozen=True)
class ValidationSet:
    """Validation tokens, with the documents they come from.

    `window_tokens` is how many of them are predicted. A document's bytes are its UTF-8 text and one for the separator
    that ends it.
    """

    name: str
    tokens: NDArray[np.unsignedinteger]
    document_starts: NDArray[np.int64]  # [documents] index of the first token
    document_bytes: NDArray[np.int64]  # [documents]
    window_tokens: int


@dataclass(frozen=True)
class TokenData:
    """Prepared data, mapped from the disk. `describe` is description.json: versions, counts, what was dropped."""

    hash: str
    folder: Path
    vocab_size: int
    train: NDArray[np.unsignedinteger]
    validation: Mapping[str, ValidationSet]
    describe: Mapping[str, Any]

    @property
    def train_tokens(self) -> int:
        """Tokens in one epoch."""
        return len(self.train)


def prepare(ref: DataRef, *, root: Path, store: Path) -> TokenData:
    """The prepared data of `ref`, built now where the store has none.

    Args:
        ref: corpus, tokenizer, validation tokens and further validation sets.
        root: where relative paths start.
        store: the store's folder.

    Raises:
        DataError: a corpus that is missing, unreadable, or too small for the validation windows; an unknown tokenizer.
        StoreError: the store cannot be written.
    """
    sources = _open_sources(ref, root)
    key = _fingerprint(ref, sources)
    try:
        if found := _lookup(store, key):
            return found
        (store / "data" / "sources").mkdir(parents=True, exist_ok=True)
        with hold(store / "data" / "sources" / f"{key}.lock"):
            return _lookup(store, key) or _build(ref, sources, key, root=root, store=store)
    except OSError as error:
        raise unwritable(store, error) from error


def find_data(ref: DataRef, *, root: Path, store: Path) -> TokenData | None:
    """The prepared data of `ref` as its sources are now, where the store has it; None where it has to be prepared.

    Raises:
        DataError: a corpus that is missing, or an unknown tokenizer.
    """
    return _lookup(store, _fingerprint(ref, _open_sources(ref, root)))


def open_data(store: Path, hash: str) -> TokenData:
    """The prepared data called `hash`; only reads, and compares the files with the hash.

    Raises:
        StoreError: there is no such data, or it is not what the hash says.
    """
    folder = store / "data" / hash
    try:
        description = _checked(folder, hash)
    except OSError as error:
        hint = "scaling launch prepares it"
        raise StoreError("no such prepared data", where=str(folder), got=str(error), hint=hint) from error
    return _open(folder, hash, description)


def versions_of(store: Path, hash: str) -> Mapping[str, Mapping[str, str]]:
    """The versions of the packages that the prepared data `hash` was made from, by part; none where it is not there."""
    try:
        versions = read_record(store / "data" / hash / "description.json").values.get("versions", {})
    except (FileNotFoundError, DamagedRecord):
        return {}
    return versions if isinstance(versions, dict) else {}


def _checked(folder: Path, hash: str) -> JsonObject:
    """The description of the data `hash` in `folder`. Raises DamagedRecord where it is not what the hash says."""
    hint = f"scaling launch sets it aside and prepares it again; or remove {folder}"
    try:
        description = read_record(folder / "description.json").values
        content = description["content"]
        files = content.get("files", {}).items()
        changed = any(building.changed(folder / name, recorded, CHECKED_BLOCKS) for name, recorded in files)
    except DamagedRecord as error:
        raise DamagedRecord("prepared data is damaged", where=str(folder), got=error.sentence, hint=hint) from None
    except FileNotFoundError:
        if not folder.exists():
            raise
        what = "prepared data has no description"
        raise DamagedRecord(what, where=str(folder), hint=hint) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise DamagedRecord("prepared data is damaged", where=str(folder), got=str(error), hint=hint) from None
    if changed or content_hash(content) != hash:
        raise DamagedRecord("prepared data does not match its hash", where=str(folder), hint=hint)
    return description


def content_hash(content: Mapping[str, Any]) -> str:
    """First 16 hex digits of the SHA-256 of the canonical JSON of what a description calls its content."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _open_sources(ref: DataRef, root: Path) -> dict[str, Corpus]:
    for name, _ in ref.validation or ():
        if name == MAIN or not _SET_NAME.fullmatch(name):
            raise DataError(
                "not a name for a further validation set",
                where="data.validation",
                got=name,
                allowed=f"letters, digits, - and _, up to 64; not {MAIN!r}, which is the held-out part of the corpus",
            )
    return {name: open_corpus(path, root=root) for name, path in (("train", ref.corpus), *(ref.validation or ()))}


def _fingerprint(ref: DataRef, sources: Mapping[str, Corpus]) -> str:
    prints = {name: corpus.fingerprint for name, corpus in sources.items()}
    named = [building.FORMAT, prints, ref.tokenizer, ref.validation_tokens]
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:32]


def _named(store: Path, key: str) -> Path | None:
    """The folder that the sources `key` gave, whether or not it is there; None where nothing says so."""
    try:
        name = read_record(store / "data" / "sources" / f"{key}.json").values["hash"]
    except (FileNotFoundError, DamagedRecord, KeyError):
        return None
    return store / "data" / name if isinstance(name, str) else None


def _lookup(store: Path, key: str) -> TokenData | None:
    folder = _named(store, key)
    if folder is None or not folder.exists():
        return None
    try:
        return open_data(store, folder.name)
    except DamagedRecord:
        return None


def _build(ref: DataRef, sources: Mapping[str, Corpus], key: str, *, root: Path, store: Path) -> TokenData:
    data = store / "data"
    train_key = hashlib.sha256(sources["train"].fingerprint.encode()).hexdigest()[:16]
    tokenizer = load_tokenizer(
        ref.tokenizer,
        root=root,
        cache=data / "tokenizers" / f"{ref.tokenizer.replace(':', '-')}-{train_key}.json",
        documents=lambda: (d.text for d in sources["train"].documents() if not d.held_out),
    )
    with building.folder(data, key) as folder:
        content, counted = building.write(folder, ref, sources, tokenizer)
        description = {
            "corpus": ref.corpus,
            "further_validation": dict(ref.validation or ()),
            "versions": {name: dict(corpus.versions) for name, corpus in sources.items() if corpus.versions},
            "content": content,
            **counted,
        }
        write_atomic(folder / "description.json", sealed(description))
        hash_now = content_hash(content)
        _make_way(data / hash_now)
        building.publish(folder, data / hash_now)
    write_atomic(data / "sources" / f"{key}.json", sealed({"hash": hash_now}))
    return open_data(store, hash_now)


def _make_way(folder: Path) -> None:
    """Set aside a damaged folder of that name."""
    try:
        _checked(folder, folder.name)
    except FileNotFoundError:
        pass
    except DamagedRecord:
        set_aside(folder, lambda moved: _checked(moved, folder.name))


def _open(folder: Path, hash: str, description: Mapping[str, Any]) -> TokenData:
    content = description["content"]
    dtype = np.dtype(content["dtype"])

    def tokens(name: str) -> NDArray[np.unsignedinteger]:
        return np.memmap(folder / f"{name}.bin", dtype=dtype, mode="r")

    def validation(name: str) -> ValidationSet:
        starts, sizes = np.load(folder / f"{name}.documents.npy", allow_pickle=False)
        return ValidationSet(name, tokens(name), starts, sizes, content["validation_tokens"])

    sets = {name: validation(name) for name in (MAIN, *sorted(description["further_validation"]))}
    return TokenData(hash, folder, content["vocab_size"], tokens("train"), sets, description)
