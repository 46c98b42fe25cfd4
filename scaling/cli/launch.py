"""`scaling launch`: plan, price, confirm, act; the way to go on after anything that stopped it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click

from scaling.cli._options import json_option, root_option, runner_option, sweep_argument
from scaling.cli._plan_tables import print_plan
from scaling.cli._progress import Progress
from scaling.cli._project import Spoken, open_project
from scaling.cli._report import say_report
from scaling.cli._screen import print_json, say
from scaling.project.launching import Launched
from scaling.results.launches import Launch
from scaling.results.status import RunStatus
from scaling.sweeps.price import Priced


@click.command()
@sweep_argument
@runner_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Print what would be submitted, and submit nothing.")
@click.option("--wait", is_flag=True, help="On a cluster: stay until every run has ended, with progress.")
@click.option("--replan", is_flag=True, help="Accept that the plan differs from the last launch.")
@root_option
@json_option
def launch(
    sweep: Path,
    runner: Path | None,
    yes: bool,
    dry_run: bool,
    wait: bool,
    replan: bool,
    root: Path | None,
    as_json: bool,
) -> int:
    """Train what has no result yet, then collect, fit and report. Safe to repeat at any moment."""
    project = open_project(sweep, root, _LaunchScreen(show_plan=not as_json))
    confirm = True if yes else _confirm
    done = project.launch(runner, dry_run=dry_run, wait=wait, replan=replan, confirm=confirm)
    if dry_run:
        _print_dry_run(done, as_json=as_json)
        return 0
    if as_json:
        print_json(_document(done))
    if done.report is None:
        say(f"next: scaling status {project.path}")
        return 0
    say("")
    say_report(done.report)
    return 1 if done.failed else 0


class _LaunchScreen(Spoken):
    """The plan on standard output, messages and progress on standard error; TERM is heard like Ctrl-C while workers
    of this process train.
    """

    def __init__(self, *, show_plan: bool) -> None:
        self._show_plan = show_plan
        self._progress = Progress()
        self.interval_s = self._progress.interval_s

    def planned(self, plan: Priced, todo: int) -> None:
        """Show the plan."""
        if self._show_plan:
            print_plan(plan, todo=todo)

    def submitting(self, launch: Launch, *, attached: bool) -> None:
        """Let TERM stop the workers before this process."""
        if attached:
            signal.signal(signal.SIGTERM, _raise_interrupt)

    def training(self, launch: Launch, *, slots: int) -> None:
        """Begin to show progress."""
        self._progress.start(slots)

    def progress(self, runs: Sequence[RunStatus]) -> None:
        """Draw the state of all runs."""
        self._progress.show(runs)

    def ended(self) -> None:
        """Take the picture away."""
        self._progress.stop()


def _confirm(plan: Priced, todo: int) -> bool:
    question = f"Train {todo} runs?"
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} There is no terminal to answer on: add --yes, or --dry-run to look first.")
    return click.confirm(question, abort=True, err=True)


def _print_dry_run(done: Launched, *, as_json: bool) -> None:
    """Print exactly what would be submitted."""
    if as_json:
        print_json(_document(done) | {"submitted": 0, "scripts": list(done.scripts)})
    elif done.scripts:
        click.echo("\n".join(done.scripts))
    say(f"dry run: {len(done.submitted)} of {len(done.planned)} runs would be trained; nothing was started")


def _document(done: Launched) -> dict[str, object]:
    submitted = len(done.submitted)
    skipped = len(done.planned) - submitted
    return {"launch": done.number, "submitted": submitted, "skipped": skipped, "jobs": list(done.jobs)}


def _raise_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
