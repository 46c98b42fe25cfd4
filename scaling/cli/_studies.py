"""The study of what a person named: a sweep's last launch, or a table, once for each of its losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scaling.cli._fit_options import FitOptions
from scaling.cli._screen import say
from scaling.cli._serving_options import ServingOptions
from scaling.files import JsonObject

if TYPE_CHECKING:
    from scaling.analysis.study import Study
    from scaling.analysis.table.decisions import TableReport

_MANY = 100  # runs that take several seconds to fit and compare


@dataclass(frozen=True)
class StudyOfTable:
    """A study and how its table was read; None for a sweep."""

    study: Study
    report: TableReport | None = None

    @property
    def loss(self) -> str | None:
        """What the table calls the loss."""
        return None if self.report is None else self.report.mapping["loss"]

    def print_report(self) -> None:
        """How the table was read, in a few lines."""
        if self.report is not None:
            click.echo("\n".join(self.report.lines()) + "\n")


def studies_of(
    table: Path, root: Path | None, options: FitOptions, serving: ServingOptions | None = None
) -> list[StudyOfTable]:
    """The study of a sweep's last launch, or one for each loss of a foreign table.

    Options given on the line replace the settings.
    """
    from scaling.analysis.settings import Settings
    from scaling.analysis.study import settings_for_table, study_rows
    from scaling.analysis.table_reader import load_table
    from scaling.laws.forms import form_named

    def chosen(written: Settings) -> Settings:
        settings = options.settings(written)
        return settings if serving is None else serving.settings(settings)

    if options.law is not None:
        form_named(options.law)
    if table.suffix in (".yaml", ".yml"):
        options.table.refuse_for_ours()
        from scaling.cli._project import open_project

        project = open_project(table, root)
        return [_announced(StudyOfTable(project.study(chosen(project.settings))))]
    studies = []
    for choice in options.table.options():
        read = load_table(table, choice)
        settings = settings_for_table(read.rows, chosen(Settings()))
        studies.append(_announced(StudyOfTable(study_rows(read.rows, settings=settings), read.report)))
    return studies


def _announced(study: StudyOfTable) -> StudyOfTable:
    """The study, whose laws are fitted when they are asked for: a line before some seconds of silence."""
    count = sum(len(line.points) for line in study.study.lines)
    if count >= _MANY:
        say(f"fitting {count} runs of {len(study.study.lines)} lines")
    return study


def named_by_loss(studies: Sequence[StudyOfTable], parts: Sequence[JsonObject], key: str) -> list[JsonObject]:
    """The entries under `key` of the documents of all studies, with `metric`, the loss, where there are several."""
    return [
        entry if len(studies) == 1 else {"metric": one.loss} | entry
        for one, part in zip(studies, parts, strict=True)
        for entry in part[key]
    ]


def tables_json(studies: Sequence[StudyOfTable]) -> JsonObject:
    """How the table was read: `table`, and `tables` by loss where there are several; nothing for a sweep."""
    reports = [one.report.to_json() for one in studies if one.report is not None]
    if not reports:
        return {}
    return {"table": reports[0]} | ({"tables": reports} if len(reports) > 1 else {})
