"""A sweep and a runner to start from: the packaged templates under a name of your own."""

from __future__ import annotations

from pathlib import Path

from scaling.errors import SpecError
from scaling.files import create_exclusive
from scaling.sweeps.schema import NAME, NAME_FORM

_TEMPLATES = Path(__file__).parent.parent / "templates"


def start(name: str, root: Path) -> tuple[Path, Path]:
    """Write `sweeps/<name>.yaml` and, where there is none, `runners/local.yaml` under `root`; return both paths.

    Raises:
        SpecError: not a name, or the sweep is there already.
    """
    if not NAME.fullmatch(name):
        raise SpecError("not a name for a sweep", got=name, allowed=NAME_FORM)
    sweep, runner = root / "sweeps" / f"{name}.yaml", root / "runners" / "local.yaml"
    text = (_TEMPLATES / "sweep.yaml").read_text(encoding="utf-8")
    if not create_exclusive(sweep, text.replace("{{name}}", name)):
        raise SpecError("there is a sweep of that name", where=str(sweep), hint=f"scaling plan {sweep}")
    create_exclusive(runner, (_TEMPLATES / "local.yaml").read_text(encoding="utf-8"))
    return sweep, runner
