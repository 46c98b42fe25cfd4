"""The levels of docs/design.md, "Folders and import levels", over the syntax trees and what really gets imported."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "scaling"
LEVELS = {
    **dict.fromkeys(("errors", "checks", "quantity", "files"), 0),
    **dict.fromkeys(("spec", "run", "hardware", "laws", "locks", "records", "packages"), 1),
    **dict.fromkeys(("optimizers", "parameterizations", "rows"), 2),
    **dict.fromkeys(("sweeps", "data"), 3),
    **dict.fromkeys(("training", "results"), 4),
    "inference": 5,
    "runners": 6,
    "analysis": 7,
    "report": 8,
    "project": 9,
    "cli": 10,
}
# third-party package -> the only places that may import it
ONLY_IN = {
    "torch": ("training", "inference/generate", "inference/measure", "parameterizations"),  # the last never at import
    "submitit": ("runners/slurm",),
    "matplotlib": ("report/figures",),
    "seaborn": ("report/figures",),
    "click": ("cli",),
    "rich": ("cli",),
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules() -> list[Path]:
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_only_lower_levels(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "scaling" and len(parts) > 1 and parts[1] in LEVELS and parts[1] != own:
            assert LEVELS[parts[1]] < LEVELS[own], f"{own} (level {LEVELS[own]}) imports {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_packages_stay_where_they_belong(path: Path) -> None:
    place = str(path.relative_to(PACKAGE))
    for name in imports(path):
        allowed = ONLY_IN.get(name.split(".")[0])
        assert allowed is None or place.startswith(allowed), f"{place} imports {name}"


def test_no_module_of_a_folder_leads_back_to_itself() -> None:
    names = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in modules()
    }
    needs = {
        name: {found for one in imports(path) for found in (one, one.rpartition(".")[0]) if found in names} - {name}
        for name, path in names.items()
    }
    while free := {name for name, needed in needs.items() if not needed}:
        needs = {name: needed - free for name, needed in needs.items() if name not in free}
    assert not needs, f"imports in a circle: {needs}"


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_name_of_a_scheduler_leads_to_slurm(path: Path) -> None:
    place = str(path.relative_to(PACKAGE))
    if place.startswith("runners/slurm") or place == "runners/scheduler_names.py":  # slurm_task.py: a name of 0.1
        return
    assert not any(name.startswith("scaling.runners.slurm") for name in imports(path)), f"{place} imports SLURM"
    strings = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
    exact = {text for text in strings if isinstance(text, str) and (text == "slurm" or text.startswith("SLURM_"))}
    assert not exact, f"{place} knows SLURM: {exact}"


def test_content_folders_are_no_packages() -> None:
    for folder in ("sweeps", "runners", "analysis", "results", "docs", "tests", "benchmarks"):
        assert not list((ROOT / folder).rglob("__init__.py")), f"{folder}/ would shadow an installed package"


@pytest.mark.parametrize("verb", ["plan", "status"])
def test_plan_and_status_load_nothing_heavy(verb: str, tmp_path: Path) -> None:
    program = (
        "import sys; from scaling.cli import main\n"
        f"main(['{verb}', 'sweeps/quickstart.yaml', '--root', {str(tmp_path)!r}])\n"
        "print([m for m in ('torch', 'pandas', 'scipy', 'matplotlib', 'submitit') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stdout
