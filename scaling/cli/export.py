"""`scaling export`: the weights of a finished run, and training curves, for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._options import root_option, sweep_argument
from scaling.cli._project import open_project
from scaling.cli._screen import say


@click.command()
@sweep_argument
@click.argument("run", required=False)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder to write.")
@click.option("--to", help="csv, tensorboard, wandb or trackio: training curves in place of a model; nothing is sent.")
@root_option
def export(sweep: Path, run: str | None, out: Path, to: str | None, root: Path | None) -> None:
    """Write the model of a finished RUN as a Hugging Face folder: merged dense weights, factors beside them,
    the tokenizer, and a model card with law, data and cost. With --to, the training curves of RUN or of every run.
    """
    if to is not None:
        count = open_project(sweep, root).export_curves(to, out, run)
        say(f"{out}: training curves of {count} runs for {to}")
        return
    if run is None:
        raise click.UsageError("name a RUN whose model is written, or a tracker for curves: --to csv")
    run_id = open_project(sweep, root).export(run, out)
    say(f"{out}: run {run_id}, loadable with transformers.LlamaForCausalLM.from_pretrained")
