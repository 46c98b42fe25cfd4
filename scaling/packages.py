"""Optional packages: whether they are installed, what brings them, and the error where one is missing.

`pip install scaling-orchestrator` brings planning and fitting. The extra `[train]` brings torch, which training,
exporting, evaluating and timing need.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

from scaling.errors import ScalingError

TRAIN = "pip install 'scaling-orchestrator[train]'"
OPTIONAL = {  # package -> what needs it, and the command that brings it
    "torch": ("launch and work on this machine, export, evaluate, compare --measure, doctor --calibrate", TRAIN),
    "safetensors": ("training, export, evaluate", TRAIN),
    "datasets": ("corpus hf:OWNER/NAME", "pip install 'scaling-orchestrator[hf]'"),
    "tiktoken": ("tokenizer tiktoken:NAME", "pip install 'scaling-orchestrator[tiktoken]'"),
    "tensorboard": ("export --to tensorboard", "pip install 'scaling-orchestrator[trackers]'"),
    "wandb": ("export --to wandb", "pip install 'scaling-orchestrator[trackers]'"),
    "trackio": ("export --to trackio", "pip install 'scaling-orchestrator[trackers]'"),
}


def version(package: str) -> str | None:
    """The version of an installed package, which is not imported for it; None where it is not installed."""
    if importlib.util.find_spec(package) is None:
        return None
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def require(package: str, what: str) -> None:
    """Refuses `what`, such as ``scaling export --to wandb``, where an optional package is not installed.

    Raises:
        ScalingError: with the command that installs it.
    """
    if importlib.util.find_spec(package) is None:
        raise ScalingError(f"{what} needs {package}, which is not installed", hint=OPTIONAL[package][1])


def require_torch(what: str) -> None:
    """Refuses `what`, such as ``scaling export``, where torch is not installed.

    Raises:
        ScalingError: with the command that installs it.
    """
    require("torch", what)
