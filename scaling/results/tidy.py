"""What a process that was killed at the wrong moment leaves behind, and who removes it: the next launch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from scaling.errors import StoreError
from scaling.files import plain_entries, sweep_temporary
from scaling.records import read_record
from scaling.results.owner import Owner
from scaling.results.store import FOLDERS, Store

Keep = Literal["weights", "none"]


def tidy_run(store: Store, run_id: str, *, keep: Keep) -> None:
    """Remove the checkpoints of a finished run, and with `keep` none its weights too."""
    for path in plain_entries(store.checkpoints(run_id)):
        if (path.suffix in (".pt", ".tmp", ".bad") or keep == "none") and (path.is_symlink() or not path.is_dir()):
            path.unlink(missing_ok=True)


def sweep_run(store: Store, run_id: str, *, keep: Keep) -> None:
    """Remove what a killed worker left of a run: temporary files, and the checkpoints of one that is finished. A worker
    that logged `completed` has itself kept or removed the weights.
    """
    folder = store.folder(run_id)
    for part in (folder, *(folder / name for name in FOLDERS)):
        sweep_temporary(part)
    if not plain_entries(store.checkpoints(run_id)) or not store.has_result(run_id):
        return
    newest = store.newest(run_id)
    completed = newest is not None and newest.last_record().get("event") == "completed"
    if completed or (newest is not None and newest.owner.alive() is False):
        tidy_run(
            store, run_id, keep="weights" if completed else keep
        )  # a worker that completed has kept what it should


def sweep_store(store: Path) -> None:
    """Remove the temporary files that killed processes left beside the runs of a store."""
    data = store / "data"
    trunks = [path for path in plain_entries(store / "trunks") if path.is_dir() and not path.is_symlink()]
    for folder in (store, data, data / "sources", data / "tokenizers", *trunks):
        sweep_temporary(folder)


def sweep_launches(folder: Path) -> None:
    """Remove what killed launches of a sweep left in `folder`: temporary files, and who they were."""
    for part in (folder, *(path for path in plain_entries(folder) if path.is_dir() and not path.is_symlink())):
        sweep_temporary(part)
        for path in part.glob("launcher-*.json"):
            if not _lives(path):
                path.unlink(missing_ok=True)
        for path in part.glob("runs-*.json"):  # of 0.1, one for each launcher
            if not path.with_name(path.name.replace("runs-", "launcher-")).exists():
                path.unlink(missing_ok=True)


def _lives(launcher: Path) -> bool:
    """Whether the process that a launcher file names may live; one that says nothing does not."""
    try:
        owner = Owner.from_json(read_record(launcher).values)
    except FileNotFoundError:
        return False
    except (StoreError, TypeError):
        return False
    return owner.problem is None and owner.alive() is not False
