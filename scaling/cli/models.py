"""`scaling export`, `scaling evaluate`: what can be done with the weights of finished runs."""

from __future__ import annotations

import re
from pathlib import Path

import click

from scaling.cli.options import json_option, root_option, sweep_argument
from scaling.cli.project import Project, find_run
from scaling.cli.screen import print_json, print_table, say
from scaling.errors import ScalingError
from scaling.files import to_json, write_atomic
from scaling.results.store import Store
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
    """The loss of every finished run on one more validation set, kept beside its result."""
    from scaling.data.shards import prepare
    from scaling.training.export import evaluate as loss_on

    project = Project.open(sweep, root)
    launch = project.launch()
    store = Store(Path(launch.store))
    name = name or re.sub(r"[^A-Za-z0-9_-]", "-", data.stem)
    own = project.sweep.data.ref
    ref = DataRef(own.corpus, own.tokenizer, own.validation_tokens, ((name, str(data.resolve())),))
    prepared = prepare(ref, root=project.root, store=store.path)
    rows = []
    for row in launch.rows:
        result = store.result(row["id"])
        if result is None or result.status != "completed":
            continue
        weights = _weights(store, row["id"])
        found = loss_on(store.run(row["id"]), weights=weights, data=prepared, names=[name])[name]
        losses = {
            "loss": found.loss_nats,
            "loss_se": found.loss_se_nats,
            "loss_per_byte": found.loss_per_byte_nats,
        }
        path = store.folder(row["id"]) / "evaluations" / f"{name}-{prepared.hash}.json"
        write_atomic(path, to_json({"data": str(data), "data_hash": prepared.hash, **losses}))
        rows.append({"id": row["id"], "line": row["line"], "cell": row["cell"], "set": name, **losses})
    if not rows:
        raise ScalingError("no run is finished yet", where=str(sweep), hint=f"scaling status {sweep}")
    if as_json:
        print_json({"sweep": project.name, "evaluations": rows})
        return
    header = ("run", "cell", "nats/token", "± se", "nats/byte")
    shown = (
        (r["id"], r["cell"], *(None if r[k] is None else f"{r[k]:.4f}" for k in ("loss", "loss_se", "loss_per_byte")))
        for r in rows
    )
    print_table(header, shown, title=f"{project.name} on {name}", left=2)


def _weights(store: Store, run_id: str) -> Path:
    path = store.checkpoints(run_id) / WEIGHTS
    if not path.exists():
        raise ScalingError(
            f"run {run_id} has no weights",
            where=str(path),
            allowed="a finished run of a sweep with training.keep: weights (the default)",
        )
    return path
