"""What can be done with the weights of finished runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import ScalingError
from scaling.files import JsonObject
from scaling.packages import require_torch
from scaling.project.opened import OpenSweep
from scaling.results.restore import imported_from
from scaling.results.store import Store
from scaling.rows import PlanRow, SetLoss
from scaling.run import DataRef

if TYPE_CHECKING:
    from scaling.data.tokenizer import Tokenizer

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class Evaluation:
    """The loss of one finished run on one more validation set."""

    row: PlanRow
    loss: SetLoss

    def to_json(self) -> JsonObject:
        """The evaluation as `scaling evaluate --json` lists it."""
        row, loss = self.row, self.loss
        labels = {"id": row.id, "line": row.line, "cell": str(row.cell), "set": loss.name}
        return labels | {"loss": loss.loss, "loss_se": loss.loss_se, "loss_per_byte": loss.loss_per_byte}


def export_run(opened: OpenSweep, run: str, out: Path) -> str:
    """Write the model of a finished run as a Hugging Face folder; the run's id. Raises ScalingError, TrainingError."""
    require_torch("scaling export")
    from scaling.project.model_card import model_card
    from scaling.training.export import export

    launch = opened.current_launch()
    run_id = opened.find(launch, run).id
    store = Store(Path(launch.store))
    weights = _weights(store, run_id)
    published = opened.sweep.data.tokenizer.startswith("tiktoken:")  # has no file of its own to bring
    tokenizer = None if published else _tokenizer(opened, store, run_id)
    export(store.run(run_id), weights=weights, out=out, tokenizer=tokenizer, card=model_card(opened, launch, run_id))
    return run_id


@dataclass(frozen=True)
class Generated:
    """What a run goes on to write after `prompt`, greedily."""

    run: str
    prompt: str
    text: str
    tokens: int

    def to_json(self) -> JsonObject:
        """The text as `scaling generate --json` gives it."""
        return {"run": self.run, "prompt": self.prompt, "text": self.text, "tokens": self.tokens}


def generate_text(opened: OpenSweep, run: str, prompt: str, tokens: int) -> Generated:
    """The `tokens` most likely tokens after `prompt`, one by one, through a cache, as serving is timed.

    Raises:
        ScalingError: the run has no weights here, or the prompt is empty.
        TrainingError: the text would be longer than the sequences the run was trained on.
    """
    require_torch("scaling generate")
    from scaling.inference.generate import continued

    launch = opened.current_launch()
    run_id = opened.find(launch, run).id
    store = Store(Path(launch.store))
    settings, weights = store.run(run_id), _weights(store, run_id)
    tokenizer = _tokenizer(opened, store, run_id)
    ids = tokenizer.encode(prompt).tolist()
    if not ids:
        what = "the prompt is empty, and a model needs a first token"
        raise ScalingError(what, got=repr(prompt), allowed="a text", hint="--prompt 'def main('")
    room = settings.sequence_length - len(ids)
    if tokens > room:
        raise ScalingError(
            "the text would be longer than the sequences this run was trained on",
            got=f"{len(ids)} tokens of prompt and {tokens} new ones",
            allowed=f"{settings.sequence_length} together",
            hint=f"--tokens {room}" if room > 0 else "a shorter prompt",
        )
    written = tokenizer.decode(continued(settings, weights, ids, tokens))
    return Generated(run_id, prompt, written, tokens)


def _tokenizer(opened: OpenSweep, store: Store, run_id: str) -> Tokenizer:
    """The tokenizer of the data that the run was trained on."""
    from scaling.data.tokenizer import saved_tokenizer

    result = store.result(run_id)
    folder = store.path / "data" / (result.corpus_hash if result else "")
    return saved_tokenizer(opened.sweep.data.tokenizer, folder)


def evaluate_runs(opened: OpenSweep, data: Path, name: str | None) -> Sequence[Evaluation]:
    """The loss of every finished run on one more validation set; kept in the store.

    Raises:
        ScalingError: the sweep has a set of this name, or no run is finished.
        DataError: the text cannot be read.
    """
    require_torch("scaling evaluate")
    from scaling.data.shards import prepare
    from scaling.training.export import evaluate

    launch = opened.current_launch()
    store = Store(Path(launch.store))
    name = name or re.sub(r"[^A-Za-z0-9_-]", "-", data.stem)
    prepared = prepare(_with_set(opened, name, data), root=opened.root, store=store.path)
    evaluations = []
    for row in launch.rows:
        result = store.result(row.id)
        if result is None or result.status != "completed":
            continue
        if not _weights_path(store, row.id).exists() and (source := imported_from(store, row.id)):
            without = f"not evaluated: run {row.id} was imported from {source}, without its weights"
            opened.listener.message(without)
            continue
        losses = evaluate(store.run(row.id), weights=_weights(store, row.id), data=prepared, names=[name])[name]
        loss = SetLoss(name, losses.loss_nats, losses.loss_se_nats, losses.loss_per_byte_nats)
        store.add_evaluation(row.id, loss, data=str(data), data_hash=prepared.hash)
        evaluations.append(Evaluation(row, loss))
    if not evaluations:
        what = "no run is finished with its weights in this store"
        raise ScalingError(what, where=str(opened.path), hint=f"scaling status {opened.path}")
    return evaluations


def _with_set(opened: OpenSweep, name: str, data: Path) -> DataRef:
    """The sweep's data with the further set in place of its own."""
    own = opened.sweep.data.ref
    if name in dict(own.validation or ()):
        what = "the sweep has a validation set of this name"
        allowed = "another name (--name): runs.csv has one column for each set"
        raise ScalingError(what, where=str(opened.path), got=name, allowed=allowed)
    return DataRef(own.corpus, own.tokenizer, own.validation_tokens, ((name, str(data.resolve())),))


def _weights(store: Store, run_id: str) -> Path:
    path = _weights_path(store, run_id)
    if path.exists():
        return path
    if source := imported_from(store, run_id):
        attempt = store.newest(run_id)
        raise ScalingError(
            f"run {run_id} was imported from records, which hold no weights",
            where=str(path),
            got=f"imported from {source}; trained on {attempt.owner.host if attempt else 'another machine'}",
            allowed="a run that was trained in this store",
            hint="run this where the weights are, or train the run in a store without it (`store:` of a runner file)",
        )
    raise ScalingError(
        f"run {run_id} has no weights",
        where=str(path),
        allowed="a finished run of a sweep with training.keep: weights (the default)",
    )


def _weights_path(store: Store, run_id: str) -> Path:
    return store.checkpoints(run_id) / WEIGHTS
