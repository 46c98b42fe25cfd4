"""Checks for a page: one item per code, which names the lines it concerns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scaling.checks import CODES, Check, Severity, by_severity


@dataclass(frozen=True)
class CheckGroup:
    """All checks of one code: a sentence, and the messages where there are several."""

    code: str
    severity: Severity
    sentence: str
    messages: tuple[str, ...]
    advice: str


def grouped(checks: Sequence[Check], lines: Sequence[str]) -> list[CheckGroup]:
    """One group per code, the most severe first; of several messages the sentence is the code's meaning."""
    groups: dict[str, list[Check]] = {}
    for check in by_severity(checks):
        groups.setdefault(check.code, []).append(check)
    return [_group(code, own, lines) for code, own in groups.items()]


def _group(code: str, checks: list[Check], lines: Sequence[str]) -> CheckGroup:
    first, messages = checks[0], tuple(check.message for check in checks)
    if len(checks) == 1:
        return CheckGroup(code, first.severity, first.message, (), first.advice)
    meaning = next((one.meaning for one in CODES if one.code == code), first.message)
    named = [line for line in lines if any(line in message for message in messages)]
    concerns = f" Here: {', '.join(named)}." if named else ""
    return CheckGroup(code, first.severity, meaning + concerns, messages, first.advice)
