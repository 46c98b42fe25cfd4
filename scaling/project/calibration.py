"""What serving reaches on a device, kept in `<root>/.scaling/rates/<device>.json`; prices use it from then on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from scaling.files import read_json, to_json, write_atomic
from scaling.hardware import DEVICES, Device, Rates
from scaling.packages import require_torch


def calibrate_here(device: Device, root: Path) -> Device:
    """Measure `device`, which is this machine's, and keep what was found."""
    require_torch("scaling doctor --calibrate")
    from scaling.inference.measure import calibrate

    measured = calibrate(device, torch_device="cpu" if device.name.startswith("cpu") else "cuda")
    rates = {precision: dataclasses.asdict(found) for precision, found in measured.serving.items()}
    write_atomic(_path(root, device.name), to_json({"serving": rates, "source": measured.source}))
    return measured


def calibrated(root: Path) -> dict[str, Device]:
    """Device name -> its row of the table with what was measured in its place."""
    devices = {}
    for name, device in DEVICES.items():
        if (path := _path(root, name)).exists():
            kept = read_json(path)
            rates = {precision: Rates(**found) for precision, found in kept["serving"].items()}
            devices[name] = dataclasses.replace(device, serving=rates, source=kept["source"])
    return devices


def _path(root: Path, name: str) -> Path:
    return root / ".scaling" / "rates" / f"{name}.json"
