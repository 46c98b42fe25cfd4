"""`scaling export`, `scaling evaluate`: what can be done with the weights of finished runs."""

from __future__ import annotations

import re
from pathlib import Path

import click

from scaling.cli.options import json_option, root_option, sweep_argument
from scaling.cli.project import Project, find_run
from scaling.cli.screen import print_json, print_table, say
from scaling.errors import ScalingError
from scaling.results.restore import imported_from
from scaling.results.store import Store
from scaling.rows import SetLoss
from scaling.run import DataRef

WEIGHTS = "weights.safetensors"


@click.command()
@sweep_argument
@click.argument("run")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder to write.")
@root_option
def export(sweep: Path, run: str, out: Path, root: Path | None) -> None:
    """Write the model of a finished RUN as a Hugging Face folder: merged dense weights, factors beside them."""
    from scaling.training.export import export as write

    launch = Project.open(sweep, root).launch()
    run_id = find_run(launch, run, sweep)
    store = Store(Path(launch.store))
    write(store.run(run_id), weights=_weights(store, run_id), out=out)
    say(f"{out}: run {run_id}, loadable with transformers.LlamaForCausalLM.from_pretrained")


@click.command()
@sweep_argument
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Text, JSONL or Parquet.")
@click.option("--name", help="What to call the set (default: the name of the file).")
@root_option
@json_option
def evaluate(sweep: Path, data: Path, name: str | None, root: Path | None, as_json: bool) -> None:
    """The loss of every finished run on one more validation set; `scaling collect` has it as column `loss:NAME`."""
    from scaling.data.shards import prepare
    from scaling.training.export import evaluate as loss_on

    project = Project.open(sweep, root)
    launch = project.launch()
    store = Store(Path(launch.store))
    name = name or re.sub(r"[^A-Za-z0-9_-]", "-", data.stem)
    own = project.sweep.data.ref
    if name in dict(own.validation or ()):
        allowed = "another --name: runs.csv has one column for each set"
        raise ScalingError("the sweep has a validation set of this name", where=str(sweep), got=name, allowed=allowed)
    ref = DataRef(own.corpus, own.tokenizer, own.validation_tokens, ((name, str(data.resolve())),))
    prepared = prepare(ref, root=project.root, store=store.path)
    rows = []
    for row in launch.rows:
        result = store.result(row.id)
        if result is None or result.status != "completed":
            continue
        if not _weights_path(store, row.id).exists() and (source := imported_from(store, row.id)):
            say(f"not evaluated: run {row.id} was imported from {source}, without its weights")
            continue
        found = loss_on(store.run(row.id), weights=_weights(store, row.id), data=prepared, names=[name])[name]
        one = SetLoss(name, found.loss_nats, found.loss_se_nats, found.loss_per_byte_nats)
        store.add_evaluation(row.id, one, data=str(data), data_hash=prepared.hash)
        rows.append((row, one))
    if not rows:
        what = "no run is finished with its weights in this store"
        raise ScalingError(what, where=str(sweep), hint=f"scaling status {sweep}")
    if as_json:
        documents = [
            {"id": row.id, "line": row.line, "cell": str(row.cell), "set": name}
            | {"loss": one.loss, "loss_se": one.loss_se, "loss_per_byte": one.loss_per_byte}
            for row, one in rows
        ]
        print_json({"sweep": project.name, "evaluations": documents})
        return
    header = ("run", "cell", "nats/token", "± se", "nats/byte")
    shown = (
        (row.id, row.cell, *(None if n is None else f"{n:.4f}" for n in (one.loss, one.loss_se, one.loss_per_byte)))
        for row, one in rows
    )
    print_table(header, shown, title=f"{project.name} on {name}", left=2)


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
