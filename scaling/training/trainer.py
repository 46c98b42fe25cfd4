"""A run under way on this process: its model, its optimizers, and how far it is.

One step is batch → loss → gradients → update. Nothing in it waits for the device.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scaling.data.batches import Batches, validation_windows
from scaling.data.shards import TokenData
from scaling.errors import TrainingError
from scaling.parameterizations import find_parameterization, parameterization_of
from scaling.run import Run
from scaling.sweeps.memory import divisors
from scaling.training.checkpoint import Checkpoint
from scaling.training.compilation import Compiler
from scaling.training.flat import group
from scaling.training.history import History
from scaling.training.model import Decoder, initialise, mean_loss
from scaling.training.parallel import ALONE, Team, load_whole, whole
from scaling.training.schedule import helper_share, rate_factor
from scaling.training.stability import Stability
from scaling.training.update_rules import Optimizers
from scaling.training.validation import Validation, validate

PRECISIONS = ("float32", "bfloat16")


class Trainer:
    """Model, optimizers and progress of one run on one process.

    Args:
        micro_sequences: how many go through the model at once; None: this rank's whole share of a batch.
        compiler: backend of `torch.compile`; None: nothing is compiled.
        tell: receives a message when a batch is split further than asked.
    """

    def __init__(
        self,
        run: Run,
        data: TokenData,
        *,
        device: torch.device,
        team: Team = ALONE,
        micro_sequences: int | None = None,
        compiler: str | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        check_run(run, data)
        self.run, self.data, self.device, self.team = run, data, device, team
        self.sequences = run.batch_tokens // run.sequence_length
        self.share = self.sequences // team.world
        self.micro_sequences = micro_sequences or self.share
        self.splits = [(0, self.micro_sequences)]  # from which step on how many sequences at once
        self.tell = tell
        self.batches = Batches(
            data.train, sequence_length=run.sequence_length, batch_sequences=self.sequences, seed=run.seed
        )
        with device:
            self.model = Decoder(
                run.shape, run.ranks, sequence_length=run.sequence_length, guided=run.self_guided is not None
            )
        initialise(self.model, run.initialisation, seed=run.seed)
        self.compiler = Compiler(compiler)
        self.compiler.compile(self.model)
        self.network = team.spread(self.model)
        self.optimizers = Optimizers(group(self.model), run.optimizer, flatten=team.flat)
        self.guide = torch.ones((), device=device)
        self.step_number = 0
        self.seconds = 0.0
        self.inherited_seconds = 0.0
        self.warmup_seconds = 0.0
        self.history = History(run.shape.vocab_size, mean=team.mean)
        self.stability = Stability(measures=not team.sharded)
        if team.world > 1 and not team.sharded:
            self._settle_buckets()

    def _settle_buckets(self) -> None:
        """Let DDP lay out its buckets before the first step. It does so after its first backward pass, and with more
        than two ranks the layout decides the order of sums: a resumed run would differ in the last bits.
        """
        blank = np.zeros((self.sequences // self.team.world, self.run.sequence_length), np.int64)
        self._gradients(blank, blank)

    def step(self) -> None:
        """One update. Waits for nothing on the device."""
        run, number = self.run, self.step_number
        helped = self._set_guide()
        self.optimizers.zero()
        self.history.put(self._gradients(*self.batches.batch(number, self.team.rank, self.team.world)))
        factor = rate_factor(run.schedule, number, steps=run.steps)
        rate, grad_norm = run.optimizer.lr * factor, self.optimizers.gradient_norm
        with self.stability.watch(self.model, number, lr=rate, grad_norm=grad_norm):
            self.optimizers.step(factor, helped=helped)
        self.step_number += 1

    def _set_guide(self) -> bool:
        if self.run.self_guided is None:
            return False
        share = helper_share(self.step_number, steps=self.run.steps, fraction=self.run.self_guided)
        self.model.set_guide(None if share is None else self.guide.fill_(share))
        return share is not None

    def _gradients(self, inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> Tensor:
        """Accumulate the gradients of the batch and return its mean loss; in smaller parts where memory runs out.

        Raises:
            torch.OutOfMemoryError: one sequence is too much, or other ranks wait in the middle of the step.
        """
        while True:
            try:
                return self._accumulate(inputs, targets)
            except torch.OutOfMemoryError:
                if self.micro_sequences == 1 or self.team.world > 1:
                    raise
            self._halve()  # outside the handler, which keeps the tensors of the failed part alive

    def _halve(self) -> None:
        whole, half = self.micro_sequences, self.micro_sequences // 2
        self.micro_sequences = next(part for part in divisors(self.share) if part <= half)
        self.splits.append((self.step_number, self.micro_sequences))
        self.optimizers.zero()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.tell(
            f"out of memory with {whole} sequences at once: step {self.step_number} is repeated with "
            f"{self.micro_sequences}"
        )

    def _accumulate(self, inputs: NDArray[np.int64], targets: NDArray[np.int64]) -> Tensor:
        """The gradients of the batch, part by part; its mean loss."""
        total = torch.zeros((), device=self.device)
        for first in range(0, len(inputs), self.micro_sequences):
            rows = slice(first, first + self.micro_sequences)
            with self.team.accumulating(self.network, last=rows.stop >= len(inputs)):
                with self.precision():
                    loss = mean_loss(self.network, self.put(inputs[rows]), self.put(targets[rows]))
                loss = loss * (len(inputs[rows]) / len(inputs))
                torch.autograd.backward(loss)
            total += loss.detach()
        return total

    def wait(self) -> None:
        """Until the device has done all that was asked of it."""
        self.history.collect(wait=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def put(self, array: NDArray[np.int64]) -> Tensor:
        """An array on the device, copied while it works."""
        tensor = torch.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.pin_memory().to(self.device, non_blocking=True)

    def precision(self) -> contextlib.AbstractContextManager[object]:
        """Autocast for bfloat16 runs."""
        if self.run.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def validate(self) -> dict[str, Validation]:
        """Every validation set of the data."""
        if self.run.self_guided is not None:
            self.model.set_guide(None)
        with self.precision():
            return {
                name: validate(
                    self.model,
                    validation_windows(windows, self.run.sequence_length),
                    device=self.device,
                    rank=self.team.rank,
                    world=self.team.world,
                    total=self.team.total,
                    sequences=self._validation_sequences(),
                )
                for name, windows in self.data.validation.items()
            }

    def _validation_sequences(self) -> int | None:
        """The parts of training; on a CPU no more than fit its cache."""
        if self.device.type == "cpu" and self.micro_sequences == self.share:
            return None
        return self.micro_sequences

    def checkpoint(self) -> Checkpoint:
        """The state after the steps so far."""
        state = {
            "model": whole(self.model.state_dict()),
            "optimizers": self.optimizers.state_dict(),
            "losses": torch.tensor(self.history.values, dtype=torch.float64),
            "measured_steps": self.stability.steps,
            "measured_norms": self.stability.norms,
            "seconds": self.seconds,
            "inherited_seconds": self.inherited_seconds,
            "warmup_seconds": self.warmup_seconds,
            "micro_sequences": self.micro_sequences,
            "splits": self.splits,
            "run": self.run.id,
        }
        return Checkpoint(self.run.id, self.data.hash, self.step_number, state)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint`; what another run of the trunk has spent is inherited."""
        load_whole(self.model, checkpoint.state["model"])
        self.optimizers.load_state_dict(checkpoint.state["optimizers"])
        self.history.values = checkpoint.state["losses"].tolist()
        self.stability.steps = checkpoint.state["measured_steps"]
        self.stability.norms = [norms.to(self.device) for norms in checkpoint.state["measured_norms"]]
        self.seconds = checkpoint.state["seconds"]
        split = checkpoint.state.get("micro_sequences", self.share)  # 0.1 did not split
        self.splits = [(step, part) for step, part in checkpoint.state.get("splits", [(0, split)])]
        if self.share % split:  # other ranks, other parts
            self.splits.append((checkpoint.step, self.micro_sequences))
        else:
            self.micro_sequences = split
        own = checkpoint.state["run"] == self.run.id
        self.warmup_seconds = checkpoint.state.get("warmup_seconds", 0.0) if own else 0.0
        self.inherited_seconds = checkpoint.state["inherited_seconds"] if own else self.seconds
        self.step_number = checkpoint.step


def check_run(run: Run, data: TokenData) -> None:
    """Raise TrainingError for settings that cannot be trained; the planner refuses most of them earlier."""
    if run.precision not in PRECISIONS:
        raise TrainingError(
            "There is no such precision.", where="precision", got=run.precision, allowed=", ".join(PRECISIONS)
        )
    if run.batch_tokens % run.sequence_length:
        raise TrainingError(
            "A batch must be whole sequences.",
            where="batch_tokens",
            got=run.batch_tokens,
            allowed=f"a multiple of {run.sequence_length}",
        )
    structure = find_parameterization(run.parameterization)
    if structure is not parameterization_of(run.ranks):
        raise TrainingError("A low-rank run has ranks, a dense one has none.", where="ranks", got=run.parameterization)
    if run.self_guided is not None and ("self_guided" not in structure.keys or not 0 < run.self_guided <= 1):
        raise TrainingError(
            "Self-guided training is for low-rank runs, over a fraction of the steps.",
            where="self_guided",
            got=run.self_guided,
            allowed="0 to 1, parameterization: low_rank",
        )
    if data.vocab_size > run.shape.vocab_size:
        raise TrainingError(
            "The data has token ids beyond the model's vocabulary.",
            where="shape.vocab_size",
            got=run.shape.vocab_size,
            allowed=f"at least {data.vocab_size}",
        )
