"""`scaling doctor`: what this machine can do, and what is missing."""

from __future__ import annotations

import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import click
import psutil

from scaling.cli._options import json_option, root_option, runner_option
from scaling.cli._screen import print_json, print_table
from scaling.data.corpus import open_corpus
from scaling.errors import RunnerError, ScalingError
from scaling.hardware import Device, usable_cores
from scaling.packages import OPTIONAL, version
from scaling.project.calibration import calibrate_here
from scaling.runners.gpus import visible_gpus
from scaling.runners.runner_file import load_runner
from scaling.runners.scheduler import scheduler_class
from scaling.runners.scheduler_names import names

_PACKAGES = ("numpy", "scipy", "pandas", "matplotlib", "submitit", "tokenizers", *OPTIONAL, "transformers")


@click.command()
@runner_option
@click.option("--calibrate", is_flag=True, help="Measure what serving reaches here; prices use it after.")
@root_option
@json_option
def doctor(runner: Path | None, calibrate: bool, root: Path | None, as_json: bool) -> int:
    """What this machine can do: processors, packages, built-in corpora, schedulers, and the store."""
    profile = load_runner(runner)
    root = (root or Path.cwd()).resolve()
    store = profile.store_path(root)
    problem: object = _unwritable(store)
    findings: dict[str, dict[str, object]] = {
        "machine": _machine(),
        "devices": _devices(),
        "packages": {name: version(name) for name in _PACKAGES},
        **_missing(),
        "corpora": {name: _corpus(name) for name in ("python-packages", "python-stdlib")},
        **_schedulers(),
        "store": {"path": str(store), "writable": problem is None, "problem": problem},
    }
    if calibrate:
        findings["calibration"] = _calibration(calibrate_here(profile.hardware(), root))
    if runner is not None:
        folder = root / ".scaling" / "doctor"
        scheduler = scheduler_class(profile.runner)(profile, store, launch="doctor", folder=folder, where=str(runner))
        if cluster := scheduler.diagnose():
            findings["cluster"] = cluster
            problem = problem or cluster.get("problem")
    if as_json:
        print_json(findings)
    else:
        for title, values in findings.items():
            print_table((title, ""), values.items(), left=2)
            click.echo()
    return 1 if problem else 0


def _calibration(device: Device) -> dict[str, object]:
    """The rates of the serving model, as measured, and what part they are of the data sheet's."""
    found: dict[str, object] = {"device": device.name}
    for precision, rates in device.serving.items():
        flops, moved = rates.arithmetic * device.peak(precision), rates.bandwidth * device.bandwidth_bytes_per_second
        found |= {
            f"{precision} FLOP/s": f"{flops:.3g} ({rates.arithmetic:.0%} of the data sheet)",
            f"{precision} bytes/s": f"{moved:.3g} ({rates.bandwidth:.0%})",
            f"{precision} launch": f"{rates.launch_seconds * 1e6:.1f} µs",
        }
    return found


def _machine() -> dict[str, object]:
    usable = usable_cores()
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": usable,
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
    }


def _devices() -> dict[str, object]:
    """GPUs as `nvidia-smi` names them; the CPU is always there."""
    devices: dict[str, object] = {"cpu": "one worker per core, one thread each"}
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        listing = subprocess.run(query, capture_output=True, text=True, check=False)
        if listing.returncode:
            said = (listing.stderr.strip() or listing.stdout.strip()).partition("\n")[0]
            return devices | {"nvidia-smi": f"fails: {said or 'no message'}"}
        devices |= {f"cuda:{n}": line for n, line in enumerate(listing.stdout.splitlines())}
        try:
            devices["usable here"] = ", ".join(visible_gpus())
        except RunnerError as error:
            devices["usable here"] = f"none: {error.sentence}"
    return devices


def _schedulers() -> dict[str, dict[str, object]]:
    """Where the commands of every known scheduler are; one without commands is not listed."""
    programs = {name: scheduler_class(name).programs for name in names()}
    return {name: {one: shutil.which(one) for one in needed} for name, needed in programs.items() if needed}


def _missing() -> dict[str, dict[str, object]]:
    """What optional packages that are not installed are needed for, and what brings them; nothing where all are."""
    absent = {name: f"{what}: {command}" for name, (what, command) in OPTIONAL.items() if version(name) is None}
    return {"not installed": dict(absent)} if absent else {}


def _corpus(name: str) -> str:
    try:
        return f"fingerprint {open_corpus(name, root=Path.cwd()).fingerprint[:12]}"
    except ScalingError as error:
        return error.what


def _unwritable(store: Path) -> str | None:
    """Why the store cannot be written; None where it can. The nearest existing folder is tried, nothing is left
    behind.
    """
    folder = next(path for path in (store, *store.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return str(error)
