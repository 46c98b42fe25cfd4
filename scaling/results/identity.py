"""Which store this is: `<store>/store.json`, a random id that every launch remembers.

A store that is not mounted, was emptied or exchanged has no id or another one, and is recognised before a table is
overwritten with what it does not hold. Stores of 0.1 have none until the next launch.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

from scaling.errors import DamagedRecord, StoreError
from scaling.files import create_exclusive
from scaling.records import read_record, sealed, set_aside

NAME = "store.json"


def identify(store: Path, *, remembered: str | None) -> str:
    """The id of the store, written now where it has none; the caller holds the store's launch lock.

    Args:
        store: its folder, which exists.
        remembered: the id that the last launch on this path saw, which a store that lost its file gets back.
    """
    path = store / NAME
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    except DamagedRecord:
        set_aside(path, _read)
    create_exclusive(path, sealed({"store_id": remembered or secrets.token_hex(8)}))
    return _read(path)


def check_store(store: Path, run_ids: Iterable[str], *, remembered: str | None, hint: str) -> None:
    """Refuse a store that is not the one a launch remembers.

    Args:
        store: its folder.
        run_ids: of the launch; one of them in a store whose own file is missing or damaged says that it is the one.
        remembered: the id that the launch saw; None: a launch of 0.1, which saw none.
        hint: what to do where the store is gone on purpose.

    Raises:
        StoreError: it is not there, or another one is.
    """
    try:
        store_id = _read(store / NAME)
    except (FileNotFoundError, DamagedRecord):
        store_id = None
    if store_id == remembered and store_id is not None:
        return
    if store_id is not None and remembered is not None:
        raise StoreError(
            "another store lies here than the one that was launched on", where=str(store), got=f"store {store_id}",
            allowed=f"store {remembered}", hint=f"mount the one that was launched on; or {hint}",
        )  # fmt: skip
    if not any(os.path.lexists(store / run_id) for run_id in run_ids):
        what = "the store that was launched on is not here: moved, emptied, or not mounted"
        raise StoreError(what, where=str(store), hint=f"mount it, or move it back; or {hint}")


def _read(path: Path) -> str:
    store_id = read_record(path).values.get("store_id")
    if not isinstance(store_id, str) or not store_id:
        raise DamagedRecord("the store does not say which one it is", where=str(path), got=store_id)
    return store_id
