"""The attempts of a run on the screen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from scaling.cli._screen import printable

if TYPE_CHECKING:
    from scaling.project.run_history import Tried


def print_attempt(tried: Tried, *, traceback: bool) -> None:
    """Who, with which code, where its metrics are, the last of them, and its error."""
    attempt, owner = tried.attempt, tried.attempt.owner
    job = f", job {owner.job_id}" if owner.job_id else ""
    code = owner.code_change or f"code {owner.code_version}"
    lines = [
        f"attempt {attempt.number} on {owner.host} (pid {owner.pid}{job}), {code}",
        f"  metrics: {attempt.metrics_path}",
    ]
    if attempt.damaged:
        lines[0] = f"attempt {attempt.number}: {attempt.damaged}"
    lines += [f"  job log: {path}" for path in tried.job_logs]
    if record := attempt.last_record():
        lines.append(f"  last:    {json.dumps(record)}")
    if error := attempt.error():
        lines.append(f"  error:   {error['message']}")
        if traceback:
            lines.append("  " + error["traceback"].rstrip().replace("\n", "\n  "))
    click.echo(printable("\n".join(lines)))
