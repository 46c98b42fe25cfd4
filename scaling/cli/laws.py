"""`scaling laws`: the catalogue of published laws."""

from __future__ import annotations

import click

from scaling.cli._options import json_option
from scaling.cli._screen import print_json, print_table


@click.command()
@click.argument("name", required=False)
@json_option
def laws(name: str | None, as_json: bool) -> None:
    """Published scaling laws: exponents, conventions and source; with NAME everything about one."""
    from scaling.laws.published import CATALOGUE, published

    chosen = [published(name)] if name else list(CATALOGUE.values())
    if as_json:
        print_json({"laws": [law.to_json() for law in chosen]})
    elif name:
        click.echo(chosen[0].text())
    else:
        header = ("name", "N counts", "tokenizer", "fitted at", "N ∝ C^", "D ∝ C^", "gives")
        print_table(header, (law.row() for law in chosen), left=4)
        click.echo("\nnext: scaling laws NAME shows source, parameters and what was checked")
        click.echo("      scaling predict --published NAME --compute C predicts from one")
