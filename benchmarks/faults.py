"""Hundreds of faults in full runs, and what came of them: `nice python benchmarks/faults.py [--count N] [--out FILE]`.

One small sweep (4 runs, a checkpoint at every step) is launched through the command line in forked processes of this
one; training is real and in the same process. A fault is injected, `status` and `collect` look at what is left, and
`launch` is called again until it has nothing to do. Every loss must then be that of the undisturbed sweep to the bit,
every result that was good before must still have the same bytes, and nothing may be left over.

    crash          killed at one of the points that the one hook in scaling.files names, once or twice
    disk full      ENOSPC or EIO at such a point; a real tmpfs of every size, where mounting is allowed
    damage         bytes of a record or of data flipped, cut, inserted, zeroed at a random offset
    link           a record or a folder of a run replaced by a symbolic link
    clock          all times of all files far in the future or the past, the process's clock jumping
    two writers    two launches at once, one of them killed or not

Lost: a good result changed or vanished. Invented: a loss that is not that of the undisturbed sweep. Traceback: an
exception that nobody handled. Hang: a command that took longer than `TIMEOUT_S`. Unfinished: a run without its loss in
the end. A damaged claim is made an hour old first: until ten minutes have passed its owner may be alive, by design.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import scaling.files as files
from scaling.cli import main as scaling_cli
from scaling.project.opened import OpenSweep
from scaling.results.launches import Launch
from scaling.results.status import RunStatus
from scaling.results.store import Store
from scaling.runners.scheduler import Cancelled, JobEnvironment, JobsView, Order, Outcome, Scheduler, Work

TIMEOUT_S = 120.0
UNEXPECTED = ("Traceback (most recent call last)", "something failed that should not have")
SWEEP = """\
sweep: faults
question: Is anything lost?
data: {corpus: corpus.txt, tokenizer: "bpe:300", validation_tokens: 500}
grid:
  kind: points
  points:
    - {shape: {layers: 1, width: 8, heads: 1, ff_width: 24}, tokens: 384}
    - {shape: {layers: 1, width: 12, heads: 1, ff_width: 32}, tokens: 640}
families:
  dense: {parameterization: dense, optimizer: muon, lr: 0.02}
  low_rank: {parameterization: low_rank, optimizer: spectron, lr: 0.05, other_lr: 0.02, rank_ratio: 0.25}
training: {sequence_length: 32, batch_tokens: 64, keep: none}
"""


class InProcess(Scheduler):
    """Trains in the process that launches."""

    keys = frozenset[str]()
    attached = True
    poll_seconds = 0.01

    def scripts(self, work: Sequence[Work], order: Order) -> list[str]:
        return []

    def submit(self, work: Sequence[Work], order: Order) -> Outcome:
        from scaling.runners.worker import StopFlag, Worker, WorkList

        Worker(Store(self.store), WorkList.read(order.worklist), StopFlag()).work()
        return Outcome(tuple(run.run_id for run in work), {}, ())

    def poll(self, run_ids: set[str]) -> JobsView:
        return JobsView()

    def cancel(self, run_ids: set[str]) -> Cancelled:
        return Cancelled()

    @classmethod
    def environment(cls) -> JobEnvironment | None:
        return None


@dataclass
class World:
    """One project folder and the processes that work in it."""

    root: Path
    log: Path = field(init=False)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = self.root.with_suffix(".log")
        (self.root / "sweeps").mkdir(parents=True)
        (self.root / "sweeps" / "faults.yaml").write_text(SWEEP)
        (self.root / "runner.yaml").write_text("runner: faults:InProcess\ndevice: cpu\n")
        (self.root / "corpus.txt").write_text(corpus())

    @property
    def scaling(self) -> Path:
        return self.root / ".scaling"

    @property
    def store(self) -> Store:
        return Store(self.scaling / "store")

    def start(self, *commands: Sequence[str], hook: Callable[[str], None] | None = None, jump_s: float = 0.0) -> int:
        """A forked process that runs commands, one after another; its pid. It exits with the last one's status."""
        sys.stdout.flush()
        if pid := os.fork():
            return pid
        code = 70
        try:
            handle = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            os.chdir(self.root)
            files.fault_hook = hook or (lambda point: None)
            real = time.time
            time.time = lambda: real() + jump_s
            for command in commands:
                code = scaling_cli(list(command))
        except BaseException:  # noqa: BLE001  (counted)
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def wait(self, pid: int) -> int:
        """The exit status, negative for a signal."""
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.005)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        self.problems.append("hang")
        return -1

    def launch(self, hook: Callable[[str], None] | None = None, *, jump_s: float = 0.0) -> int:
        return self.wait(self.start(LAUNCH, hook=hook, jump_s=jump_s))

    def results(self) -> dict[str, float]:
        """Run id -> loss, of every result that is believed."""
        found = {
            path.parent.name: self.store.result(path.parent.name) for path in self.scaling.glob("store/*/result.json")
        }
        return {run_id: result.loss_nats or 0.0 for run_id, result in found.items() if result is not None}

    def good_bytes(self) -> dict[Path, bytes]:
        folder = self.scaling / "store"
        return {path: path.read_bytes() for run_id in self.results() if (path := folder / run_id / "result.json")}

    def conclude(self, reference: dict[str, float], before: dict[Path, bytes]) -> None:
        """Look, finish, and compare."""
        looks = [(verb, "sweeps/faults.yaml") for verb in ("status", "collect")]
        code = self.wait(self.start(*looks, LAUNCH))
        code = self.launch() if code else 0
        losses = self.results()
        if any(loss != reference.get(run_id) for run_id, loss in losses.items()):
            self.problems.append("invented")
        if any(not path.exists() or path.read_bytes() != content for path, content in before.items()):
            self.problems.append("lost")
        if losses.keys() != reference.keys() or code != 0:
            self.problems.append("unfinished")
        left = [p for p in self.scaling.rglob("*") if p.name.endswith(".tmp") or p.name.startswith("launcher-")]
        left += [path for path in self.scaling.glob("store/*/checkpoints/*") if not path.name.endswith(".bad")]
        if left:
            self.problems.append(f"left over: {left[0].name}")
        log = self.log.read_text(errors="replace")
        self.problems += ["traceback" for words in UNEXPECTED if words in log]


LAUNCH = ("launch", "sweeps/faults.yaml", "--runner", "runner.yaml", "--yes")


def corpus() -> str:
    """Text of 200 documents."""
    rng = random.Random(0)
    words = ["scale", "law", "rank", "token", "loss", "dense", "model", "budget"]
    return "\n\n".join(" ".join(rng.choices(words, k=60)) for _ in range(200)) + "\n"


class Counting:
    """Counts the points that a hook hears, and acts at some of them."""

    def __init__(self, act: Callable[[str], None], at: set[int], kinds: tuple[str, ...] = ("",)) -> None:
        self.act, self.at, self.kinds, self.heard = act, at, kinds, 0

    def __call__(self, point: str) -> None:
        if point.startswith(self.kinds):
            self.heard += 1
            if self.heard in self.at:
                self.act(point)


def die(point: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse(number: int) -> Callable[[str], None]:
    def act(point: str) -> None:
        raise OSError(number, os.strerror(number), "/a/disk")

    return act


DISK = ("write", "flush", "append", "link ", "replace ")


class Faults:
    """Every kind of fault, drawn at random."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.rng = folder, random.Random(seed)
        self.number = 0
        world = self.world()
        points = world.root / "points"

        def note(point: str) -> None:
            with points.open("a") as file:
                file.write(point + "\n")

        with contextlib.chdir(world.root):  # here, so that every forked process has what it imports
            assert scaling_cli([*LAUNCH, "--root", str(world.root)]) == 0
        shutil.rmtree(world.scaling)
        assert world.launch(hook=note) == 0, world.log.read_text()
        self.reference = world.results()
        assert len(self.reference) == 4, self.reference
        self.points = points.read_text().splitlines()
        self.finished = world.root

    def world(self) -> World:
        self.number += 1
        return World(self.folder / f"world-{self.number}")

    def done(self) -> World:
        """A world in which the sweep is finished, copied from the first one."""
        world = self.world()
        shutil.copytree(self.finished / ".scaling", world.scaling, symlinks=True)
        shutil.copytree(self.finished / "results", world.root / "results")
        for path in world.scaling.glob("launches/*/*.json"):  # the frozen store path is the first world's
            path.unlink()
        assert world.launch() == 0, world.log.read_text()
        return world

    def at_random(self) -> World:
        """A finished world, or one whose launch was killed somewhere."""
        if self.rng.random() < 0.5:
            return self.done()
        world = self.world()
        world.launch(hook=Counting(die, {self.rng.randrange(1, len(self.points))}))
        return world

    def crash(self) -> tuple[str, World]:
        world, times = self.world(), self.rng.choice((1, 1, 2))
        for _ in range(times):
            world.launch(hook=Counting(die, {self.rng.randrange(1, len(self.points) // times)}))
        world.conclude(self.reference, world.good_bytes())
        return "crash" if times == 1 else "crash, twice", world

    def disk_full(self) -> tuple[str, World]:
        world, number = self.world(), self.rng.choice((errno.ENOSPC, errno.ENOSPC, errno.EIO))
        first = self.rng.randrange(1, sum(point.startswith(DISK) for point in self.points))
        long = self.rng.choice((1, 5, 10_000))
        world.launch(hook=Counting(refuse(number), set(range(first, first + long)), DISK))
        world.conclude(self.reference, world.good_bytes())
        return f"{errno.errorcode[number]} at a write", world

    def small_disk(self) -> tuple[str, World] | None:
        world, size = self.world(), self.rng.randrange(4, 1200, 4) * 1024
        world.scaling.mkdir()
        if not mount(world.scaling, size):
            return None
        try:
            world.launch()
            before = world.good_bytes()
            subprocess.run(["mount", "-o", "remount,size=64m", str(world.scaling)], check=True)
            world.conclude(self.reference, before)
        finally:
            subprocess.run(["umount", str(world.scaling)], check=True)
        return "tmpfs of 4 KB to 1.2 MB", world

    def damage(self) -> tuple[str, World]:
        world = self.at_random()
        kinds = {
            "run.json": "store/*/run.json", "result.json": "store/*/result.json",
            "claim": "store/*/attempts/????.json", "metrics": "store/*/attempts/*.jsonl",
            "checkpoint": "store/*/checkpoints/*.pt", "launch file": "launches/*/*.json",
            "work list": "launches/*/*/worklist.json", "store.json": "store/store.json",
            "description.json": "store/data/*/description.json", "data": "store/data/*/*.bin",
            "source": "store/data/sources/*.json", "vocabulary": "store/data/tokenizers/*.json",
        }  # fmt: skip
        here = {kind: found for kind, glob in kinds.items() if (found := sorted(world.scaling.glob(glob)))}
        if not here:
            world.conclude(self.reference, {})
            return "damage: nothing there yet", world
        kind = self.rng.choice(sorted(here))
        path = self.rng.choice(here[kind])
        before = world.good_bytes()
        path.write_bytes(self.damaged(path.read_bytes()))
        if kind == "claim":
            for old in path.parent.iterdir():
                os.utime(old, (time.time() - 3600,) * 2)
        changed = {p: content for p, content in before.items() if p != path}
        world.conclude(self.reference, changed)
        return f"damage: {kind}", world

    def damaged(self, content: bytes) -> bytes:
        at, long = self.rng.randrange(max(1, len(content))), self.rng.randrange(1, 50)
        noise = self.rng.randbytes(long)
        return self.rng.choice(
            (
                content[:at],
                content[:at] + bytes([content[at] ^ self.rng.randrange(1, 256)]) + content[at + 1 :]
                if content
                else b"x",
                content[:at] + noise + content[at:],
                content[:at] + bytes(long) + content[at + long :],
                b"",
            )
        )

    def link(self) -> tuple[str, World]:
        world = self.at_random()
        sentinel = world.root / "precious"
        sentinel.mkdir()
        for name in ("00000002-0001.pt", "0001.json", "file"):
            (sentinel / name).write_text("precious")
        runs = sorted(path.parent for path in world.scaling.glob("store/*/run.json"))
        before = world.good_bytes()
        if runs:
            run = self.rng.choice(runs)
            name = self.rng.choice(
                ("attempts", "checkpoints", "result.json", "run.json", "checkpoints/00000099-0001.pt")
            )
            path = run / name
            if path.is_dir():
                shutil.rmtree(path)
            path.parent.mkdir(exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(self.rng.choice((sentinel, sentinel / "file", sentinel / "nothing")))
            before.pop(run / "result.json", None)
        world.conclude(self.reference, before)
        if {path.read_text() for path in sentinel.iterdir()} != {"precious"} or len(list(sentinel.iterdir())) != 3:
            world.problems.append("followed a link")
        return "link", world

    def clock(self) -> tuple[str, World]:
        world = self.world()
        world.launch(hook=Counting(die, {self.rng.randrange(1, len(self.points))}), jump_s=self.rng.uniform(-1e9, 1e9))
        for path in world.scaling.rglob("*"):
            if path.is_file():
                then = max(0.0, time.time() + self.rng.choice((-1e9, -3600.0, 3600.0, 1e9)))
                os.utime(path, (then, then))
        world.conclude(self.reference, world.good_bytes())
        return "clock", world

    def two_writers(self) -> tuple[str, World]:
        world = self.world()
        kill = self.rng.random() < 0.5
        hook = Counting(die, {self.rng.randrange(1, len(self.points))}) if kill else None
        pids = [world.start(LAUNCH, hook=hook), world.start(LAUNCH)]
        for pid in pids:
            world.wait(pid)
        world.conclude(self.reference, world.good_bytes())
        return "two writers, one killed" if kill else "two writers", world


def mount(folder: Path, size: int) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    with contextlib.suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return False


SHARES = {"crash": 35, "disk_full": 15, "small_disk": 6, "damage": 24, "link": 8, "clock": 4, "two_writers": 8}


def kinds(count: int) -> Iterator[str]:
    for name, share in SHARES.items():
        yield from [name] * max(1, round(count * share / 100))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path, help="where to keep the folders of faults that went wrong")
    options = parser.parse_args()
    warm_up()
    rows: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as name:
        faults = Faults(Path(name), options.seed)
        for kind in kinds(options.count):
            outcome = getattr(faults, kind)()
            if outcome is None:
                print(f"{kind}: mounting is not allowed here", flush=True)
                continue
            label, world = outcome
            row = rows.setdefault(label, Counter())
            row["faults"] += 1
            row.update(set(world.problems))
            for problem in world.problems:
                print(f"{label}, fault {faults.number}: {problem}", flush=True)
            if world.problems and options.keep:
                shutil.copytree(world.root, options.keep / world.root.name, symlinks=True)
                shutil.copy(world.log, options.keep)
            shutil.rmtree(world.root)
            world.log.unlink()
        text = table(rows, asked=options.count, points=len(faults.points))
    print(text)
    if options.out:
        options.out.write_text(text)
    return int(any(row.total() > row["faults"] for row in rows.values()))


def warm_up() -> None:
    """Import once what every forked process needs; a checkpoint at every step; a table in place of the report."""
    import faults  # noqa: F401  (the scheduler's module, as the runner file names it)

    import scaling.cli.launch  # noqa: F401
    from scaling.project import launching, reporting
    from scaling.training.loop import train

    assert train.__kwdefaults__ is not None
    train.__kwdefaults__["checkpoint_seconds"] = 0.0

    def table_alone(opened: OpenSweep, launch: Launch, runs: Sequence[RunStatus]) -> None:
        reporting.write_table(opened, launch, runs)

    launching.report_on = table_alone  # type: ignore[assignment]


def table(rows: dict[str, Counter[str]], *, asked: int, points: int) -> str:
    names = ("faults", "lost", "invented", "traceback", "hang", "unfinished")
    total = sum((row for row in rows.values()), Counter[str]())
    other = sorted({name for row in rows.values() for name in row} - set(names))
    header = [*names, *other]
    lines = [f"| {label} | " + " | ".join(str(row[name]) for name in header) + " |" for label, row in rows.items()]
    lines.append("| all | " + " | ".join(str(total[name]) for name in header) + " |")
    return "\n".join(
        [
            "# Faults",
            "",
            f"`nice python benchmarks/faults.py --count {asked}`: a sweep of 4 runs whose undisturbed launch passes",
            f"{points} points where a fault can be injected. What a column counts is said at the top of the script.",
            "",
            "| fault | " + " | ".join(header) + " |",
            "|---|" + "---|" * len(header),
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
