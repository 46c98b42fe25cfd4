"""`scaling plan` at the scale of the paper: what it prints, what it says of stages to come, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from scaling.cli import main

ROOT = Path(__file__).parents[2]
SPECTRON, DENSE = (str(ROOT / "sweeps" / f"{name}.yaml") for name in ("spectron", "spectron-dense"))
NODES = str(ROOT / "runners" / "slurm-8gpu.yaml")
H100 = "runner: slurm\ntime_limit: 4h\ndevice: h100\n"
RATES = "peak_flops: {bfloat16: 1e14}, bandwidth_bytes_per_second: 1e12, assumed_mfu: 0.4"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert main(["plan", *arguments]) == status
    return capsys.readouterr().out


def rows(text: str, start: str) -> list[dict[str, str]]:
    """The rows of the table whose header begins with `start`, by column."""
    lines = text.splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith(start))
    names = lines[at].split()
    table = []
    for line in lines[at + 1 :]:
        if not line.strip():
            break
        cells = re.sub(r"(\d[dhm]?) (\d+[hms]|GB|ddp|fsdp)\b", r"\1\2", line).split()
        table.append(dict(zip(names, cells, strict=True)))
    return table


def test_every_cell_has_its_micro_batch_memory_gpu_hours_and_money(capsys) -> None:
    text = printed(capsys, SPECTRON, "--runner", NODES)
    table = rows(text, "line ")
    assert len(table) == 51
    assert {row["GPUs"] for row in table} == {"1", "8"}
    assert all(float(row["memory/GPU"].removesuffix("GB")) <= 72.0 for row in table)
    assert [row["micro-batch"] for row in table[:3]] == ["128", "64", "32"]
    hours, money = (sum(float(row[column]) for row in table) for column in ("GPU-hours", "money"))
    totals = json.loads(printed(capsys, SPECTRON, "--runner", NODES, "--json"))["totals"]
    assert hours == pytest.approx(totals["gpu_hours"], rel=0.01)
    assert money == pytest.approx(totals["money"], rel=0.001) == 2.5 * totals["gpu_hours"]
    assert f"about {totals['gpu_hours']:,.1f} GPU-hours of h100 (MFU by width from the device table)" in text
    assert f"cost {totals['money']:.2f}" in text


def test_stages_to_come_are_shown_priced_and_simulated(capsys) -> None:
    text = printed(capsys, DENSE, "--runner", NODES, "--simulate")
    totals = json.loads(printed(capsys, DENSE, "--runner", NODES, "--json"))["totals"]
    to_come = rows(text[text.index("after tuning (grid") :], "line ")
    assert sum(int(row["runs"]) for row in to_come) == totals["pending"]["runs"] == 35
    assert sum(float(row["money"]) for row in to_come) == pytest.approx(totals["pending"]["money"], rel=0.001)
    later, together = totals["pending"]["gpu_hours"], totals["gpu_hours"] + totals["pending"]["gpu_hours"]
    assert f"about {later:,.1f} GPU-hours of h100, {together:,.1f} in all, cost" in text
    expected = text[text.index("95 % intervals to expect") :]
    assert "same loss" not in expected
    assert "±" in expected


@pytest.mark.parametrize(
    ("runner", "words"),
    [
        (f"{H100}resources: [{{gpus: 1, micro_batch: 256}}]\n", ["256 sequences at once on 1 h100 needs 2.64 TB"]),
        (f"{H100}resources: [{{gpus: 3}}]\n", ["512 sequences over 3 ranks"]),
        (f"{H100}resources: [{{gpus: 8, micro_batch: 5}}]\n", ["64 sequences of each of 8 ranks in parts of 5"]),
        ("runner: local\n", ["51 runs ask for bfloat16; the row of cpu has float32", "needs 45.2 GB on each"]),
    ],
    ids=["micro-batch", "ranks", "parts", "precision"],
)
def test_what_cannot_be_run_is_refused_with_the_numbers(tmp_path: Path, capsys, runner: str, words: list[str]) -> None:
    (tmp_path / "runner.yaml").write_text(runner)
    text = " ".join(printed(capsys, SPECTRON, "--runner", str(tmp_path / "runner.yaml"), status=1).split())
    for word in words:
        assert word in text
    document = json.loads(printed(capsys, SPECTRON, "--runner", str(tmp_path / "runner.yaml"), "--json", status=1))
    assert "error" in {check["severity"] for check in document["checks"]}


def test_a_device_without_memory_is_refused_with_its_key(tmp_path: Path, capsys) -> None:
    (tmp_path / "runner.yaml").write_text(f"runner: local\ndevice: {{name: mine, {RATES}}}\n")
    assert main(["plan", SPECTRON, "--runner", str(tmp_path / "runner.yaml")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "runner.yaml:2: device: the key 'memory_bytes' is missing" in err
