"""How the verbs grow with the store: `python benchmarks/store.py [--runs N] [--old REVISION] [--out FILE]`.

A sweep of N runs (10 shapes, dense and low rank, seeds) is planned, frozen, and its results are published without
training, in memory (`/dev/shm`), so that no disk is measured. Then `status`, `status --json`, `collect`, `collect`
again and `launch --dry-run` are run as processes, and a launch that a job continues is asked what it would submit to
SLURM where every run is open and was submitted 20 times. Each side is a checkout on PYTHONPATH, all on one store, in
turn; seconds are CPU time (user and system) of the process, the least of `REPEATS`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPEATS = 3
SUBMISSIONS = 20
AIMS = {"status": "2.5", "status --json": "2.5", "collect": "5"}
SWEEP = """
sweep: many
question: How fast?
data: {{corpus: corpus.jsonl, validation_tokens: 4k}}
grid:
  kind: tokens_per_param
  multiples: [10]
  ladder: [{shapes}]
families:
  dense: {{parameterization: dense, optimizer: adamw, lr: 0.01}}
  low_rank: {{parameterization: low_rank, optimizer: spectron, lr: 0.05, other_lr: 0.02, rank_ratio: 0.25}}
training: {{sequence_length: 64, batch_tokens: 256, seeds: [{seeds}]}}
"""
SHAPES = ", ".join(f"{{layers: {n}, width: {8 * n}, heads: 1, ff_width: {24 * n}}}" for n in range(1, 11))
CONTINUATION = """
import os, resource, sys
from pathlib import Path
from scaling.results.store import Store
from scaling.runners.runner_file import load_runner
from scaling.runners.scheduler import Order, Work
from scaling.runners.slurm.scheduler import SlurmScheduler

store, file, runs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
os.environ["SCALING_CONTINUATION"] = "1"
slurm = SlurmScheduler(load_runner(file), store, launch="many-21-c0de")
used = resource.getrusage(resource.RUSAGE_SELF)
before = used.ru_utime + used.ru_stime
slurm.scripts([Work(f"{n:016x}", 1.0, 1.0) for n in range(runs)], Order(("scaling",), store / "list.json", "c0ffee"))
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime - before)
"""


def main() -> None:
    """Measure both sides and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20_000)
    parser.add_argument("--old", help="a revision to measure beside this checkout")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="scaling-store-", dir=_memory()) as folder:
        sides = {"this checkout": ROOT}
        if options.old:
            old = Path(folder) / "old"
            subprocess.run(["git", "-C", ROOT, "worktree", "add", "--detach", old, options.old], check=True)
            sides = {options.old: old} | sides
        try:
            lines = measure(Path(folder), sides, options.runs)
        finally:
            if options.old:
                subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", old], check=True)
    text = "\n".join(lines) + "\n"
    print(text)
    if options.out:
        options.out.write_text(text)


def measure(folder: Path, sides: dict[str, Path], runs: int) -> list[str]:
    """The table: a row per verb, a column per side."""
    root = folder / "project"
    fill(root, runs)
    rows = {verb: [] for verb in ("status", "status --json", "collect", "collect again", "launch --dry-run")}
    for verb in rows:
        command = [*verb.removesuffix(" again").split(), "sweeps/many.yaml"]
        times: dict[str, list[float]] = {side: [] for side in sides}
        for _ in range(REPEATS):
            for side, checkout in sides.items():
                if verb == "collect":
                    (root / "results" / "many" / "runs.csv").unlink(missing_ok=True)
                times[side].append(process(checkout, root, ["-m", "scaling.cli", *command]))
        rows[verb] = [f"{min(each):.2f}" for each in times.values()]
    lines = [
        "# Growth of a store",
        "",
        f"`python benchmarks/store.py --runs {runs} --old REVISION`, {time.strftime('%Y-%m-%d')}: CPU seconds of one "
        f"process, the least of {REPEATS}; both sides in one run, in turn, on one store in memory.",
        "",
        f"| {runs:,} finished runs | {' | '.join(sides)} | aim |",
        "|---" * (len(sides) + 2) + "|",
    ]
    lines += [f"| `{verb}` | {' | '.join(cells)} | {AIMS.get(verb, '')} |" for verb, cells in rows.items()]
    return [*lines, "", *continuation(folder, sides, runs)]


def continuation(folder: Path, sides: dict[str, Path], runs: int) -> list[str]:
    """The table of a launch that a job continues; a side that grows with the square is measured on few runs."""
    (folder / "slurm.yaml").write_text("runner: slurm\ndevice: cpu\ntime_limit: 1h\npack: {target: 30m}\n")
    lines = [
        f"| open runs, each in {SUBMISSIONS} submissions: what a continuing launch submits | {' | '.join(sides)} |",
        "|---" * (len(sides) + 1) + "|",
    ]
    for count in sorted({min(runs, 250), min(runs, 500), min(runs, 1000), runs}):
        store = folder / f"store-{count}"
        python(ROOT, folder, [__file__, "--submit"], store, count)
        cells = []
        for side, checkout in sides.items():
            small = side == "this checkout" or count <= 1000
            cells.append(
                f"{float(python(checkout, folder, ['-c', CONTINUATION], store, folder / 'slurm.yaml', count)):.2f}"
                if small
                else "not run"
            )
        lines.append(f"| {count:,} | {' | '.join(cells)} |")
    return lines


def fill(root: Path, runs: int) -> None:
    """Plan and freeze the sweep, and publish a result of every run."""
    (root / "sweeps").mkdir(parents=True)
    words = "the quick brown fox jumps over the lazy dog and on it goes, "
    (root / "corpus.jsonl").write_text("".join(json.dumps({"text": f"{n} {words * 40}"}) + "\n" for n in range(400)))
    seeds = ", ".join(map(str, range(runs // 20)))
    (root / "sweeps" / "many.yaml").write_text(SWEEP.format(seeds=seeds, shapes=SHAPES))
    python(ROOT, root, [__file__, "--fill"])


def fill_store(root: Path) -> None:
    """In a process of its own: what `launch` does up to the first worker, then the workers' part without training."""
    from scaling.project.listener import Listener
    from scaling.project.opened import OpenSweep
    from scaling.project.planning import priced
    from scaling.project.preparing import Place, prepare
    from scaling.results.owner import Owner
    from scaling.run import Result

    os.fsync = lambda handle: None  # the store lies in memory
    opened = OpenSweep.open(root / "sweeps" / "many.yaml", listener=Listener())
    place = Place.of(opened, None)
    launch = prepare(opened, place, priced(opened, place.runner), replan=False)
    for row in launch.rows:
        attempt = place.store.claim(row.id, Owner.current())
        assert attempt is not None
        attempt.log({"event": "completed", "step": row.steps, "time": time.time(), "loss_nats": 2.0})
        result = Result(
            "completed", 2.0, 0.01, 2.0, 2.0, row.steps, row.tokens, row.flops, row.flops_6nd, row.optimizer_flops,
            1.0, 0.1, "cpu", "2.13.0", launch.corpus_hash, compiled=False, micro_batch=4,
            diagnostics=dict.fromkeys(("matrix_norm", "largest_matrix_norm", "factor_norm", "largest_grad_norm"), 1.0),
        )  # fmt: skip
        assert place.store.publish(attempt, result)


def fill_submissions(store: Path, runs: int) -> None:
    """In a process of its own: `SUBMISSIONS` submissions of every run, none of which a job holds by now."""
    from scaling.runners.slurm.submissions import Submission, Submitted, launch_folder

    ids = [f"{n:016x}" for n in range(runs)]
    for number in range(SUBMISSIONS):
        submission = Submission(
            f"many-{number}-c0de.01", "c0de", tuple((one,) for one in ids), dict.fromkeys(ids, number)
        )
        path = launch_folder(store, f"many-{number}-c0de") / "01.json"
        submission.write(path)
        Submitted(path, submission, None).settle("")
    for run_id in ids:
        (store / run_id / "attempts").mkdir(parents=True)


def process(checkout: Path, root: Path, arguments: list[str]) -> float:
    """CPU seconds of one Python process."""
    before = _children()
    python(checkout, root, arguments)
    return _children() - before


def python(checkout: Path, folder: Path, arguments: list[str], *more: object) -> str:
    """The output of one Python process with the checkout's `scaling`."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, (*arguments, *more))]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}: {done.stderr}")
    return done.stdout


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _memory() -> Path | None:
    return Path("/dev/shm") if Path("/dev/shm").is_dir() else None


if __name__ == "__main__":
    if sys.argv[1:2] == ["--fill"]:
        fill_store(Path.cwd())
    elif sys.argv[1:2] == ["--submit"]:
        fill_submissions(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
