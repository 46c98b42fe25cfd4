"""`scaling import TABLE --sweep SWEEP`: runs that were trained elsewhere in the studies of a sweep."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from scaling.cli import main
from scaling.rows import read_runs
from scaling.run import Shape
from scaling.sweeps.counting import count, training_flops

ROOT = Path(__file__).parent.parent.parent
SWEEP = "sweeps/quickstart.yaml"
HEADER = "run,n_layer,n_embd,n_head,intermediate_size,vocab_size,block_size,total_tokens,val/loss"


@dataclass(frozen=True)
class Done:
    status: int
    out: str
    err: str


Run = Callable[..., Done]


def shapes() -> list[Shape]:
    return [Shape(layers, width, 2, 3 * width, 256) for layers, width in ((1, 16), (1, 32), (2, 32), (2, 64))]


def table(header: str = HEADER, ending: str = "", extra: str = "") -> str:
    lines = [header + ending]
    for shape in shapes():
        for tokens in (300_000, 1_000_000, 3_000_000):
            loss = 1.2 + 60 / count(shape).params_matmul ** 0.45 + 300 / tokens**0.4
            sizes = (shape.layers, shape.width, shape.heads, shape.ff_width, 256, 128, tokens)
            lines.append(f"r{len(lines)},{','.join(map(str, sizes))},{loss:.5f}{extra}")
    return "\n".join(lines) + "\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The quickstart with its committed table, never launched here, and a table of 12 runs of nanochat."""
    (tmp_path / "sweeps").mkdir()
    shutil.copy(ROOT / SWEEP, tmp_path / "sweeps")
    (tmp_path / "results" / "quickstart").mkdir(parents=True)
    shutil.copy(ROOT / "results" / "quickstart" / "runs.csv", tmp_path / "results" / "quickstart")
    (tmp_path / "nanochat.csv").write_text(table())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*arguments: str) -> Done:
        status = main(list(arguments))
        said = capsys.readouterr()
        assert "not your mistake" not in said.err, said.err
        return Done(status, said.out, said.err)

    return command


def test_shapes_are_counted_as_ours(project: Path, run: Run) -> None:
    done = run("import", "nanochat.csv", "--sweep", SWEEP)
    assert done.status == 0, done.err
    assert "12 runs of nanochat.csv, as nanochat" in done.err
    rows = read_runs(project / "results" / "quickstart" / "runs.csv")
    before = read_runs(ROOT / "results" / "quickstart" / "runs.csv")
    assert rows[: len(before)] == before
    imported = rows[len(before) :]
    assert {(row.imported, row.line, row.status) for row in imported} == {("nanochat.csv", "nanochat", "completed")}
    for row in imported:
        assert row.model is not None
        shape, _ = row.model
        assert shape in shapes()
        assert row.params_matmul == count(shape).params_matmul
        assert row.flops == training_flops(shape, None, sequence_length=128, tokens=row.tokens)


def test_every_study_has_them_and_says_that_they_are_imported(project: Path, run: Run) -> None:
    run("import", "nanochat.csv", "--sweep", SWEEP)
    compared = run("compare", SWEEP, "--bootstrap", "20")
    assert compared.status == 0, compared.err
    assert "12 of 12: nanochat.csv" in compared.out
    assert "[imported_runs]" in compared.out
    assert "nanochat (imported: 12 of 12: nanochat.csv)" in run("fit", SWEEP, "--bootstrap", "0").out
    of_table = run("fit", "results/quickstart/runs.csv", "--bootstrap", "0")
    assert "nanochat (imported: 12 of 12: nanochat.csv)" in of_table.out
    assert run("collect", SWEEP).status == 0
    assert sum(row.imported is not None for row in read_runs(project / "results" / "quickstart" / "runs.csv")) == 12


def test_a_report_marks_them_in_every_table(project: Path, run: Run) -> None:
    run("import", "nanochat.csv", "--sweep", SWEEP)
    assert run("report", SWEEP).status == 0
    folder = project / "results" / "quickstart"
    page = (folder / "report.html").read_text()
    assert "imported_runs" in page
    for path in sorted((folder / "tables").glob("*.md")):
        text = path.read_text()
        assert "nanochat" not in text or "12 of 12: nanochat.csv" in text, path.name
    cells = (folder / "tables" / "cells.csv").read_text().splitlines()
    assert cells[0].startswith("line,imported,")


def test_an_import_of_the_same_file_replaces_it(project: Path, run: Run) -> None:
    run("import", "nanochat.csv", "--sweep", SWEEP)
    short = table().splitlines()[:10]
    (project / "nanochat.csv").write_text("\n".join(short) + "\n")
    assert "9 runs of nanochat.csv in place of 12" in run("import", "nanochat.csv", "--sweep", SWEEP).err
    rows = read_runs(project / "results" / "quickstart" / "runs.csv")
    assert sum(row.imported is not None for row in rows) == 9


def test_a_line_that_mixes_corpora_is_said(project: Path, run: Run) -> None:
    run("import", "nanochat.csv", "--sweep", SWEEP, "--line", "dense")
    fitted = run("fit", SWEEP, "--bootstrap", "0").out
    assert "The law of dense mixes corpora: " in fitted
    assert "12 of 34: nanochat.csv imported" in fitted


def test_runs_of_the_same_corpus_are_no_mixture(project: Path, run: Run) -> None:
    ours = read_runs(project / "results" / "quickstart" / "runs.csv")[0].corpus_hash
    (project / "nanochat.csv").write_text(table(ending=",corpus_hash", extra=f",{ours}"))
    run("import", "nanochat.csv", "--sweep", SWEEP, "--line", "dense")
    assert "imported_runs" not in run("compare", SWEEP, "--bootstrap", "0").out


def test_counts_of_the_table_are_held_against_the_shapes(project: Path, run: Run) -> None:
    (project / "nanochat.csv").write_text(table(ending=",params_total", extra=",20000"))
    done = run("import", "nanochat.csv", "--sweep", SWEEP)
    assert done.status == 1
    assert "the sweep's N is params_matmul" in done.err
    (project / "nanochat.csv").write_text(table(ending=",params_matmul", extra=",20000"))
    done = run("import", "nanochat.csv", "--sweep", SWEEP)
    assert done.status == 0, done.err
    assert "shapes are not used" in done.err


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        (HEADER.replace("val/loss", "val_bpb"), (), "are per byte or character"),
        (HEADER.replace("val/loss", "kind"), (), "no column loss"),
        (HEADER.replace("n_embd", "dim,d_model").replace("n_head,", ""), (), "several columns could be width"),
        (HEADER, ("--loss", "val/loss", "--loss", "n_head"), "import takes one --loss"),
    ],
)
def test_what_is_no_table_of_final_losses_is_refused(
    header: str, options: tuple[str, ...], message: str, project: Path, run: Run
) -> None:
    (project / "nanochat.csv").write_text(table(header))
    done = run("import", "nanochat.csv", "--sweep", SWEEP, *options)
    assert done.status in (1, 2)
    assert message in done.err
    assert not (project / "results" / "quickstart" / "imported.csv").exists()


def test_checkpoints_are_refused_with_the_option_that_helps(project: Path, run: Run) -> None:
    lines = table().splitlines()
    (project / "nanochat.csv").write_text(
        "\n".join([lines[0], *(f"run{n // 3},{line.partition(',')[2]}" for n, line in enumerate(lines[1:]))]) + "\n"
    )
    done = run("import", "nanochat.csv", "--sweep", SWEEP)
    assert done.status == 1
    assert "--last-per run" in done.err
    assert run("import", "nanochat.csv", "--sweep", SWEEP, "--last-per", "run").status == 0


def test_records_take_no_options_of_tables(project: Path, run: Run) -> None:
    assert run("import", "results/quickstart", "--loss", "x").status == 2
    assert run("import", "nanochat.csv").status == 1
