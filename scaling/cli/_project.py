"""The project of a verb, whose messages go to standard error."""

from __future__ import annotations

from pathlib import Path

from scaling.cli._screen import say
from scaling.project import Listener, Project


class Spoken(Listener):
    """Says every message on standard error."""

    def message(self, text: str) -> None:
        """A sentence for a person."""
        say(text)


def open_project(sweep: Path, root: Path | None, listener: Listener | None = None) -> Project:
    """The sweep in a file. Raises SpecError."""
    return Project.open(sweep, root, listener=listener or Spoken())
