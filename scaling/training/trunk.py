"""The stable phase of wsd runs, trained once for all that share it: `<store>/trunks/<trunk id>/<step>.pt`.

Before its decay a wsd run cannot be told from a longer one: after s = steps − decay_steps steps its weights, optimizer
state and place in the data are those of every run that differs only in length (`Run.trunk_id`). A run that comes to its
own s leaves its state there; a run that starts goes on from the furthest state at or before its own s.

This is a cache, not another kind of run. A missing file costs time; two that write one file write the same bits. A file
is passed over with a message where it is damaged, belongs to another trunk, schema or corpus, or was made in other
circumstances (torch, processor, ranks, split of a batch), where the branch would not be, bit for bit, the run trained
alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from scaling.errors import NewerRecord
from scaling.files import plain_entries, replacing
from scaling.training.checkpoint import UNREADABLE, Checkpoint, first_line, read_checkpoint, save
from scaling.training.parallel import Team
from scaling.training.trainer import Trainer

_NAME = re.compile(r"\d{8}\.pt")


@dataclass(frozen=True)
class Trunk:
    """The trunk of one run.

    Attributes:
        folder: where its states lie.
        id: `Run.trunk_id`, the owner that a file names.
        corpus_hash: of the data.
        made_by: the circumstances under which bits are equal.
        branch_step: where the run leaves it.
    """

    folder: Path
    id: str
    corpus_hash: str
    made_by: str
    branch_step: int

    def furthest(self, *, after: int, tell: Callable[[str], None]) -> Checkpoint | None:
        """The furthest usable state beyond `after` and not beyond the branch; `tell` hears what was passed over."""
        steps = [int(path.stem) for path in reversed(plain_entries(self.folder)) if _NAME.fullmatch(path.name)]
        usable = (self.read(step, tell) for step in steps if after < step <= self.branch_step)
        return next((state for state in usable if state is not None), None)

    def agreed(self, team: Team, *, after: int, tell: Callable[[str], None]) -> Checkpoint | None:
        """The state that rank 0 finds furthest, on every rank; None unless all of them can read it."""
        state = self.furthest(after=after, tell=tell) if team.rank == 0 else None
        step = team.told(state.step if state else 0)
        if step and team.rank > 0:
            state = self.read(step, tell)
        (missing,) = team.any(state is None)
        return None if missing else state

    def read(self, step: int, tell: Callable[[str], None]) -> Checkpoint | None:
        """The state after `step` steps, None where it cannot be used."""
        try:
            state = read_checkpoint(state_path(self.folder, step), self.id)
        except (*UNREADABLE, NewerRecord) as error:
            reason = first_line(error)
        else:
            origin = (state.corpus_hash, state.state.get("made_by"))
            if origin == (self.corpus_hash, self.made_by) and state.step == step == len(state.state.get("losses", ())):
                return state
            reason = f"made by {origin[1]} on data {origin[0]}"
        tell(f"trunk state {state_path(self.folder, step)} is passed over: {reason}")
        return None

    def write(self, state: Checkpoint) -> None:
        """Leave a state for others."""
        with replacing(state_path(self.folder, state.step)) as file:
            save(Checkpoint(self.id, self.corpus_hash, state.step, state.state | {"made_by": self.made_by}), file)


def state_path(folder: Path, step: int) -> Path:
    """The state of a trunk after `step` steps."""
    return folder / f"{step:08d}.pt"


def trunk_of(trainer: Trainer, folder: Path) -> Trunk | None:
    """The trunk of a run under `folder`; None where its schedule has no stable phase."""
    run = trainer.run
    if run.trunk_id is None or run.branch_step is None:
        return None
    return Trunk(folder / run.trunk_id, run.trunk_id, trainer.data.hash, made_by(trainer), run.branch_step)


def made_by(trainer: Trainer) -> str:
    """The circumstances of the steps so far that decide their bits."""
    device, team = trainer.device, trainer.team
    processor = torch.backends.cpu.get_cpu_capability() if device.type == "cpu" else torch.cuda.get_device_name(device)
    ranks = "1 rank" if team.world == 1 else f"{team.world} ranks under {team.strategy}"
    (_, at_once), *later = trainer.splits
    split = f"{at_once} sequences at once" + "".join(f", {part} from step {step} on" for step, part in later)
    return f"torch {torch.__version__}, {processor}, {ranks}, {split}"
