"""`pip install scaling-orchestrator` into an environment of its own, without torch: `make test-long`, about a minute.

What works there, and what asks for the extra `[train]`. Packages come from the index that pip is set up with.
"""

from __future__ import annotations

import json
import os
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
TRAIN = "pip install 'scaling-orchestrator[train]'"


@pytest.fixture(scope="module")
def scaling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command in an environment that holds the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("base")
    venv.create(folder / "env", with_pip=True)
    pip = [str(folder / "env" / "bin" / "python"), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", folder, ROOT], check=True, env=environment())
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "-c", ROOT / "constraints.txt", wheel], check=True, env=environment())
    return folder / "env" / "bin" / "scaling"


def environment() -> dict[str, str]:
    """Without `PYTHONPATH`, which could lead to this tree."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(scaling: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([scaling, *arguments], capture_output=True, text=True, cwd=scaling.parent, env=environment())


def test_torch_is_not_there(scaling: Path) -> None:
    python = scaling.parent / "python"
    command = [python, "-m", "pip", "list", "--format=json"]
    listing = subprocess.run(command, capture_output=True, check=True, env=environment())
    assert not {"torch", "safetensors", "transformers"} & {one["name"] for one in json.loads(listing.stdout)}


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit", "results/quickstart/runs.csv", "--bootstrap", "20"),
        ("predict", "results/quickstart/runs.csv", "--compute", "1e12", "--bootstrap", "20"),
        ("compare", "results/quickstart/runs.csv", "--bootstrap", "20"),
        ("plan", "sweeps/quickstart.yaml"),
        ("doctor",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_what_needs_no_torch_works(scaling: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    verb, *rest = [str(ROOT / one) if one.startswith(("results/", "sweeps/")) else one for one in arguments]
    root = ["--root", str(tmp_path)] if verb in ("plan", "doctor") else []
    done = run(scaling, verb, *rest, *root)
    assert done.returncode == 0, done.stderr
    if verb == "doctor":
        assert TRAIN in done.stdout


def test_a_report_of_a_table(scaling: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    rows = [(n, c / (6 * n)) for c in (1e18, 3e18, 1e19) for n in (5e7, 1e8, 2e8, 4e8)]
    lines = [f"{n},{d},{1.8 + 480 / n**0.35 + 2100 / d**0.37}" for n, d in rows]
    table.write_text("\n".join(["params,tokens,loss", *lines]) + "\n")
    done = run(scaling, "report", str(table))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "table_report" / "report.html").exists()


@pytest.mark.parametrize("verb", ["launch", "--measure", "--calibrate"])
def test_what_needs_torch_names_the_extra(scaling: Path, tmp_path: Path, verb: str) -> None:
    commands = {
        "launch": ("launch", str(ROOT / "sweeps" / "quickstart.yaml"), "--yes", "--root", str(tmp_path)),
        "--measure": ("compare", str(ROOT / "results" / "quickstart" / "runs.csv"), "--measure"),
        "--calibrate": ("doctor", "--calibrate", "--root", str(tmp_path)),
    }
    done = run(scaling, *commands[verb])
    assert done.returncode == 1
    assert TRAIN in done.stderr
