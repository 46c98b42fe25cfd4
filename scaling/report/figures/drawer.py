"""Figures drawn in a second process while this one goes on with laws and tables: drawing is half of a report's time.

A drawing goes as a pickle in a file whose path is a line on the standard input of
`python -m scaling.report.figures.drawer`; the picture comes back in the same way. Paths are short, so that neither
process waits for the other to read.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.report.figures.rendering import Rendered, render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NOT_PICKLED = (pickle.PicklingError, AttributeError, TypeError)  # raised of a function that is no module's own


class Drawer:
    """Draws what it is given, in a second process where there is a second core; a context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._asked = 0

    def __enter__(self) -> Drawer:
        if (os.cpu_count() or 1) > 1:
            self._folder = tempfile.TemporaryDirectory()
            command = [sys.executable, "-P", "-m", "scaling.report.figures.drawer"]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._folder.cleanup()

    def begin(self, name: str, draw: Callable[[], Figure], lines: Sequence[str]) -> Callable[[], Rendered]:
        """Begin to draw a figure (see `render`). What is returned waits for the picture; it is called in the order of
        `begin`, once. A drawing that cannot be sent to another process is made in this one, when it is called.
        """
        here = partial(render, name, draw, lines)
        if self._process is None or self._process.stdin is None:
            return here
        self._asked += 1
        path = Path(self._folder.name) / str(self._asked)
        try:
            path.write_bytes(pickle.dumps(here))
            self._process.stdin.write(f"{path}\n".encode())
            self._process.stdin.flush()
        except (*_NOT_PICKLED, BrokenPipeError):
            return here
        return partial(self._picture, here)

    def _picture(self, here: Callable[[], Rendered]) -> Rendered:
        assert self._process is not None
        assert self._process.stdout is not None
        path = self._process.stdout.readline().decode().rstrip("\n")
        if not path:
            raise RuntimeError(f"the process that draws figures ended with status {self._process.wait()}")
        answer: Rendered | Exception | None = pickle.loads(Path(path).read_bytes())
        if isinstance(answer, Exception):
            raise answer
        return answer or here()


def main() -> None:
    """Draw what the lines of standard input name, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one ends it
    paths, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        asked = Path(line.rstrip("\n"))
        made = asked.with_suffix(".made")
        made.write_bytes(pickle.dumps(_made(asked)))
        paths.write(f"{made}\n")
        paths.flush()


def _made(asked: Path) -> Rendered | Exception | None:
    """The picture, its error, or None for a function that only the asking process has, such as a notebook's."""
    try:
        draw: Callable[[], Rendered] = pickle.loads(asked.read_bytes())
    except (ImportError, AttributeError):
        return None
    try:
        return draw()
    # Any error of one figure: the report names it and goes on.
    except Exception as error:  # noqa: BLE001
        return error


if __name__ == "__main__":
    main()
