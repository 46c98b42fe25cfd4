"""`collect --records`, `import`, and `report` of a table alone: results that outlive the machine they were made on."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from micro_sweep import MICRO

from scaling.cli import main

SWEEP = "sweeps/micro.yaml"
TRAVELLING = ("records.jsonl", "curves.csv")


@pytest.fixture(scope="session")
def collected(launched, tmp_path_factory: pytest.TempPathFactory):
    """What `collect --records` of the launched sweep wrote, in a folder of its own; `launched` stays as it is."""
    root = tmp_path_factory.mktemp("collected")
    shutil.copytree(launched.root, root, dirs_exist_ok=True)
    assert main(["collect", str(root / SWEEP), "--records"]) == 0
    return root


def test_a_lost_machine_costs_nothing_that_was_collected(collected: Path, scaling) -> None:
    results = scaling.root / "results" / "micro"
    results.mkdir(parents=True)
    for name in TRAVELLING:
        shutil.copy(collected / "results" / "micro" / name, results)
    told = scaling("import", "results/micro").stderr
    assert "26 runs restored, 0 were there already" in told
    assert "next: scaling launch" in told
    started = scaling.json("launch", SWEEP, "--yes")
    assert (started["submitted"], started["skipped"]) == (0, 26)
    scaling("collect", SWEEP, "--records")
    for name in ("runs.csv", *TRAVELLING):
        assert (results / name).read_bytes() == (collected / "results" / "micro" / name).read_bytes(), name
    run_id = json.loads((results / "records.jsonl").read_text().splitlines()[0])["id"]
    refused = scaling("export", SWEEP, run_id, "--out", "exported", status=1).stderr
    assert "was imported from records, which hold no weights" in refused
    assert not (scaling.root / "exported").exists()
    text = scaling.root / "more.txt"
    text.write_text("def f(x):\n    return x\n\n" * 200)
    refused = scaling("evaluate", SWEEP, "--data", "more.txt", status=1).stderr
    assert f"not evaluated: run {run_id} was imported from " in refused
    assert "no run is finished with its weights in this store" in refused


def test_records_are_the_same_bytes_each_time(collected: Path) -> None:
    before = [(collected / "results" / "micro" / name).read_bytes() for name in TRAVELLING]
    assert main(["collect", str(collected / SWEEP), "--records"]) == 0
    assert [(collected / "results" / "micro" / name).read_bytes() for name in TRAVELLING] == before


def test_import_names_what_it_cannot_restore(collected: Path, tmp_path: Path, capsys) -> None:
    results = tmp_path / "results" / "micro"
    results.mkdir(parents=True)
    lines = (collected / "results" / "micro" / "records.jsonl").read_text().splitlines()
    (results / "records.jsonl").write_text("\n".join([lines[0], lines[1][:200], *lines[2:]]) + "\n")
    store = tmp_path / "store"
    assert main(["import", str(results / "records.jsonl"), "--store", str(store)]) == 1
    told = capsys.readouterr().err
    assert f"not restored: {results / 'records.jsonl'}:2: the line is damaged" in told
    assert "25 runs restored" in told
    assert len(list(store.iterdir())) == 25
    assert main(["import", str(tmp_path / "nothing")]) == 1
    assert "the records cannot be read" in capsys.readouterr().err


def files(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of everything below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_report_needs_only_the_table(collected: Path, tmp_path: Path, capsys) -> None:
    """Twice the same bytes; with the sweep's settings where it is there."""
    results = tmp_path / "results" / "micro"
    results.mkdir(parents=True)
    shutil.copy(collected / "results" / "micro" / "runs.csv", results)
    assert main(["report", str(results / "runs.csv")]) == 0
    alone = files(results)
    assert "report.html" in alone
    assert MICRO.splitlines()[1].removeprefix("question: ").encode() not in alone["report.html"]
    (tmp_path / "sweeps").mkdir()
    (tmp_path / SWEEP).write_text(MICRO)
    assert main(["report", str(results)]) == 0
    settled = files(results)
    assert MICRO.splitlines()[1].removeprefix("question: ").encode() in settled["report.html"]
    assert b"50 bootstrap draws" in settled["report.html"]
    assert "tables/predictions.csv" in settled
    shutil.rmtree(results / "figures")
    assert main(["report", os.path.relpath(results)]) == 0
    assert files(results) == settled
    assert not (tmp_path / ".scaling").exists()


def test_a_table_without_finished_runs_says_so(tmp_path: Path, collected: Path, capsys) -> None:
    table = (collected / "results" / "micro" / "runs.csv").read_text()
    (tmp_path / "runs.csv").write_text(table.replace(",completed,", ",failed,"))
    assert main(["report", str(tmp_path)]) == 1
    assert "no run is a data point yet\n  found:   26 × failed\n" in capsys.readouterr().err
