"""The command line: one file per verb, which parses, calls `scaling.project` or what is below it, and prints.

Exit status: 0 done; 1 something the user must see; 2 wrong usage, or a question without a terminal and without
`--yes`; 130 after Ctrl-C. A user's mistake prints what, where, what was found, what is allowed and the next command,
never a traceback. An unexpected error, which is ours, leaves its traceback in a file and says how to report it. With
`--json` one object goes to standard output and nothing else does; messages go to standard
error.
"""

from __future__ import annotations

import atexit
import errno
import gc
import sys
import tempfile
import traceback
from importlib import import_module
from pathlib import Path

import click

from scaling.cli._screen import say
from scaling.errors import ScalingError
from scaling.locks import IN_ITS_PLACE, unwritable

# what the state of a machine or a disk can answer at any moment; where else an OSError comes from is our mistake
STATES = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE}
STATES |= IN_ITS_PLACE | {errno.ENAMETOOLONG}

# every verb, in the order `scaling --help` shows them: a command of this name in a module of this name, which is
# imported when the verb is used
VERBS = (
    *("plan", "launch", "work", "status", "show", "logs", "list", "cancel"),
    *("collect", "fit", "predict", "compare", "report", "import", "laws"),
    *("init", "next", "export", "generate", "evaluate", "doctor"),
)


class _Verbs(click.Group):
    """Imports a verb's module when the verb is used, so that `plan` never pays for what `fit` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*VERBS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        name = "import_records" if cmd_name == "import" else cmd_name  # a keyword of Python
        command = getattr(import_module(f"scaling.cli.{name}"), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="scaling-orchestrator")
def scaling() -> None:
    """Scaling laws of dense and natively low-rank transformers: plan, train, fit, compare."""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; the process's exit status."""
    gc.set_threshold(100_000, 50, 50)  # a plan of 20,000 runs is a million objects that live to the end
    atexit.register(gc.freeze)  # and then nobody has to look through them for cycles
    try:
        status = scaling.main(arguments, prog_name="scaling", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except ScalingError as error:
        say(f"error: {error}")
        return 1
    except BrokenPipeError:  # `scaling status | head`
        sys.stderr.close()
        return 1
    except Exception as error:  # noqa: BLE001  (the last handler: whatever is left is told, kept and reported)
        say(f"error: {_unexpected(error)}")
        return 1
    return status if isinstance(status, int) else 0


def _unexpected(error: Exception) -> ScalingError:
    """The message of an unexpected error."""
    if isinstance(error, OSError) and error.errno in STATES and error.filename is not None:
        return unwritable(Path(str(error.filename)).parent, error)
    return ScalingError(
        "something failed that should not have, and it is not your mistake",
        got=f"{type(error).__name__}: {error}",
        hint=f"please report it with {_kept(error)}, the command and the sweep file, where you found this package",
    )


def _kept(error: Exception) -> str:
    """The file that holds the traceback of `error`."""
    try:
        handle, name = tempfile.mkstemp(prefix="scaling-error-", suffix=".txt")
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123  (a descriptor)
            traceback.print_exception(error, file=file)
    except OSError as full:
        return f"this message (its traceback could not be written: {full})"
    return name
