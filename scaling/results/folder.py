"""The folder `results/<sweep>`: what it is called, and where its sweep file and its root lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ResultsFolder:
    """A folder of results and the root of its project."""

    path: Path
    root: Path

    @classmethod
    def of(cls, path: Path, root: Path | None = None) -> ResultsFolder:
        """The folder that is `path` or holds the file `path`.

        Args:
            path: a folder, or a file in it.
            root: the parent of the `results/` folder where left out, else the folder itself.
        """
        folder = path if path.is_dir() else path.parent
        above = folder.absolute().parent
        return cls(folder, root or (above.parent if above.name == "results" else folder))

    @property
    def name(self) -> str:
        """The sweep's name."""
        return self.path.absolute().name

    @property
    def sweep(self) -> Path:
        """Where its sweep file lies, if there is one."""
        return self.root / "sweeps" / f"{self.name}.yaml"
