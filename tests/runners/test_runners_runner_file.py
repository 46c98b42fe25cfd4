"""A runner file's hardware, and the money a plan costs there."""

from pathlib import Path

import pytest

from scaling.errors import SpecError
from scaling.hardware import usable_cores
from scaling.runners.runner_file import load_runner
from scaling.sweeps.grids import plan
from scaling.sweeps.price import price
from scaling.sweeps.schema import load_sweep
from scaling.sweeps.sharing import Sharing

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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runner: local\nruns_per_gpu: 2\n", "only a GPU is shared"),
        ("runner: slurm\ndevice: h100\ntime_limit: 1h\nruns_per_gpu: auto\n", "none is packed"),
        ("runner: local\ndevice: h100\nruns_per_gpu: 0\n", "runs_per_gpu"),
        ("runner: local\ndevice: h100\nruns_per_gpu: many\n", "runs_per_gpu"),
        ("runner: external\ndevice: h100\nruns_per_gpu: 2\n", "runs_per_gpu"),
    ],
)
def test_sharing_a_gpu_is_refused_where_it_means_nothing(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "runner.yaml").write_text(text)
    with pytest.raises(SpecError) as error:
        load_runner(tmp_path / "runner.yaml")
    assert message in str(error.value)


def test_packed_runs_of_one_gpu_share_it_and_others_do_not(tmp_path: Path) -> None:
    rules = "resources: [{max_params: 1e6, gpus: 1, cpus_per_gpu: 6}, {max_params: 1e7, cpus: 2}, {gpus: 8}]"
    lines = ["runner: slurm", "device: h100", "time_limit: 1h", "pack: {target: 10m}", "runs_per_gpu: auto", rules]
    (tmp_path / "runner.yaml").write_text("\n".join(lines))
    runner = load_runner(tmp_path / "runner.yaml")
    assert runner.sharing == Sharing("auto", 600.0)
    assert [runner.cores_per_gpu(params) for params in (1e5, 2e6, 1e9)] == [6, 0, None]
    (tmp_path / "runner.yaml").write_text("runner: local\ndevice: h100\nruns_per_gpu: 3\nslots: 1\n")
    here = load_runner(tmp_path / "runner.yaml")
    assert here.sharing == Sharing(3, None, uniform=True)
    assert here.cores_per_gpu(1e9) == usable_cores()
