"""The sweeps of a folder: which were launched, how much of them is finished, what was spent."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from scaling.errors import ScalingError
from scaling.files import JsonObject
from scaling.results.launches import last_launch
from scaling.results.store import Store
from scaling.sweeps.schema import load_sweep


@dataclass(frozen=True)
class ListedSweep:
    """One sweep, and its last launch.

    Attributes:
        file: None where it is gone and only launches are left.
        launch: number of the last launch; None where the sweep was never launched.
        launched: when, UTC, ISO 8601.
        runs, finished: of the last launch; finished ones have a result.
        device_hours, flops: of training, spent on the finished runs.
        problem: why the file or the launch cannot be read.
    """

    sweep: str
    file: Path | None
    launch: int | None = None
    launched: str | None = None
    runs: int | None = None
    finished: int | None = None
    device_hours: float | None = None
    flops: float | None = None
    problem: str | None = None

    def to_json(self) -> JsonObject:
        """The fields."""
        return asdict(self) | {"file": None if self.file is None else str(self.file)}


def list_sweeps(root: Path) -> list[ListedSweep]:
    """Every sweep file of `<root>/sweeps` (or of the root itself), by name, then sweeps of which only launches are
    left.
    """
    folder = root / "sweeps"
    files = sorted((folder if folder.is_dir() else root).glob("*.yaml"))
    listed = [_of_file(path, root) for path in files]
    names = {one.sweep for one in listed}
    launched = sorted(path.name for path in (root / ".scaling" / "launches").glob("*") if path.is_dir())
    return [*listed, *(_listed(name, None, root) for name in launched if name not in names)]


def _of_file(path: Path, root: Path) -> ListedSweep:
    try:
        name = load_sweep(path).sweep
    except ScalingError as error:
        return ListedSweep(path.stem, path, problem=f"{error.where}: {error.what}")
    return _listed(name, path, root)


def _listed(name: str, file: Path | None, root: Path) -> ListedSweep:
    try:
        launch = last_launch(root, name)
        if launch is None:
            return ListedSweep(name, file)
        store = Store(Path(launch.store))
        results = [result for run_id in launch.ids if (result := store.result(run_id)) is not None]
    except ScalingError as error:
        return ListedSweep(name, file, problem=f"{error.where}: {error.what}")
    hours = sum(result.device_seconds - (result.inherited_seconds or 0.0) for result in results) / 3600
    return ListedSweep(
        name,
        file,
        launch=launch.number,
        launched=launch.created,
        runs=len(launch.rows),
        finished=len(results),
        device_hours=hours,
        flops=sum(result.flops for result in results),
    )
