"""What a device was measured to do, kept in `<root>/.scaling/calibration/<device>.json`; prices use it from then on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from scaling.files import read_json, to_json, write_atomic
from scaling.hardware import DEVICES, Device
from scaling.packages import require_torch

_MEASURED = ("kernel_seconds", "peak_flops", "bandwidth_bytes_per_second", "source")


def calibrate_here(device: Device, root: Path) -> Device:
    """Measure `device`, which is this machine's, and keep what was found."""
    require_torch("scaling doctor --calibrate")
    from scaling.inference.measure import calibrate

    measured = calibrate(device, torch_device="cpu" if device.name.startswith("cpu") else "cuda")
    write_atomic(_path(root, device.name), to_json({name: getattr(measured, name) for name in _MEASURED}))
    return measured


def calibrated(root: Path) -> dict[str, Device]:
    """Device name -> its row of the table with what was measured in its place."""
    return {
        name: dataclasses.replace(device, **read_json(path))
        for name, device in DEVICES.items()
        if (path := _path(root, name)).exists()
    }


def _path(root: Path, name: str) -> Path:
    return root / ".scaling" / "calibration" / f"{name}.json"
