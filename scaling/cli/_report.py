"""What a report says on the screen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaling.cli._screen import say

if TYPE_CHECKING:
    from scaling.report.html import WrittenReport


def say_report(report: WrittenReport) -> None:
    """The report's first sentence, where it is, and what of it could not be made."""
    say(report.sentence)
    for failure in report.failures:
        say(f"not made: {failure.part}: {failure.reason}")
    say(f"report: {report.page}")
