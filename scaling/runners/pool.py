"""A bounded pool of worker processes on this machine, one per slot, all on one list.

Workers are plain `Popen` children (no fork of a live interpreter, no queue, no IPC). Each holds the read end of a
pipe whose write end only the launcher has: when the launcher dies, however it dies, its workers see end-of-file,
checkpoint and leave. Every worker computes with one thread: two processes of one thread are 1.9–2.0 × one process on
two cores, one process of two threads 1.3–1.8 × and 25–70 × slower beside any other load (measured, 2026-11-21, torch
2.13.0). Workers that share a GPU are told how many they are; where an MPS daemon answers at CUDA_MPS_PIPE_DIRECTORY,
which they inherit, their kernels run side by side, else the driver lets the processes take turns.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from scaling.runners.gpus import VISIBLE
from scaling.runners.worker import EXIT_STOPPED

MAX_RESTARTS = 3  # per slot, after a worker was killed by a signal from outside
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


@dataclass(frozen=True)
class WorkerDevice:
    """The device of one worker, in torch's words, and the CUDA_VISIBLE_DEVICES it starts with (None: as it is here)."""

    name: str
    visible: str | None = None

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables of the worker."""
        return {} if self.visible is None else {VISIBLE: self.visible}


@dataclass
class _Slot:
    device: WorkerDevice
    log_path: Path
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0


class LocalPool:
    """Workers on this machine: `submit` starts them, `poll` says how many live, `cancel` asks them to checkpoint and
    stop.
    """

    def __init__(
        self,
        store: Path,
        worklist: Path,
        *,
        devices: Sequence[WorkerDevice],
        log_folder: Path,
        follow: bool = True,
        strategy: str | None = None,
        scheduler: str | None = None,
    ) -> None:
        self._command = [sys.executable, "-P", "-m", "scaling.runners.program", "--lifeline"]
        self._command += ["--store", str(store), "--runs", str(worklist)] + ["--follow"] * follow
        self._command += ["--strategy", strategy] if strategy else []
        self._command += ["--scheduler", scheduler] if scheduler else []
        self._max_restarts = 0 if strategy else MAX_RESTARTS
        self._slots = [_Slot(device, log_folder / f"worker-{n}.log") for n, device in enumerate(devices)]
        self._log_folder = log_folder
        self._cancelled = False

    @property
    def commands(self) -> list[list[str]]:
        """The command of every worker."""
        return [self._worker(slot) for slot in self._slots]

    @property
    def shell_lines(self) -> list[str]:
        """`commands` for a shell, with the variables that differ from worker to worker."""
        variables = [[f"{name}={value}" for name, value in slot.device.variables.items()] for slot in self._slots]
        return [shlex.join([*own, *command]) for own, command in zip(variables, self.commands, strict=True)]

    def submit(self) -> None:
        """Start one worker per slot."""
        self._log_folder.mkdir(parents=True, exist_ok=True)
        for slot in self._slots:
            self._start(slot)

    def poll(self) -> int:
        """How many workers are at work; a worker killed from outside is started again, a few times."""
        for slot in self._slots:
            code = slot.process.poll() if slot.process else None
            if code is not None and code < 0 and not self._cancelled and slot.restarts < self._max_restarts:
                slot.restarts += 1
                self._start(slot)
        return sum(slot.process is not None and slot.process.poll() is None for slot in self._slots)

    def cancel(self) -> None:
        """Ask every worker to checkpoint and stop; `wait` for them."""
        self._cancelled = True
        for slot in self._slots:
            if slot.process and slot.process.poll() is None:
                slot.process.send_signal(signal.SIGTERM)

    def wait(self) -> list[int]:
        """Wait for all workers; their exit codes."""
        processes = [slot.process for slot in self._slots if slot.process]
        codes = [process.wait() for process in processes]
        for process in processes:
            assert process.stdin is not None
            process.stdin.close()
        return codes

    def stopped(self) -> bool:
        """True where a worker was asked to stop from outside (`scaling cancel`, a shutdown)."""
        return any(slot.process is not None and slot.process.poll() == EXIT_STOPPED for slot in self._slots)

    def failures(self) -> list[str]:
        """The last line that each worker with exit status 1 left in its log."""
        bad = [slot for slot in self._slots if slot.process is not None and slot.process.poll() == 1]
        return [(slot.log_path.read_text(errors="replace").strip().splitlines() or ["no message"])[-1] for slot in bad]

    def _start(self, slot: _Slot) -> None:
        environment = os.environ | _ONE_THREAD | slot.device.variables
        with slot.log_path.open("ab") as log:
            slot.process = _spawn(self._worker(slot), environment, log)

    def _worker(self, slot: _Slot) -> list[str]:
        command = [*self._command, "--device", slot.device.name]
        sharing = sum(other.device == slot.device for other in self._slots)
        return [*command, "--runs-on-device", str(sharing)] if sharing > 1 and slot.device.name != "cpu" else command


def _spawn(command: list[str], environment: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment)
