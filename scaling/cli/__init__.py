"""The command line: one function per verb, which parses, joins the parts below, and prints.

Exit status: 0 done; 1 something the user must see; 2 wrong usage, or a question without a terminal and without
`--yes`; 130 after Ctrl-C. A user's mistake prints what, where, what was found, what is allowed and the next command,
never a traceback. With `--json` one object goes to standard output and nothing else does; messages go to standard
error.
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

from scaling.errors import ScalingError

# verb -> the module of this package that holds it, in the order `scaling --help` shows them; a module is imported
# when its verb is used
VERBS = {
    "plan": "planning",
    "launch": "launching",
    "work": "work",
    "status": "following",
    "logs": "following",
    "cancel": "following",
    "collect": "reporting",
    "fit": "reporting",
    "predict": "reporting",
    "compare": "reporting",
    "report": "reporting",
    "import": "import_records",
    "laws": "reporting",
    "init": "planning",
    "next": "designing",
    "export": "models",
    "evaluate": "models",
    "doctor": "machine",
}


class _Verbs(click.Group):
    """Imports a verb's module when the verb is used, so that `plan` never pays for what `fit` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        name = "import_records" if cmd_name == "import" else cmd_name  # a keyword of Python
        command = getattr(import_module(f"scaling.cli.{VERBS[cmd_name]}"), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="scaling-orchestrator")
def scaling() -> None:
    """Scaling laws of dense and natively low-rank transformers: plan, train, fit, compare."""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; the process's exit status."""
    try:
        status = scaling.main(arguments, prog_name="scaling", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except ScalingError as error:
        click.echo(f"error: {error}", err=True)
        return 1
    except BrokenPipeError:  # `scaling status | head`
        sys.stderr.close()
        return 1
    return status if isinstance(status, int) else 0
