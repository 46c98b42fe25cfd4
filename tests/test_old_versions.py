"""Everything that version 0.1 wrote is read: `tests/data/written-by-0.1/README.md` says how it came about."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from scaling.analysis.table_reader import read_table
from scaling.analysis.training_costs import models_of_rows
from scaling.cli import main
from scaling.results.launches import last_launch
from scaling.results.store import Store
from scaling.rows import CellKey, read_runs

WRITTEN = Path(__file__).parent / "data" / "written-by-0.1"
UNFINISHED = "984ee92f11c50be5"  # a low-rank run, interrupted at step 6263 of 19148


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what 0.1 wrote, as a project folder."""
    root = tmp_path / "project"
    shutil.copytree(WRITTEN / "sweeps", root / "sweeps")
    shutil.copytree(WRITTEN / "dot-scaling", root / ".scaling")
    for launch in root.glob(".scaling/launches/*/*.json"):
        launch.write_text(launch.read_text().replace("@ROOT@", str(root)))
    return root


def written_rows() -> list[dict[str, str]]:
    with (WRITTEN / "runs.csv").open() as file:
        return list(csv.DictReader(file))


def test_a_launch_has_its_rows(project):
    launch = last_launch(project, "micro")
    assert launch is not None
    assert [(row.id, str(row.cell)) for row in launch.rows] == [(row["id"], row["cell"]) for row in written_rows()]
    first = launch.rows[0]
    assert first.cell == CellKey("dense", "7e+07", "d8L1")
    assert (first.line, first.rank_of, first.shape.ff_width, first.steps) == ("dense", None, 24, 116)
    assert all(row.run.id == row.id for row in launch.rows), "the settings still hash to the id"
    assert {check.code for check in launch.plan_checks} >= {"few_steps", "embedding_share"}


def test_the_store_has_its_results_and_attempts(project):
    store = Store(project / ".scaling" / "store")
    for row in written_rows():
        assert store.run(row["id"]).id == row["id"]
        assert store.result(row["id"]).loss_nats == float(row["loss"])
        attempt = store.newest(row["id"])
        assert (attempt.number, attempt.error(), attempt.last_record()["event"]) == (1, None, "completed")
    assert store.result(UNFINISHED) is None
    assert store.newest(UNFINISHED).owner.host == "another-host"


def test_status_and_collect_go_on_from_the_launch(project, capsys):
    sweep = str(project / "sweeps" / "micro.yaml")
    assert main(["status", sweep, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["counts"]["completed"] == len(document["runs"]) == 26
    assert main(["status", sweep]) == 0
    assert "26 completed; nothing left to train" in capsys.readouterr().out
    assert main(["collect", sweep]) == 0
    with (project / "results" / "micro" / "runs.csv").open() as file:
        again = list(csv.DictReader(file))
    old = written_rows()
    assert [{name: row[name] for name in old[0]} for row in again] == old
    assert {(row["kv_heads"], row["tied"]) for row in again} == {("1", "False")}
    assert {row["rank_down"] for row in again if row["line"] == "low_rank@0.25"} >= {"6", "10"}


def test_a_table_has_the_columns_it_had_and_none_for_the_others():
    rows = read_runs(WRITTEN / "runs.csv")
    assert list(read_table(WRITTEN / "runs.csv")) == rows
    assert [(row.id, row.loss) for row in rows] == [(row["id"], float(row["loss"])) for row in written_rows()]
    assert {(row.kv_heads, row.tied, row.rank_of, row.rank_q, row.sets) for row in rows} == {(None,) * 4 + ((),)}
    ranks = {shape.width: found["down"] for shape, found in models_of_rows([r for r in rows if r.rank_ratio])}
    assert ranks == {8: 6, 12: 8, 16: 10}, "the models follow from the parameters that were counted"


def test_training_goes_on_from_a_checkpoint(project):
    from scaling.data.shards import TokenData, ValidationSet
    from scaling.training.checkpoint import read_newest
    from scaling.training.loop import Stopped, train

    store = Store(project / ".scaling" / "store")
    corpus = last_launch(project, "unfinished").corpus_hash
    run, folder = store.run(UNFINISHED), store.checkpoints(UNFINISHED)
    checkpoint = read_newest(folder, run_id=run.id, corpus_hash=corpus, steps=run.steps, tell=pytest.fail)
    assert (checkpoint.run_id, checkpoint.step) == (run.id, 6263)
    tokens = np.random.default_rng(0).integers(0, 256, 8000).astype(np.uint16)
    held = ValidationSet("validation", tokens[:500], np.array([0]), np.array([500]), 64)
    data = TokenData(corpus, project, 256, tokens, {"validation": held}, {})  # the corpus itself is not kept here
    records, steps = [], iter([False] * 3)
    stop = lambda: next(steps, True)  # noqa: E731
    outcome = train(run, data=data, folder=folder, attempt=2, stop=stop, owns=lambda: True, log=records.append)
    assert outcome == Stopped(6266)
    assert records[0]["step"] == 6263
