"""The sbatch options of a job, from the runner file, under the names of submitit's `update_parameters`.

Values reach `#SBATCH` lines quoted by submitit; a newline would end the line and start a shell command, so it is
refused. Only the lines under `setup:` are shell, because they are meant to be.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaling.errors import RunnerError, SpecError

if TYPE_CHECKING:
    from scaling.runners.runner_file import Runner
    from scaling.runners.slurm.arrays import Array

SIGNAL_SECONDS = 120  # assumption: a checkpoint takes less; SLURM may signal up to 60 s early (sbatch(1), --signal)
CONTINUE_SECONDS = 3600  # assumption: submitting a next stage, or collecting, fitting and reporting, takes less

# sbatch options that have a key of their own in a runner file, or that submission depends on
_ELSEWHERE = {
    "partition": "partition",
    "time": "time_limit",
    "nodes": "resources: [{nodes: ...}]",
    "gpus-per-node": "resources: [{gpus: ...}]",
    "cpus-per-task": "resources: [{cpus_per_gpu: ...}]",
    "mem": "resources: [{memory: ...}]",
    "ntasks": "resources",
    "ntasks-per-node": "resources",
} | dict.fromkeys(("array", "output", "error", "open-mode", "job-name", "signal", "dependency", "requeue"), "")


def array_parameters(profile: Runner, array: Array, *, name: str, after: str | None = None) -> dict[str, object]:
    """The options of one job array.

    Args:
        profile: the runner file; `time_limit` is set (`check_profile`).
        array: the tasks and what each needs.
        name: of the job.
        after: the id of a job whose end this one waits for.
    """
    rule = array.resources
    ranks_per_node = max(1, rule.gpus) if rule.ranks > 1 else 1
    each = max(rule.cpus_per_gpu or 1, array.runs_per_gpu) if rule.gpus else rule.cpus or 1
    cpus = each * array.shares
    wanted = {
        "nodes": rule.nodes,
        "ntasks_per_node": ranks_per_node,
        "cpus_per_task": cpus,
        "gpus_per_node": rule.gpus * array.shares or None,
        "mem": _times(rule.memory, array.shares),
        "array_parallelism": array.parallelism or len(array.tasks),
        "signal_delay_s": min(SIGNAL_SECONDS, int(_limit(profile)) // 2),
        # since SLURM 22.05 srun does not take --cpus-per-task from sbatch; one rank that fails ends all of them
        "srun_args": [f"--cpus-per-task={cpus}", "--kill-on-bad-exit=1", *profile.srun_args],
    }
    more = {"requeue": True} | ({"dependency": f"afterany:{after}"} if after else {})
    return _common(profile, name, _limit(profile), more) | {k: v for k, v in wanted.items() if v is not None}


def continuation_parameters(profile: Runner, *, name: str, after: list[str]) -> dict[str, object]:
    """The options of the job that goes on when the jobs `after` have ended."""
    return _common(profile, name, min(_limit(profile), CONTINUE_SECONDS), {"dependency": f"afterany:{':'.join(after)}"})


def clusters_of(profile: Runner) -> str:
    """The clusters that sbatch chooses from, ``a,b``; empty: the one that it asks by itself. Its environment variable
    overrides the option in a script (sbatch(1)).
    """
    return os.environ.get("SBATCH_CLUSTERS") or str(profile.sbatch.get("clusters", ""))


def check_runner(profile: Runner, *, where: str) -> None:
    """Refuse what SLURM would misread, before anything is submitted. Raises SpecError."""
    if profile.time_limit is None:
        hint = f"add `time_limit: 4h` to {where}; a longer run is continued as often as needed"
        raise SpecError("a slurm runner needs a time limit", where=f"{where}: time_limit", hint=hint)
    for key, value in profile.sbatch.items():
        place, option = f"{where}: sbatch.{key}", key.replace("_", "-")
        if not option.replace("-", "").isalnum() or not option.isascii():
            raise SpecError("not the name of an sbatch option", where=place, got=key, allowed="such as qos or account")
        if option in _ELSEWHERE:
            allowed = f"write it as `{_ELSEWHERE[option]}`" if _ELSEWHERE[option] else "nothing: it is set by `launch`"
            raise SpecError("this option is not passed through", where=place, allowed=allowed)
        if value is not True and not isinstance(value, (str, int, float)):
            raise SpecError("not a value of an sbatch option", where=place, got=value, allowed="text, a number or true")
        _one_line(value, place)
    for value in profile.srun_args:
        _one_line(value, f"{where}: srun_args")
    for key in ("partition", "memory"):
        for value in [profile.partition] if key == "partition" else [rule.memory for rule in profile.resources]:
            _one_line(value, f"{where}: {key}")


def check_folder(store: Path) -> None:
    """Refuse a store whose path SLURM or submitit would read as a pattern. Raises RunnerError."""
    bad = [sign for sign in ("%", "\\", "\n", '"') if sign in str(store)]
    if bad:
        allowed = 'a path without % \\ " or a newline: SLURM reads them as patterns in the names of log files'
        raise RunnerError("SLURM cannot write logs below this store", where="store", got=str(store), allowed=allowed)


def _common(profile: Runner, name: str, seconds: float, more: Mapping[str, Any]) -> dict[str, Any]:
    passed = {key.replace("_", "-"): value for key, value in profile.sbatch.items()}
    values: dict[str, Any] = {
        "job_name": name,
        "time": math.ceil(seconds / 60),
        "additional_parameters": {**passed, **more},
    }
    if profile.partition is not None:
        values["partition"] = profile.partition
    if profile.setup:
        values["setup"] = list(profile.setup)
    return values | {"wckey": None}  # submitit's default is one that a cluster which checks them does not know


def _times(memory: str | None, slots: int) -> str | None:
    """``2G`` for each of 16 runs side by side is ``32G``; SLURM's words for all of the memory stay."""
    match = re.fullmatch(r"(\d+)([KMGTkmgt]?)", memory or "")
    return f"{int(match[1]) * slots}{match[2]}" if match and match[1] != "0" else memory


def _limit(profile: Runner) -> float:
    assert profile.time_limit is not None
    return profile.time_limit


def _one_line(value: object, where: str) -> None:
    if isinstance(value, str) and ("\n" in value or "\r" in value or "\0" in value):
        raise SpecError("a newline would become a line of the batch script", where=where, got=value, allowed="one line")
