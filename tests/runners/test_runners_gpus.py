"""GPUs of a machine: what `nvidia-smi --list-gpus` and CUDA_VISIBLE_DEVICES say, and what each worker sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from scaling.errors import RunnerError
from scaling.runners.gpus import visible_gpus
from scaling.runners.local import LocalScheduler, local_devices
from scaling.runners.pool import LocalPool, WorkerDevice
from scaling.runners.runner_file import load_runner
from scaling.runners.scheduler import Order, Work
from scaling.runners.slurm.submissions import Submission
from scaling.runners.slurm.task import devices

WHOLE = """\
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-11aa0000-0000-0000-0000-000000000000)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-22bb0000-0000-0000-0000-000000000000)
WARNING: infoROM is corrupted at gpu 0000:1B:00.0
"""
SPLIT = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-11aa0000-0000-0000-0000-000000000000)
  MIG 3g.20gb     Device  0: (UUID: MIG-aaaa0000-0000-0000-0000-000000000000)
  MIG 3g.20gb     Device  1: (UUID: MIG-bbbb0000-0000-0000-0000-000000000000)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-22bb0000-0000-0000-0000-000000000000)
"""
FIRST, SECOND = (f"GPU-{start}0000-0000-0000-0000-000000000000" for start in ("11aa", "22bb"))
MIG_A, MIG_B = (f"MIG-{start}0000-0000-0000-0000-000000000000" for start in ("aaaa", "bbbb"))


@pytest.fixture
def nvidia_smi(monkeypatch, tmp_path: Path):
    """Puts a program called nvidia-smi, and no other, on the PATH."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()

    def write(listing: str, status: int = 0) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        arguments = "assert sys.argv[1:] == ['--list-gpus'], sys.argv"
        text = f"import sys; {arguments}; sys.stdout.write({listing!r}); sys.exit({status})"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "$(/bin/cat {program}.py)" "$@"\n')
        program.with_suffix(".py").write_text(text)
        program.chmod(0o755)

    return write


@pytest.mark.parametrize(
    ("listing", "named", "values"),
    [
        (WHOLE, None, [FIRST, SECOND]),
        (SPLIT, None, [MIG_A, MIG_B, SECOND]),
        (WHOLE, "1,0", ["1", "0"]),
        (WHOLE, "1,-1,0", ["1"]),
        (WHOLE, "GPU-22", [SECOND]),
        (WHOLE, f" {SECOND} , {FIRST}", [SECOND, FIRST]),
        (SPLIT, "0", [MIG_A, MIG_B]),
        (SPLIT, "1", ["1"]),
        (SPLIT, FIRST, [MIG_A, MIG_B]),
        (SPLIT, MIG_B, [MIG_B]),
        (SPLIT, f"MIG-bb,{MIG_A}", [MIG_B, MIG_A]),
        (SPLIT.replace("MIG-aaaa", "MIG-GPU-11aa"), "MIG-GPU-11", [MIG_A.replace("MIG-aaaa", "MIG-GPU-11aa")]),
    ],
)
def test_each_usable_gpu_has_one_value(nvidia_smi, listing: str, named: str | None, values: list[str]) -> None:
    nvidia_smi(listing)
    assert visible_gpus({} if named is None else {"CUDA_VISIBLE_DEVICES": named}) == values


@pytest.mark.parametrize(
    ("listing", "named", "message"),
    [
        ("", None, "lists no GPU"),
        (WHOLE, "", "no GPU may be used"),
        (WHOLE, " , ", "no GPU may be used"),
        (WHOLE, "-1", "no GPU may be used"),
        (WHOLE, "NoDevFiles", "no GPU may be used"),
        (WHOLE, "0,2", "no such GPU on this machine: 2"),
        (WHOLE, "cuda:0", "no such GPU on this machine: cuda:0"),
        (WHOLE, "GPU-33", "no such GPU"),
        (WHOLE, "GPU-", "it fits several GPUs"),
        (SPLIT, "MIG-", "it fits several GPUs"),
        (WHOLE, "0,0", "named twice"),
        (SPLIT, f"0,{MIG_A}", "named twice"),
    ],
)
def test_what_cannot_be_used_is_one_message(nvidia_smi, listing: str, named: str | None, message: str) -> None:
    nvidia_smi(listing)
    with pytest.raises(RunnerError, match=message):
        visible_gpus({} if named is None else {"CUDA_VISIBLE_DEVICES": named})


def test_a_driver_that_fails_is_quoted(nvidia_smi) -> None:
    nvidia_smi("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.1\n", status=18)
    with pytest.raises(RunnerError) as error:
        visible_gpus({})
    assert error.value.got == "Failed to initialize NVML: Driver/library version mismatch (exit status 18)"
    with pytest.raises(RunnerError, match="nvidia-smi fails"):
        visible_gpus({"CUDA_VISIBLE_DEVICES": "0"})


def test_without_nvidia_smi_only_named_gpus_are_used(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus({"CUDA_VISIBLE_DEVICES": "2,MIG-aa,-1"}) == ["2", "MIG-aa"]
    with pytest.raises(RunnerError, match="there is no nvidia-smi") as error:
        visible_gpus({})
    assert "device: cpu" in str(error.value.hint)
    assert "CUDA_VISIBLE_DEVICES=0" in str(error.value.hint)
    (tmp_path / "nvidia-smi").write_text("not a program")
    (tmp_path / "nvidia-smi").chmod(0o755)
    with pytest.raises(RunnerError, match="does not work"):
        visible_gpus({"CUDA_VISIBLE_DEVICES": "0"})


def test_workers_are_started_one_per_gpu_each_alone(nvidia_smi, monkeypatch, tmp_path: Path) -> None:
    nvidia_smi(SPLIT)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert local_devices("h100", None) == [WorkerDevice("cuda:0", visible) for visible in (MIG_A, MIG_B, SECOND)]
    assert local_devices("h100", 1) == [WorkerDevice("cuda:0", MIG_A)]
    assert local_devices("cpu", 3) == [WorkerDevice("cpu")] * 3
    with pytest.raises(RunnerError, match="more workers than GPUs"):
        local_devices("h100", 4)
    (tmp_path / "runner.yaml").write_text("runner: local\ndevice: h100\n")
    here = LocalScheduler(load_runner(tmp_path / "runner.yaml"), tmp_path / "S", launch="a-1", folder=tmp_path / "1")
    order = Order(("scaling", "work"), tmp_path / "1" / "worklist.json", "c0ffee")
    commands = here.scripts([Work(f"{n:016x}", 1.0, 1.0) for n in range(2)], order)
    assert [command.split()[0] for command in commands] == [f"CUDA_VISIBLE_DEVICES={one}" for one in (MIG_A, MIG_B)]
    assert all(command.endswith("--device cuda:0") for command in commands)


def test_a_worker_has_the_variable_of_its_device(monkeypatch, tmp_path: Path) -> None:
    environments = []
    started = subprocess.Popen(["/bin/true"], stdin=subprocess.PIPE)
    monkeypatch.setattr("scaling.runners.pool._spawn", lambda command, env, log: environments.append(env) or started)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    devices = [WorkerDevice("cuda:0", MIG_A), WorkerDevice("cuda:1")]
    pool = LocalPool(tmp_path, tmp_path / "list.json", devices=devices, log_folder=tmp_path)
    pool.submit()
    pool.wait()
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in environments] == [MIG_A, "0,1"]


def shared_here(tmp_path: Path, gpus: str, *, runs: int, work: int) -> list[str]:
    """The worker commands of a local launch with `runs` per GPU, after `-P`, with what stands before the program."""
    (tmp_path / "runner.yaml").write_text(f"runner: local\ndevice: h100\nruns_per_gpu: {runs}\n{gpus}")
    here = LocalScheduler(load_runner(tmp_path / "runner.yaml"), tmp_path / "S", launch="a-1", folder=tmp_path / "1")
    order = Order(("scaling", "work"), tmp_path / "1" / "worklist.json", "c0ffee")
    lines = here.scripts([Work(f"{n:016x}", 1.0, 1.0, runs_per_gpu=runs) for n in range(work)], order)
    return [f"{line.partition(' ')[0]} {line.partition('--follow ')[2]}" for line in lines]


def test_runs_that_share_a_gpu_see_the_same_one_and_are_told_how_many_they_are(nvidia_smi, tmp_path: Path) -> None:
    nvidia_smi(WHOLE)
    two = [f"CUDA_VISIBLE_DEVICES={gpu} --device cuda:0 --runs-on-device 2" for gpu in (FIRST, SECOND)]
    assert shared_here(tmp_path, "", runs=2, work=9) == two * 2
    assert shared_here(tmp_path, "", runs=2, work=3) == [
        two[0], f"CUDA_VISIBLE_DEVICES={SECOND} --device cuda:0", two[0]
    ]  # fmt: skip
    assert shared_here(tmp_path, "slots: 1\n", runs=3, work=9) == [two[0].replace("device 2", "device 3")] * 3


def test_a_packed_task_puts_as_many_workers_on_each_gpu(tmp_path: Path) -> None:
    written = Submission("a", "v", slots=7, runs_per_gpu=4, device="cuda")
    pool = LocalPool(tmp_path, tmp_path / "list.json", devices=devices(written), log_folder=tmp_path)
    said = [command[command.index("--device") + 1 :] for command in pool.commands]
    first, second = (["cuda:0", "--runs-on-device", "4"], ["cuda:1", "--runs-on-device", "3"])
    assert said == [first, second, first, second, first, second, first]
    on_cpu = LocalPool(
        tmp_path, tmp_path / "list.json", devices=devices(Submission("a", "v", slots=2)), log_folder=tmp_path
    )
    assert ["--runs-on-device" in command for command in on_cpu.commands] == [False, False]
