"""The GPUs that this process may use, each as the value of CUDA_VISIBLE_DEVICES with which a worker sees it alone.

`nvidia-smi --list-gpus` (driver 470 or newer) names the GPUs, and below each the MIG instances it is split into:

    GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
      MIG 3g.20gb     Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)

A process sees one MIG instance only, and a GPU that is split cannot be used whole (NVIDIA MIG User Guide, "CUDA device
enumeration"), hence one value for each worker, not an index among several. CUDA_VISIBLE_DEVICES is read as CUDA reads
it: indices or UUIDs, abbreviated or not, up to the first negative index. What CUDA would pass over in silence (a GPU
that is not here, one named twice) is an error here.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from scaling.errors import RunnerError

VISIBLE = "CUDA_VISIBLE_DEVICES"
LISTING_TIMEOUT_SECONDS = 60.0  # assumption: nvidia-smi takes seconds where the driver has to be loaded

_GPU = re.compile(r"GPU (\d+): .*\(UUID: (GPU-[^)\s]+)\)")
_MIG = re.compile(r"\s+MIG .*\(UUID: (MIG-[^)\s]+)\)")


@dataclass(frozen=True)
class Gpu:
    """One GPU that nvidia-smi lists, and the UUIDs of its MIG instances."""

    index: str
    uuid: str
    instances: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[str, ...]:
        """What workers can use of it: its MIG instances, or all of it."""
        return self.instances or (self.uuid,)


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Values of CUDA_VISIBLE_DEVICES, one for every GPU or MIG instance that this process may use, in order.

    Args:
        environment: where CUDA_VISIBLE_DEVICES is looked up; where it is not set, every listed GPU may be used.

    Raises:
        RunnerError: there is none, nvidia-smi is missing or fails, or CUDA_VISIBLE_DEVICES names one that is not here.
    """
    named = environment.get(VISIBLE)
    if named is None:
        parts = [part for gpu in list_gpus() for part in gpu.parts]
        if not parts:
            raise RunnerError("nvidia-smi lists no GPU on this machine", hint=_HINT)
        return parts
    tokens = _tokens(named)
    try:
        gpus = list_gpus()
    except RunnerError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return tokens  # a container without nvidia-smi: CUDA itself reads these
        raise
    parts = [part for token in tokens for part in _named(token, gpus, named)]
    if len(set(parts)) < len(parts):
        raise RunnerError("a GPU is named twice", where=VISIBLE, got=named, allowed="every GPU once")
    return parts


def list_gpus() -> list[Gpu]:
    """The GPUs of this machine as `nvidia-smi --list-gpus` prints them, without importing torch.

    Raises:
        RunnerError: nvidia-smi is missing, fails, or does not answer.
    """
    try:
        listing = subprocess.run(
            ["nvidia-smi", "--list-gpus"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LISTING_TIMEOUT_SECONDS,
        )
    except FileNotFoundError as error:
        raise RunnerError("no GPU is found on this machine: there is no nvidia-smi", hint=_HINT) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RunnerError("nvidia-smi does not work", got=str(error), hint=_HINT) from error
    if listing.returncode:
        said = (listing.stderr.strip() or listing.stdout.strip()).partition("\n")[0]
        raise RunnerError(
            "nvidia-smi fails", got=f"{said or 'no message'} (exit status {listing.returncode})", hint=_HINT
        )
    return _parse(listing.stdout)


_HINT = f"say `device: cpu` in the runner file, or name the GPUs where nvidia-smi is missing: export {VISIBLE}=0"


def _parse(listing: str) -> list[Gpu]:
    gpus: list[Gpu] = []
    for line in listing.splitlines():  # warnings stand among them
        if gpu := _GPU.match(line):
            gpus.append(Gpu(gpu[1], gpu[2]))
        elif (instance := _MIG.match(line)) and gpus:
            gpus[-1] = Gpu(gpus[-1].index, gpus[-1].uuid, (*gpus[-1].instances, instance[1]))
    return gpus


def _tokens(named: str) -> list[str]:
    """What CUDA_VISIBLE_DEVICES names, up to the first negative index; SLURM writes NoDevFiles where a job has none."""
    tokens: list[str] = []
    for token in filter(None, map(str.strip, named.split(","))):
        if token.startswith("-") or token == "NoDevFiles":
            break
        tokens.append(token)
    if not tokens:
        hint = f"unset {VISIBLE} to use every GPU, name some of them, or say `device: cpu` in the runner file"
        raise RunnerError("no GPU may be used here", where=VISIBLE, got=repr(named), hint=hint)
    return tokens


def _named(token: str, gpus: list[Gpu], named: str) -> tuple[str, ...]:
    """What one part of CUDA_VISIBLE_DEVICES names: all instances of a GPU that is split, else the GPU as written."""
    for gpu in gpus:
        if token == gpu.index or token == gpu.uuid:
            return gpu.instances or (token,)
    prefixed = [gpu.parts for gpu in gpus if gpu.uuid.startswith(token)] if token.startswith("GPU-") else []
    prefixed += [(one,) for gpu in gpus for one in gpu.instances if one.startswith(token) and token.startswith("MIG-")]
    if len(prefixed) == 1:
        return prefixed[0]
    what = "it fits several GPUs" if prefixed else "there is no such GPU on this machine"
    listed = ", ".join(f"{gpu.index} ({' '.join(gpu.parts)})" for gpu in gpus) or "none"
    raise RunnerError(f"{what}: {token}", where=VISIBLE, got=named, allowed=listed, hint="nvidia-smi --list-gpus")
