"""One run from its settings to its result.

    for every step: batch → loss → gradients → update

At every step boundary the loop asks whether to stop; about once a second it logs; by wall time it writes a checkpoint.
None of that changes a number: a run that was killed and resumed ends in the same bits as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from scaling.data.shards import MAIN, TokenData
from scaling.errors import TrainingError
from scaling.files import JsonObject, fault, replacing
from scaling.hardware import DEVICES
from scaling.parameterizations import HELPER
from scaling.run import Result, Run
from scaling.sweeps.counting import count, flops_6nd, forward_flops_per_token, optimizer_flops, training_flops
from scaling.training.checkpoint import read_newest, write_checkpoint
from scaling.training.parallel import ALONE, Team, whole
from scaling.training.schedule import rate_factor
from scaling.training.trainer import Trainer
from scaling.training.trunk import Trunk, made_by, trunk_of
from scaling.training.validation import Validation, write_documents

LOG_SECONDS = 1.0  # the store allows one line a second


@dataclass(frozen=True)
class Stopped:
    """The run was asked to stop and has a checkpoint at `step`."""

    step: int


class Superseded(Exception):
    """Another attempt has taken the run over; nothing more was written."""


def train(
    run: Run,
    *,
    data: TokenData,
    folder: Path,
    attempt: int,
    stop: Callable[[], bool],
    owns: Callable[[], bool],
    log: Callable[[JsonObject], None],
    device: str = "cpu",
    checkpoint_seconds: float = 60.0,
    team: Team = ALONE,
    micro_sequences: int | None = None,
    runs_on_device: int = 1,
    trunks: Path | None = None,
    compiler: str | None = None,
) -> Result | Stopped:
    """Train `run` to its end, from the newest checkpoint in `folder` or, if that is further, a state of its trunk.

    Args:
        run: every setting.
        data: the prepared tokens.
        folder: where checkpoints, the final `weights.safetensors` and `documents.npz` go.
        attempt: number of this attempt, part of the names of its checkpoints.
        stop: asked at every step boundary; True ends the call with a checkpoint and `Stopped`.
        owns: asked before every write and before the result; False raises `Superseded`.
        log: takes flat records, at most about one a second.
        device: a torch device.
        checkpoint_seconds: wall time between checkpoints.
        team: the ranks that train the run together (`parallel.join`); each calls this with the same arguments.
        micro_sequences: sequences whose activations a rank holds at once; None: its whole part of the batch. A
            checkpoint's own split is kept.
        runs_on_device: runs that share the device, this one included: the run's device seconds are its part of the
            device's time.
        trunks: where runs that share a stable phase leave it for each other (`scaling.training.trunk`); None: nowhere.
        compiler: backend of `torch.compile`; None: Inductor on GPUs, nothing on CPUs.

    Raises:
        TrainingError: settings that cannot be trained, or an unknown device.
        NewerRecord: a checkpoint of a later version.
        Superseded: another attempt owns the run.
    """
    place = open_device(device)
    backend = compiler or ("inductor" if place.type == "cuda" else None)
    tell = lambda text: log({"message": text})  # noqa: E731
    trainer = Trainer(run, data, device=place, team=team, micro_sequences=micro_sequences, compiler=backend, tell=tell)
    loop = Loop(
        trainer,
        folder,
        attempt=attempt,
        owns=owns,
        log=log,
        checkpoint_seconds=checkpoint_seconds,
        runs_on_device=runs_on_device,
        trunks=trunks,
    )
    loop.resume()
    loop.record()
    while trainer.step_number < run.steps and trainer.history.broken is None:
        if loop.trunk and trainer.step_number == loop.trunk.branch_step != loop.shared_step:
            loop.share(loop.trunk)
        asked, record, save = team.any(stop(), loop.record_due(), loop.save_due())
        if record:
            loop.record()
        if save or asked:
            loop.save()
        if trainer.history.broken is not None:
            break
        if asked:
            return Stopped(trainer.step_number)
        fault(f"step {trainer.step_number}")
        loop.step()
    return loop.finish()


def open_device(name: str) -> torch.device:
    """The device called `name`, made ready: one thread per process on CPUs, tiny numbers flushed to zero.

    Raises:
        TrainingError: torch does not know the device, or this machine has none.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise TrainingError(
            "This device cannot be used.", where="device", got=f"{name}: {error}", allowed="cpu, cuda, cuda:<index>"
        ) from None
    if device.type == "cpu":
        torch.set_num_threads(1)  # more threads per process lose to more processes, and change the last bits
        torch.set_flush_denormal(True)
    elif device.type == "cuda" and device.index is not None:  # torch refuses to set a "cuda" without an index
        torch.cuda.set_device(device)  # streams, events and collectives of this process belong to its own GPU
    return device


class Loop:
    """What happens between the steps: the clock, records, checkpoints, and the result."""

    def __init__(
        self,
        trainer: Trainer,
        folder: Path,
        *,
        attempt: int,
        owns: Callable[[], bool],
        log: Callable[[JsonObject], None],
        checkpoint_seconds: float,
        runs_on_device: int,
        trunks: Path | None,
    ) -> None:
        self.trainer, self.run, self.folder, self.attempt = trainer, trainer.run, folder, attempt
        self.team, self.leads = trainer.team, trainer.team.rank == 0
        self.runs_on_device, self.devices = runs_on_device, trainer.team.world / runs_on_device
        self.owns, self.checkpoint_seconds = owns, checkpoint_seconds
        self.log = log if self.leads else lambda record: None
        on_own_cpu = trainer.device.type == "cpu" and self.team.world == 1
        self.clock = time.process_time if on_own_cpu else time.perf_counter  # CPU seconds where others share the cores
        self.started = self.clock()
        self.logged = self.saved = time.perf_counter()
        self.logged_step = self.saved_step = 0
        self.logged_losses = 0
        self.trunks = trunks
        self.warm = trainer.device.type == "cpu" and trainer.compiler.backend is None
        self.timed_step, self.owed = 0, 0  # where the clock stood last; steps it has not counted
        self.trunk = None if trunks is None else trunk_of(trainer, trunks)
        self.shared_step: int | None = None  # where the run left the trunk's states and went on by itself

    def resume(self) -> None:
        """Go on from the furthest state there is, telling the log what was passed over."""
        own = read_newest(
            self.folder,
            run_id=self.run.id,
            corpus_hash=self.trainer.data.hash,
            steps=self.run.steps,
            tell=self._tell,
            leads=self.leads,
        )
        after = own.step if own else 0
        shared = self.trunk.agreed(self.team, after=after, tell=self._tell) if self.trunk else None
        checkpoint = shared or own
        if checkpoint is not None:
            self.trainer.restore(checkpoint)
            origin = f"went on from trunk {checkpoint.run_id}" if shared else "resumed"
            self.log({"message": f"{origin} at step {checkpoint.step}", "step": checkpoint.step})
            self.trunk = (
                None if self.trunks is None else trunk_of(self.trainer, self.trunks)
            )  # its split may be another
        self.shared_step = shared.step if shared else None
        self.timed_step = self.trainer.step_number
        self.logged_step = self.saved_step = self.trainer.step_number
        self.logged_losses = len(self.trainer.history.values)
        self.started = self.clock()
        self.logged = self.saved = time.perf_counter()

    def step(self) -> None:
        """One update. The first of an attempt, which compiles and warms up, is timed apart: it counts as long as the
        steps after it take.
        """
        if self.warm:
            self.trainer.step()
            return
        self._pause()
        self.trainer.step()
        self.trainer.wait()
        self.trainer.warmup_seconds += (self.clock() - self.started) * self.devices
        self.warm, self.owed = True, self.owed + 1
        self.timed_step, self.started = self.trainer.step_number, self.clock()
        self.logged, self.logged_step = time.perf_counter(), self.timed_step
        if self.trainer.compiler.backend and not self.trainer.compiler.compiled:
            self._tell("nothing was compiled: the run is trained eagerly")

    def share(self, trunk: Trunk) -> None:
        """Leave the state of a sound run for other branches of its trunk."""
        self._pause()
        if self.trainer.history.broken is None:
            state = self.trainer.checkpoint()
            if self.leads:
                replace(trunk, made_by=made_by(self.trainer)).write(state)  # the split may be another since it began
        self.started = self.clock()

    def record_due(self) -> bool:
        """Whether it is time for a line; rank 0 says."""
        return self.leads and time.perf_counter() - self.logged >= LOG_SECONDS

    def save_due(self) -> bool:
        """Whether it is time for a checkpoint, which needs a new step; rank 0 says."""
        late = time.perf_counter() - self.saved >= self.checkpoint_seconds
        return self.leads and late and self.trainer.step_number > self.saved_step

    def save(self) -> None:
        """Write a checkpoint of a run that is sound; a broken one ends instead."""
        self._pause()
        self._check_owner()
        if self.trainer.history.broken is None:
            checkpoint = self.trainer.checkpoint()
            if self.leads:
                write_checkpoint(self.folder, checkpoint, attempt=self.attempt)
        self.saved_step = self.trainer.step_number
        self.started, self.saved = self.clock(), time.perf_counter()

    def record(self) -> None:
        """Log one line."""
        self.trainer.history.collect(wait=self.team.world > 1)
        now, trainer, run = time.perf_counter(), self.trainer, self.run
        new = trainer.history.values[self.logged_losses :]
        rate = (trainer.step_number - self.logged_step) * run.batch_tokens / max(now - self.logged, 1e-9)
        values = {
            "step": trainer.step_number,
            "steps": run.steps,
            "tokens": trainer.step_number * run.batch_tokens,
            "loss_nats": sum(new) / len(new) if new else None,
            "lr": run.optimizer.lr * rate_factor(run.schedule, max(trainer.step_number - 1, 0), steps=run.steps),
            "tokens_per_second": rate or None,
            "mfu": self.mfu(rate / self.devices) if rate else None,
            "device_seconds": trainer.seconds + (self.clock() - self.started) * self.devices,
        }
        values |= trainer.stability.newest
        if trainer.step_number > self.logged_step:
            values["grad_norm"] = trainer.optimizers.last_norm().item()
        values |= {"compiled": trainer.compiler.compiled, "micro_batch": trainer.micro_sequences}
        self.log({k: v if v is None or math.isfinite(v) else None for k, v in values.items()})
        self.logged, self.logged_step, self.logged_losses = now, trainer.step_number, len(trainer.history.values)

    def finish(self) -> Result:
        """Validate, keep the weights, and report."""
        trainer = self.trainer
        self._pause()
        sets = trainer.validate() if trainer.history.broken is None else {}
        self.record()
        self._check_owner()
        main = sets.get(MAIN)
        if main is not None and math.isfinite(main.loss_nats) and main.loss_nats <= trainer.history.limit:
            tensors = whole(trainer.model.state_dict())
            if self.leads:
                write_weights(self.folder / "weights.safetensors", tensors, run_id=self.run.id)
                write_documents(self.folder / "documents.npz", sets)
            return self.result(sets)
        return self.result({})

    def result(self, sets: dict[str, Validation]) -> Result:
        """The result of a run that has just ended; without validation it diverged."""
        trainer, run, main = self.trainer, self.run, sets.get(MAIN)
        steps = trainer.step_number if trainer.history.broken is None else trainer.history.broken
        tokens = steps * run.batch_tokens
        return Result(
            status="completed" if main else "diverged",
            loss_nats=main.loss_nats if main else None,
            loss_se_nats=main.loss_se_nats if main else None,
            loss_per_byte_nats=main.loss_per_byte_nats if main else None,
            last_finite_loss_nats=trainer.history.last_finite,
            steps=steps,
            tokens=tokens,
            flops=training_flops(
                run.shape, run.ranks, sequence_length=run.sequence_length, tokens=tokens, guided=run.self_guided
            ),
            flops_6nd=flops_6nd(count(run.shape, run.ranks).params_total, tokens),
            optimizer_flops=optimizer_flops(run.shape, run.ranks, run.optimizer, steps),
            device_seconds=trainer.seconds,
            inherited_seconds=trainer.inherited_seconds,
            warmup_seconds=trainer.warmup_seconds,
            compiled=trainer.compiler.compiled,
            micro_batch=trainer.micro_sequences,
            runs_per_gpu=self.runs_on_device,
            epochs=trainer.batches.epochs(steps),
            device=describe_device(trainer.device),
            torch_version=torch.__version__,
            corpus_hash=trainer.data.hash,
            loss_spikes=trainer.history.spikes(),
            validation={name: v.summary() for name, v in sets.items() if name != MAIN},
            diagnostics=self.diagnostics(tokens) if main else trainer.stability.largest(broken=trainer.history.broken),
        )

    def diagnostics(self, tokens: int) -> dict[str, float]:
        """Norms of the final model and on the way to it, and how well the device was used."""
        values = self.trainer.stability.final(self.trainer.model)
        mfu = self.mfu(tokens / self.trainer.seconds) if self.trainer.seconds else None
        return values if mfu is None else values | {"mfu": mfu}

    def mfu(self, tokens_per_second: float) -> float | None:
        """Share of the device's peak spent on the model's own FLOPs; None for a device the table does not know."""
        peak = peak_flops(self.trainer.device, self.run.precision)
        flops = 3 * forward_flops_per_token(self.run.shape, self.run.ranks, self.run.sequence_length)
        return None if peak is None else flops * tokens_per_second / peak

    def _pause(self) -> None:
        """Wait for the device and add the time since the last pause; steps owed count like those timed in it."""
        self.trainer.wait()
        now, timed = self.clock(), self.trainer.step_number - self.timed_step
        seconds = (now - self.started) * self.devices
        if timed and self.owed:
            seconds *= 1 + self.owed / timed
            self.owed = 0
        self.trainer.seconds += seconds
        self.started, self.timed_step = now, self.trainer.step_number

    def _tell(self, text: str) -> None:
        self.log({"message": text})

    def _check_owner(self) -> None:
        (lost,) = self.team.any(self.leads and not self.owns())
        if lost:
            raise Superseded(f"run {self.run.id}: attempt {self.attempt} no longer owns it")


def write_weights(path: Path, tensors: Mapping[str, Tensor], *, run_id: str) -> None:
    """The final weights as safetensors, factors as factors, helpers left out."""
    from safetensors.torch import save

    kept = {name: t.detach().cpu().contiguous() for name, t in tensors.items() if not name.endswith(f".{HELPER}")}
    with replacing(path) as file:
        file.write(save(kept, metadata={"run": run_id}))


def describe_device(device: torch.device) -> str:
    """ "cpu", or "cuda: NVIDIA H200"."""
    return "cpu" if device.type == "cpu" else f"{device.type}: {torch.cuda.get_device_name(device)}"


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Peak FLOP/s of a device the table knows at a precision it lists, else None."""
    words = describe_device(device).lower().replace("geforce ", "").replace("rtx ", "rtx").split()
    row = next((DEVICES[word] for word in words if word in DEVICES), None)
    return None if row is None else row.peak_flops.get(precision)
