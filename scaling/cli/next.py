"""`scaling next`: which runs to add, given what the finished ones say."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._options import root_option, sweep_argument
from scaling.cli._project import open_project
from scaling.cli._quantity import Quantity
from scaling.cli._screen import print_table, say
from scaling.errors import ScalingError
from scaling.files import write_atomic
from scaling.quantity import format_number


@click.command(name="next")
@sweep_argument
@click.option("--spend", type=Quantity(), required=True, help="Training FLOPs to spend at most.")
@click.option("--target", type=Quantity(), required=True, help="Training FLOPs at which the prediction should sharpen.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: <sweep>-next.yaml beside it.")
@root_option
def next(sweep: Path, spend: float, target: float, out: Path | None, root: Path | None) -> None:
    """Propose, as a sweep file, the runs that most sharpen the prediction at --target for at most --spend FLOPs."""
    from scaling.sweeps.optimal_design import candidates, propose, proposed_sweep

    project = open_project(sweep, root)
    study = project.study()
    draws = {line.name: line.law.draws for line in study.lines if line.law and line.law.draws}
    if not draws:
        hint = f"scaling fit {sweep}   says why"
        raise ScalingError("no line has a law with draws to design from", where=str(sweep), hint=hint)
    noise = study.noise.sigma_log if study.noise else None
    offered = candidates(project.sweep, vocab_size=project.vocab_size, spend=spend)
    proposal = propose(offered, draws, spend=spend, target=target, noise=noise)
    path = out or sweep.with_name(f"{sweep.stem}-next.yaml")
    write_atomic(path, proposed_sweep(project.sweep, proposal))
    header = ("line", "shape", "tokens", "FLOPs")
    rows = ((run.line, run.cell.shape, format_number(run.run.tokens), f"{run.flops:.3g}") for run in proposal.runs)
    print_table(header, rows, title=f"{len(proposal.runs)} runs for {proposal.spent:.3g} FLOPs", left=2)
    click.echo()
    sharper = ((line, f"{before:.2%}", f"{proposal.after[line]:.2%}") for line, before in proposal.before.items())
    click.echo(f"Standard deviation of the predicted loss at {target:.3g} FLOPs:")
    print_table(("line", "now", "with these runs"), sharper)
    say(f"\n{path}\nnext: scaling launch {path}")
