"""Terminal output: tables and messages. Standard output holds the answer, standard error everything said on the
way.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scaling.checks import Check, by_severity
from scaling.files import SCHEMA_VERSION, JsonObject

PIPE_WIDTH = 160  # columns where standard output is no terminal: wide enough that no table is cut
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")  # but not tab, line feed
_STYLES = {"error": "bold red", "warning": "yellow", "info": "dim"}


def console(*, err: bool = False) -> Console:
    """A console of the terminal's width, or of `PIPE_WIDTH` where there is none."""
    stream = sys.stderr if err else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else PIPE_WIDTH, highlight=False, soft_wrap=False)


def printable(text: str) -> str:
    """Text from logs and records without the control characters that would steer a terminal: they are shown by name."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def say(message: str) -> None:
    """A message on standard error."""
    print(printable(message), file=sys.stderr, flush=True)  # noqa: T201


def print_json(document: JsonObject) -> None:
    """The one JSON object of a `--json` verb."""
    text = json.dumps({"schema_version": SCHEMA_VERSION, **document}, indent=1, allow_nan=False)
    print(text, flush=True)  # noqa: T201


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None, left: int = 1
) -> None:
    """A table on standard output; the first `left` columns are words, the others numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="bold")
    for at, name in enumerate(header):
        table.add_column(name, justify="left" if at < left else "right", no_wrap=at >= left)
    for row in rows:
        table.add_row(
            *(value if isinstance(value, Text) else Text("–" if value is None else str(value)) for value in row)
        )
    console().print(table)


def print_checks(checks: Iterable[Check]) -> None:
    """One line per check, the most severe first, each once."""
    screen = console()
    for check in by_severity(checks):
        label = Text(f"{check.severity}: ", style=_STYLES[check.severity])
        screen.print(label + Text(f"{check.message} [{check.code}]", style=""))
