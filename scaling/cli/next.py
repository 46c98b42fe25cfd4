"""`scaling next`: which runs to add, given what the finished ones say."""

from __future__ import annotations

from pathlib import Path

import click

from scaling.cli._options import json_option, root_option, sweep_argument
from scaling.cli._project import open_project
from scaling.cli._quantity import Quantity
from scaling.cli._screen import print_json, print_table, say
from scaling.errors import ScalingError
from scaling.files import write_atomic
from scaling.project.proposing import Proposal
from scaling.quantity import format_number


@click.command(name="next")
@sweep_argument
@click.option("--spend", type=Quantity(), required=True, help="Training FLOPs to spend at most.")
@click.option("--target", type=Quantity(), help="Training FLOPs at which predictions should sharpen, too.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: <sweep>-next.yaml beside it.")
@root_option
@json_option
def next(sweep: Path, spend: float, target: float | None, out: Path | None, root: Path | None, as_json: bool) -> None:
    """Write a sweep with the runs that would decide what is not resolved, then those that sharpen the prediction at
    --target, for at most --spend FLOPs.
    """
    proposal = open_project(sweep, root).propose(spend=spend, target=target)
    path = out or sweep.with_name(f"{proposal.name}.yaml")
    if path.exists():
        raise ScalingError("there is a file of that name", where=str(path), hint="--out FILE   names another one")
    write_atomic(path, proposal.text)
    if as_json:
        print_json({"file": str(path), **proposal.to_json()})
    else:
        _print(proposal)
    say(f"\n{path}\nnext: scaling plan {path}; scaling launch {path}")


def _print(proposal: Proposal) -> None:
    header = ("line", "shape", "for", "seed", "runs", "budget", "tokens", "steps", "FLOPs")
    rows = (
        (
            cell.line,
            cell.key.shape,
            proposal.purpose(cell),
            ", ".join(str(planned.run.seed) for planned in cell.points),
            len(cell.runs),
            None if cell.budget is None else f"{cell.budget:.3g}",
            format_number(cell.points[0].run.tokens),
            cell.points[0].run.steps,
            f"{cell.compute:.3g}",
        )
        for cell in proposal.cells
    )
    print_table(header, rows, title=f"{proposal.runs} runs for {proposal.compute:.3g} FLOPs", left=4)
    for one in proposal.decided:
        click.echo(f"\n{one.line} against {one.reference}: {one}.")
    for sentence in proposal.sentences:
        click.echo(f"\n{sentence}.")
    if sharper := proposal.sharper:
        click.echo(f"\nStandard deviation of the predicted loss at {sharper.target:.3g} FLOPs:")
        changes = ((line, f"{before:.2%}", f"{sharper.after[line]:.2%}") for line, before in sharper.before.items())
        print_table(("line", "now", "with these runs"), changes)
