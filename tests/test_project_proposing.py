"""What `next` proposes for a study without a verdict: the quickstart of 0.1, which trained at other rates."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scaling import Project, ScalingError
from scaling.analysis.decisive_runs import decisive_runs
from scaling.project.proposing import preferred
from scaling.sweeps.candidates import candidates

STUDIES = Path(__file__).parent / "studies"


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Project:
    root = tmp_path_factory.mktemp("quickstart")
    (root / "sweeps").mkdir()
    (root / "results" / "quickstart").mkdir(parents=True)
    shutil.copy(STUDIES / "undecided.yaml", root / "sweeps" / "quickstart.yaml")
    shutil.copy(STUDIES / "undecided.csv", root / "results" / "quickstart" / "runs.csv")
    return Project.open(root / "sweeps" / "quickstart.yaml")


def test_few_valid_runs_under_a_name_of_its_own_that_plan_without_errors(quickstart: Project) -> None:
    proposal = quickstart.propose(spend=1e12, target=1e13)
    assert 0 < proposal.runs < 20
    assert proposal.compute <= 1e12
    assert min(run.run.steps for cell in proposal.cells for run in cell.runs) >= 500
    path = quickstart.path.with_name(f"{proposal.name}.yaml")
    path.write_text(proposal.text)
    again = Project.open(path)
    assert again.name == "quickstart-next"
    priced = again.plan()
    assert not [check for check in priced.checks if check.severity == "error"]
    before = {row.id for row in quickstart.plan().rows()}
    added = {run.run.id for cell in proposal.cells for run in cell.runs}
    assert {row.id for row in priced.rows()} == before | added
    assert quickstart.propose(spend=1e12, target=1e13).name == "quickstart-next-2"
    path.unlink()


def test_a_comparison_is_decided_before_a_prediction_is_sharpened(quickstart: Project) -> None:
    proposal = quickstart.propose(spend=1e15, target=1e13)
    assert proposal.decided
    assert {proposal.purpose(cell) for cell in proposal.cells} >= {"prediction", "low_rank@0.25 against dense"}
    document = proposal.to_json()
    assert [one["chance"] >= 0.5 for one in document["verdicts"]] == [True] * len(proposal.decided)
    assert sum(len(cell["runs"]) for cell in document["cells"]) == proposal.runs


def test_what_cannot_be_paid_is_said(quickstart: Project) -> None:
    with pytest.raises(ScalingError, match="is not resolved"):
        quickstart.propose(spend=3e10)
    with pytest.raises(ScalingError, match="recipe of this sweep is valid"):
        quickstart.propose(spend=1e6, target=1e13)


def test_more_runs_make_a_verdict_likelier(quickstart: Project) -> None:
    """Two larger budgets tell more than one, and what is preferred is likely and no dearer than it must be."""
    study = quickstart_study(quickstart)
    compared = next(one for one in study.comparisons if one.line.name == "low_rank@0.25")
    own = quickstart.planned({})
    ways = decisive_runs(compared, candidates(own, vocab_size=256), convention="exact")
    chance = {way.what: way.chance for way in ways}
    assert chance["2 larger budgets"] > chance["1 larger budget"]
    assert chance["1 larger budget and 3 further seeds of every cell"] > chance["3 further seeds of every cell"]
    best = preferred(ways)
    assert best is not None
    assert best.chance >= max(way.chance for way in ways) - 0.05 or best.likely
    assert preferred([way for way in ways if way.chance < 0.5]) is None


def quickstart_study(project: Project):
    from scaling.analysis.study import study_rows
    from scaling.rows import read_runs

    return study_rows(read_runs(project.table), settings=project.settings)
