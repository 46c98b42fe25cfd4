"""`scaling export`: the weights of a finished run, for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._options import root_option, run_argument, sweep_argument
from scaling.cli._project import open_project
from scaling.cli._screen import say


@click.command()
@sweep_argument
@run_argument
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="The folder to write.")
@root_option
def export(sweep: Path, run: str, out: Path, root: Path | None) -> None:
    """Write the model of a finished RUN as a Hugging Face folder: merged dense weights, factors beside them,
    the tokenizer, and a model card with law, data and cost.
    """
    run_id = open_project(sweep, root).export(run, out)
    say(f"{out}: run {run_id}, loadable with transformers.LlamaForCausalLM.from_pretrained")
