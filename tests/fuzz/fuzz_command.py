"""The command in this process, held to what every case must keep: an exit status, no traceback, no hang, no write
elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings

from scaling.cli import main

CASES = int(os.environ.get("SCALING_FUZZ_CASES", "0"))  # make test-long asks for more
LIMIT_S = 300  # a case that takes longer hangs; the slowest takes seconds, on a busy machine a minute
STATUSES = (0, 1, 2, 75)  # 75: `scaling work` leaves runs to others
UNEXPECTED = ("Traceback (most recent call last)", "should not have, and it is not your mistake")
_ELSEWHERE = (os.devnull, str(Path(tempfile.gettempdir()) / "scaling-import-"))  # a folder that `import` removes again


def cases(share: float, *, least: int) -> settings:
    """How many cases a test has: its share of all in the long run, the same `least` ones in `make test`."""
    return settings(
        max_examples=max(least, round(CASES * share)),
        derandomize=not CASES,
        database=None,
        deadline=None,
        phases=(Phase.explicit, Phase.generate) if not CASES else (Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


class Hang(BaseException):
    """A command took longer than `LIMIT_S`."""


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    status: int
    out: str
    err: str


class Writes:
    """Every path that this process opens for writing, makes, renames or removes, while it listens."""

    def __init__(self) -> None:
        self.paths: list[str] | None = None
        sys.addaudithook(self._hear)

    @contextlib.contextmanager
    def listening(self) -> Iterator[list[str]]:
        self.paths = heard = []
        try:
            yield heard
        finally:
            self.paths = None

    def _hear(self, event: str, arguments: tuple) -> None:
        if self.paths is None:
            return
        if event == "open":
            path, _, flags = arguments
            if (
                isinstance(path, str | bytes)
                and isinstance(flags, int)
                and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            ):
                self.paths.append(os.fsdecode(path))
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.rename", "os.link", "os.symlink"):
            places = (
                arguments[:2]
                if event in ("os.rename", "os.link")
                else arguments[1:2]
                if event == "os.symlink"
                else arguments[:1]
            )
            self.paths += [os.fsdecode(path) for path in places if isinstance(path, str | bytes | os.PathLike)]


WRITES = Writes()


def run(*arguments: str, root: Path) -> Answer:
    """Run the command in `root` and check what holds for every answer."""
    out, err = io.StringIO(), io.StringIO()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}
    before, started = Path.cwd(), time.monotonic()
    os.chdir(root)
    signal.signal(signal.SIGALRM, _hang)
    signal.alarm(LIMIT_S)
    sys.dont_write_bytecode = True
    try:
        with WRITES.listening() as written, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(list(arguments))
    except Hang:
        raise AssertionError(f"{arguments}: longer than {LIMIT_S} s") from None
    finally:
        signal.alarm(0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.chdir(before)
    answer = Answer(status, out.getvalue(), err.getvalue())
    said = f"{arguments}: status {status} after {time.monotonic() - started:.1f} s\n{answer.err[-3000:]}"
    assert status in STATUSES, said
    assert not any(words in answer.out + answer.err for words in UNEXPECTED), said
    assert "\x1b" not in answer.err, said
    if "--json" in arguments and "--help" not in arguments and (status == 0 or answer.out):
        assert isinstance(json.loads(answer.out, parse_constant=_refuse), dict), said
    elsewhere = [path for path in written if not _inside(path, root)]
    assert not elsewhere, f"{said}\nwritten: {elsewhere[:5]}"
    return answer


def _inside(path: str, root: Path) -> bool:
    place = Path(os.path.normpath(root / path))
    return place.is_relative_to(root) or str(place).startswith(_ELSEWHERE)


def _hang(number: int, frame: object) -> None:
    raise Hang


def _refuse(name: str) -> None:
    raise AssertionError(f"{name} in JSON")
