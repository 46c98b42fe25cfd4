"""A runner file's hardware, and the money a plan costs there."""

from pathlib import Path

import pytest

from scaling.errors import SpecError
from scaling.runners.runner_file import load_runner
from scaling.sweeps.grids import plan
from scaling.sweeps.price import price
from scaling.sweeps.schema import load_sweep

ROOT = Path(__file__).parents[2]
TABLE_ROW = "runner: local\ndevice: h200\ncost_per_hour: 2.5\n"
OWN = """
runner: local
device: {name: mine, peak_flops: {float32: 1e12}, bandwidth_bytes_per_second: 1e11, memory_bytes: 8e9, assumed_mfu: 0.1}
cost_per_hour: 4
"""


@pytest.mark.parametrize(("text", "rate"), [(TABLE_ROW, 2.5), (OWN, 4.0)])
def test_the_rate_of_a_runner_is_what_its_hours_cost(tmp_path: Path, text: str, rate: float) -> None:
    runner = tmp_path / "runner.yaml"
    runner.write_text(text)
    priced = price(
        plan(load_sweep(ROOT / "sweeps" / "quickstart.yaml"), vocab_size=256), device=load_runner(runner).hardware()
    )
    assert priced.cost == pytest.approx(rate * sum(priced.device_hours))
    assert priced.cost > 0


def test_a_rate_below_zero_is_refused(tmp_path: Path) -> None:
    runner = tmp_path / "runner.yaml"
    runner.write_text("runner: local\ncost_per_hour: -1\n")
    with pytest.raises(SpecError, match="cost_per_hour"):
        load_runner(runner)
