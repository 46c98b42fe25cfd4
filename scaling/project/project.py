"""The object that a script, a notebook and the command line work with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.project.opened import OpenSweep
from scaling.results.launches import Launch, all_launches
from scaling.results.status import RunStatus
from scaling.rows import write_runs
from scaling.runners.runner_file import load_runner
from scaling.runners.scheduler import Cancelled

if TYPE_CHECKING:
    from scaling.analysis.settings import Settings
    from scaling.analysis.study import Study
    from scaling.analysis.table.reading import TableOptions
    from scaling.project.importing import Imported
    from scaling.project.launching import Confirm, Launched
    from scaling.project.proposing import Proposal
    from scaling.project.run_history import RunHistory
    from scaling.project.sweep_status import SweepStatus
    from scaling.project.weights import Evaluation, Generated
    from scaling.report.html import WrittenReport
    from scaling.rows import RunRow
    from scaling.sweeps.price import Priced


@dataclass(frozen=True)
class Project(OpenSweep):
    """A sweep and everything that can be done with it; `Project.open` makes one.

    Any number of projects and commands may work on one sweep at once: they meet in the store. Verbs after `launch`
    are about the last launch, and raise ScalingError where there is none. A runner file is named by its path; without
    one, this machine is used, with one worker per core.
    """

    def plan(self, runner: Path | str | None = None) -> Priced:
        """The grid of runs and its price; nothing is run. Raises PlanError, SpecError, DataError."""
        from scaling.project.planning import priced

        return priced(self, load_runner(_path(runner)))

    def launch(
        self,
        runner: Path | str | None = None,
        *,
        dry_run: bool = False,
        wait: bool = False,
        replan: bool = False,
        confirm: Confirm | bool = True,
    ) -> Launched:
        """Train what has no result yet, then collect, fit and report. Safe to repeat at any moment.

        On this machine it returns when all is trained. It changes no signal handler: Ctrl-C (KeyboardInterrupt) lets
        every run checkpoint first, and TERM, which `cancel` sends, ends the process; its workers see that, checkpoint
        and leave.

        Args:
            runner: the runner file.
            dry_run: start nothing; the result has what would have been submitted.
            wait: on a cluster, stay until every run has ended; else jobs are submitted and go on by themselves.
            replan: accept that the plan differs from the last launch.
            confirm: asked, with the plan and how many runs would be trained, before anything is started.

        Raises:
            ScalingError: the plan cannot be run, differs from the last launch, or was not confirmed.
            SpecError, PlanError, DataError, StoreError, RunnerError: as their docstrings say.
            KeyboardInterrupt: Ctrl-C, or somebody else stopped the workers.
        """
        from scaling.project.launching import launch

        return launch(self, _path(runner), dry_run=dry_run, wait=wait, replan=replan, confirm=confirm)

    def status(self, launch: Launch | None = None) -> SweepStatus:
        """How the runs stand.

        Args:
            launch: of this launch in place of the last one.
        """
        from scaling.project.sweep_status import sweep_status

        return sweep_status(self, launch or self.current_launch())

    @property
    def runs(self) -> list[RunStatus]:
        """Every run of the last launch as it stands."""
        return self.statuses(self.last_launch)

    def history(self, run: str) -> RunHistory:
        """Settings, attempts and loss curve of one run.

        Args:
            run: an id or its beginning, or a label (`find`).
        """
        from scaling.project.run_history import run_history

        launch = self.current_launch()
        return run_history(self, launch, self.find(launch, run))

    def cancel(self) -> Cancelled:
        """Ask all launches of this sweep to checkpoint and stop; the next launch continues. Raises RunnerError."""
        newest = {(one.runner, one.store): one for one in all_launches(self.root, self.name)}
        answers = [self.scheduler_of(launch).cancel(set(launch.ids)) for launch in newest.values()]
        messages = dict.fromkeys(message for one in answers for message in one.messages)
        return Cancelled(tuple(job for one in answers for job in one.jobs), tuple(messages))

    def collect(self, *, records: bool = False) -> list[RunRow]:
        """Write `results/<sweep>/runs.csv` (`table`); its rows.

        Args:
            records: also write records.jsonl, which `scaling import` restores into a store, and curves.csv.
        """
        from scaling.project.reporting import rows_without_launch, write_records_and_curves, write_table

        if (imported := rows_without_launch(self)) is not None:
            write_runs(self.table, imported)
            return imported
        launch = self.current_launch()
        runs = self.statuses(launch)
        rows = write_table(self, launch, runs)
        if records:
            write_records_and_curves(self, launch, runs)
        return rows

    @property
    def settings(self) -> Settings:
        """How this sweep is studied: its `analysis:` block, with what was measured of devices. Change it with
        `dataclasses.replace` and hand it to `study`.
        """
        from scaling.project.reporting import settings_of_sweep

        return settings_of_sweep(self)

    def study(self, settings: Settings | None = None) -> Study:
        """Laws, intervals and comparisons of the finished runs.

        Args:
            settings: in place of the sweep's own.

        Raises:
            FitError: no run is a data point.
        """
        from scaling.analysis.study import study_rows
        from scaling.project.reporting import rows_of, rows_without_launch

        if (rows := rows_without_launch(self)) is None:
            launch = self.current_launch()
            rows = rows_of(self, launch, self.statuses(launch))
        return study_rows(rows, settings=settings or self.settings)

    def propose(self, *, spend: float, target: float | None = None) -> Proposal:
        """Runs to add: those that decide comparisons, then those that sharpen predictions; nothing is written.

        Args:
            spend: training FLOPs to spend at most.
            target: training FLOPs at which predictions should sharpen; None: only comparisons count.

        Raises:
            ScalingError: no run is finished, or nothing can be added; the message says why.
        """
        from scaling.project.proposing import proposed

        return proposed(self, spend=spend, target=target)

    def report(self) -> WrittenReport:
        """Write runs.csv, tables, figures and report.html of what is finished now."""
        from scaling.project.reporting import report_on, report_without_launch, rows_without_launch

        if (rows := rows_without_launch(self)) is not None:
            return report_without_launch(self, rows)
        launch = self.current_launch()
        return report_on(self, launch, self.statuses(launch))

    def import_table(
        self, table: Path | str, options: TableOptions | None = None, *, line: str | None = None
    ) -> Imported:
        """Take final losses of runs that were trained elsewhere into the studies of this sweep, and collect.

        Args:
            table: any table of sizes, tokens and losses, best with the shapes of its models.
            options: how it is read.
            line: the line that its runs join; else that of its column `family`, or the name of the table.

        Raises:
            DataError: the table cannot be read, or lacks what the study needs.
        """
        from scaling.analysis.table.reading import TableOptions
        from scaling.project.importing import import_table

        imported = import_table(self, Path(table), options or TableOptions(), line=line)
        self.collect()
        return imported

    def export(self, run: str, out: Path | str) -> str:
        """Write the model of a finished run as a Hugging Face folder, with tokenizer and model card; the run's id.

        Raises TrainingError.
        """
        from scaling.project.weights import export_run

        return export_run(self, run, Path(out))

    def export_curves(self, tracker: str, out: Path | str, run: str | None = None) -> int:
        """Write the training curves of finished runs for a tracker; how many runs.

        Args:
            tracker: csv, tensorboard, wandb or trackio; nothing is sent anywhere.
            out: the folder.
            run: one run, an id or its beginning, or a label; None: every finished one.
        """
        from scaling.project.trackers import export_curves

        return export_curves(self, tracker, Path(out), run)

    def generate(self, run: str, prompt: str, tokens: int = 64) -> Generated:
        """What a finished run writes after `prompt`, its most likely tokens one by one.

        Args:
            run: an id or its beginning, or a label (`find`).
            prompt: a text of at least one token.
            tokens: new ones; with the prompt at most the sequence length of training.
        """
        from scaling.project.weights import generate_text

        return generate_text(self, run, prompt, tokens)

    def evaluate(self, data: Path | str, name: str | None = None) -> Sequence[Evaluation]:
        """The loss of every finished run on one more validation set, kept for `collect`.

        Args:
            data: text, JSONL or Parquet.
            name: of the set, and of its columns in runs.csv; that of the file unless it is named.
        """
        from scaling.project.weights import evaluate_runs

        return evaluate_runs(self, Path(data), name)


def _path(runner: Path | str | None) -> Path | None:
    return None if runner is None else Path(runner)
