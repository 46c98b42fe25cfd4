"""What is made of finished runs, and of foreign tables: fits, predictions, comparisons, exports, proposals."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from scaling.cli import main

SWEEP = "sweeps/micro.yaml"
FIT = {"family", "rank_ratio", "law", "approach", "objective", "delta", "params_column", "points", "dropped"}
FIT |= {"parameters", "intervals", "exponents", "exponent_intervals", "objective_value", "status", "message", "checks"}
LAW = {"E": 1.7, "A": 400.0, "alpha": 0.34, "B": 410.0, "beta": 0.28}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A foreign table without noise: L = E + A/N^alpha + B/D^beta under other column names."""
    lines = ["N,D,L"]
    for params in np.geomspace(1e7, 1e10, 8):
        for tokens in np.geomspace(1e9, 3e12, 8):
            loss = LAW["E"] + LAW["A"] / params ** LAW["alpha"] + LAW["B"] / tokens ** LAW["beta"]
            lines.append(f"{float(params)!r},{float(tokens)!r},{float(loss)!r}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def document(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    assert main(arguments) == 0
    return json.loads(capsys.readouterr().out)


def test_a_foreign_table_gives_its_law_back(table: Path, capsys) -> None:
    fits = document(
        ["fit", str(table), "--columns", "params=N,tokens=D,loss=L", "--bootstrap", "20", "--json"], capsys
    )["fits"]
    fit = next(fit for fit in fits if fit["approach"] == 3)
    assert fit.keys() >= FIT
    assert fit["points"] == 64
    for name, value in LAW.items():
        assert fit["parameters"][name] == pytest.approx(value, rel=1e-6)
    assert fit["exponents"]["N"] == pytest.approx(LAW["beta"] / (LAW["alpha"] + LAW["beta"]), rel=1e-6)


def test_a_prediction_is_the_closed_form_optimum(table: Path, capsys) -> None:
    arguments = ["predict", str(table), "--columns", "params=N,tokens=D,loss=L", "--bootstrap", "20", "-c", "1e22"]
    [found] = document([*arguments, "--json"], capsys)["predictions"]
    a, b = LAW["alpha"], LAW["beta"]
    scale = (a * LAW["A"] / (b * LAW["B"])) ** (1 / (a + b))
    assert found["N"] == pytest.approx(scale * (1e22 / 6) ** (b / (a + b)), rel=1e-4)
    assert found["N"] * found["D"] == pytest.approx(1e22 / 6, rel=1e-6)


@pytest.fixture
def two_lines(tmp_path: Path) -> Path:
    """Four budgets of two families, the second with 0.6 of its parameters effective."""
    random = np.random.default_rng(0)
    rows = ["params,tokens,loss,family,budget"]
    for (family, worth), budget, place in itertools.product(
        (("a", 1.0), ("b", 0.6)), (1e18, 4e18, 1.6e19, 6.4e19), range(5)
    ):
        params = (budget / 120) ** 0.5 * np.exp(0.6 * (place - 2))
        tokens = budget / 6 / params
        loss = LAW["E"] + LAW["A"] / (params * worth) ** LAW["alpha"] + LAW["B"] / tokens ** LAW["beta"]
        loss *= np.exp(0.001 * random.normal())
        rows.append(f"{params:.12g},{tokens:.12g},{loss:.12g},{family},{budget:g}")
    path = tmp_path / "two.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_table_with_families_is_compared_and_reported(two_lines: Path, capsys) -> None:
    found = document(["compare", str(two_lines), "--bootstrap", "100", "--json"], capsys)
    [one] = found["comparisons"]
    assert (one["line"], one["reference"], one["model"], one["verdict"]["word"]) == ("b", "a", "M3", "worse")
    low, high = one["compute_multiplier"]["interval"]
    assert low < one["compute_multiplier"]["value"] < high < 1
    assert main(["report", str(two_lines)]) == 0
    assert "\nAt 8.0e18 6·N·D FLOPs b needs " in capsys.readouterr().err
    assert (two_lines.parent / "two_report" / "report.html").is_file()


def test_compare_says_what_to_serve(two_lines: Path, capsys) -> None:
    """A table without shapes: 6·N and 2·N FLOPs, and it says so."""
    ask = ["compare", str(two_lines), "--served", "1T", "--batch", "32", "--context", "4k", "--bootstrap", "100"]
    serving = document([*ask, "--json"], capsys)["serving"]
    assert serving["decision"].startswith("Serving 1T tokens at loss 2.")
    assert {row["unit"] for row in serving["rows"]} == {"flops"}
    (row,) = [row for row in serving["rows"] if (row["line"], row["choice"]) == ("b", "lifetime")]
    low, high = row["ratio_interval"]
    assert 1.0 < low < row["ratio"] < high
    assert (row["same"], row["verdict"]) == (False, "dearer")
    assert row["total_cost"] == pytest.approx(row["train_cost"] + row["serve_cost"])
    assert main(ask) == 0
    told = capsys.readouterr().out
    assert serving["decision"] in told
    assert "6·N FLOPs train a token, 2·N serve one" in told
    assert "nan" not in told


@pytest.mark.parametrize(
    ("code", "options", "words"),
    [
        (1, ["--served", "1T", "--loss", "1.0"], "the irreducible loss of its law"),
        (1, ["--served", "1T", "--device", "tpu"], "h100"),
        (2, ["--served", "1T", "--loss", "2.5", "--compute", "1e20"], "not both"),
        (2, ["--device", "h100"], "--served 1T"),
        (2, ["--served", "many"], "many"),
        (2, ["--served", "1T", "--precision", "fp8"], "int8"),
    ],
)
def test_a_bad_serving_question_says_what_is_allowed(two_lines: Path, code, options, words, capsys) -> None:
    assert main(["compare", str(two_lines), "--bootstrap", "50", *options]) == code
    assert words in capsys.readouterr().err


def test_a_report_of_a_table_says_how_it_was_read(two_lines: Path, capsys) -> None:
    table = two_lines.with_name("mine.csv")
    table.write_text(two_lines.read_text().replace("params,tokens,loss", "N,tokens,val_loss") + "1e9,1e10,nan,a,1e18\n")
    options = ["--where", "family == 'a'", "--unit", "N=1"]
    assert main(["fit", str(table), *options, "--bootstrap", "0"]) == 0
    fitted = capsys.readouterr().out
    assert main(["report", str(table), *options]) == 0
    said = capsys.readouterr().out
    assert said.strip()
    assert fitted.startswith(said.strip())
    page = two_lines.with_name("mine_report").joinpath("report.html").read_text(encoding="utf-8")
    assert "params = N (× 1, from --unit), tokens = tokens, loss = val_loss" in page
    assert "a value is not finite" in page
    assert "--where and --exclude keep 21 of 41 rows" in page
    assert "scaling report mine.csv --unit N=1 --where" in page
    assert main(["report", str(table), "--loss", "val_loss", "--loss", "tokens"]) == 2
    assert main(["report", "sweeps/quickstart.yaml", "--where", "N > 1"]) == 2


@pytest.mark.parametrize("source", ["logs", "logs/*.csv"])
def test_a_report_of_many_files_lies_beside_their_folder(source: str, two_lines: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(two_lines.parent)
    Path("logs").mkdir()
    header, *lines = two_lines.read_text().splitlines()
    for n, line in enumerate(lines[:20]):
        Path("logs", f"run{n}.csv").write_text(f"{header}\n{line}\n")
    assert main(["report", source]) == 0
    assert "20 files are read as one table" in capsys.readouterr().out
    assert Path("logs_report", "report.html").is_file()


def test_the_loss_at_a_size_is_predicted_with_a_fixed_parameter_too(two_lines: Path, capsys) -> None:
    arguments = ["predict", str(two_lines), "--params", "5e8", "--tokens", "1e10", "--bootstrap", "50", "--json"]
    free, fixed = (document([*arguments, *more], capsys)["predictions"][0] for more in ((), ("--fix", "E=1.7")))
    truth = LAW["E"] + LAW["A"] / 5e8 ** LAW["alpha"] + LAW["B"] / 1e10 ** LAW["beta"]
    for one in (free, fixed):
        low, high = one["intervals"]["loss_of_run"]
        assert low < truth < high
    assert (len(free["forms"]), fixed["forms"], fixed["calibration"]) == (3, [], None)
    assert main(["predict", str(two_lines), "--params", "5e8"]) == 2


def test_predict_from_a_published_law(capsys) -> None:
    [found] = document(["predict", "--published", "replication-2024", "--compute", "1e22", "--json"], capsys)[
        "predictions"
    ]
    assert found["loss"] == pytest.approx(2.141, abs=0.001)
    laws = {law["name"]: law for law in document(["laws", "--json"], capsys)["laws"]}
    assert laws["replication-2024"].keys() >= {"name", "source", "parameters"}
    assert main(["laws"]) == 0


def test_an_approach_with_nothing_to_read_says_why(table: Path, capsys) -> None:
    arguments = ["fit", str(table), "--columns", "params=N,tokens=D,loss=L", "--bootstrap", "0", "--approach"]
    assert main([*arguments, "2"]) == 0
    assert "needs the compute budget of every point" in capsys.readouterr().out


def test_a_foreign_table_feeds_weights_and_the_rank_law(tmp_path: Path, capsys) -> None:
    lines = ["params,tokens,loss,family,rank_ratio,factorized_params,weight"]
    for params, tokens in itertools.product((1e7, 3e7, 1e8, 3e8), (1e9, 4e9, 1.6e10)):
        for family, ratio, share in (("dense", "", 0.0), ("low_rank", "0.25", 0.5)):
            worth = params * (1 - share + 0.6 * share)
            loss = 1.8 + 480 / worth**0.35 + 2100 / tokens**0.37
            lines.append(f"{params},{tokens},{loss},{family},{ratio},{share * params},1")
    lines.append("2e7,1e9,9.9,dense,,0,0")
    path = tmp_path / "ranks.csv"
    path.write_text("\n".join(lines) + "\n")
    fits = document(["fit", str(path), "--law", "rank", "--bootstrap", "0", "--json"], capsys)["fits"]
    (rank,) = (fit for fit in fits if fit["law"] == "rank")
    assert rank["parameters"]["kappa@0.25"] == pytest.approx(0.6, rel=1e-4)
    path.write_text("\n".join([*lines, "2e7,1e9,4.0,dense,,0,"]) + "\n")
    assert main(["fit", str(path)]) == 1
    assert "column weight is empty in some rows" in capsys.readouterr().err


def test_a_law_of_repeated_tokens_predicts_for_fresh_ones(tmp_path: Path, capsys) -> None:
    lines = ["params,tokens,loss,unique_tokens,unique_params"]
    for params, unique, epochs in itertools.product((1e7, 1e8, 1e9), (1e9, 1e10), (1.0, 3.0, 30.0)):
        worn, fit = unique * (1 + 15 * (1 - np.exp(-(epochs - 1) / 15))), min(params, 0.02 * unique)
        large = fit * (1 + 5 * (1 - np.exp(-(params / fit - 1) / 5)))
        loss = 1.7 + 400 / large**0.34 + 410 / worn**0.28
        lines.append(f"{params!r},{unique * epochs!r},{float(loss)!r},{unique!r},{fit!r}")
    path = tmp_path / "repeated.csv"
    path.write_text("\n".join(lines) + "\n")
    arguments = ["predict", str(path), "--law", "data_constrained", "--bootstrap", "0", "-c", "1e22", "--json"]
    [found] = document(arguments, capsys)["predictions"]
    scale = (0.34 * 400 / (0.28 * 410)) ** (1 / 0.62)
    assert found["N"] == pytest.approx(scale * (1e22 / 6) ** (0.28 / 0.62), rel=1e-3)
    assert "tokens_not_repeated" in {check["code"] for check in found["checks"]}


@pytest.mark.parametrize(
    ("arguments", "status", "word"),
    [
        (["fit", "nowhere.csv"], 1, "nowhere.csv"),
        (["fit", "TABLE", "--where", "width > 1"], 1, "--where names width"),
        (["fit", "TABLE", "--unit", "M"], 2, "params=M"),
        (["fit", "TABLE", "--unit", "N=furlongs"], 1, "furlongs"),
        (["fit", "TABLE", "--loss", "nll"], 1, "--loss names nll"),
        (["fit", "TABLE", "--last-per", "run"], 1, "--last-per names run"),
        (["fit", "TABLE", "--name-pattern", "(?P<size>"], 1, "--name-pattern"),
        (["fit", "sweeps/quickstart.yaml", "--where", "loss < 3"], 2, "--where"),
        (["fit", "TABLE", "--columns", "params"], 2, "params=N"),
        (["fit", "TABLE", "--columns", "params=N,tokens=D,loss=LOSS"], 1, "--columns names LOSS"),
        (["fit", "TABLE", "--columns", "paramz=N,tokens=D,loss=L"], 1, "a name to paramz"),
        (["fit", "TABLE", "--columns", "params=N,params=D,loss=L"], 2, "twice"),
        (["fit", "TABLE", "--columns", "params=N,tokens=L"], 1, "no column loss"),
        (["fit", "TABLE", "--columns", "params=N,tokens=D,loss=L", "--law", "chincilla"], 1, "data_constrained"),
        (["predict", "TABLE", "-c", "-5"], 2, "positive"),
        (["predict", "-c", "1e22"], 2, "--published"),
        (["predict", "TABLE", "--published", "replication-2024", "-c", "1e22"], 2, "not from both"),
        (["predict", "--published", "replication-2024"], 2, "--compute"),
    ],
)
def test_mistakes_with_tables(arguments: list[str], status: int, word: str, table: Path, capsys) -> None:
    assert main([str(table) if a == "TABLE" else a for a in arguments]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert word in err
    assert "Traceback" not in err


def test_every_loss_that_is_named_gets_its_law_and_the_table_says_how_it_was_read(table: Path, capsys) -> None:
    header, *rows = table.read_text().splitlines()
    more = [f"{header},val_bpb", *(f"{row},{float(row.split(',')[2]) + 0.5!r}" for row in rows), "1e9,1e10,nan,nan"]
    table.write_text("\n".join(more) + "\n")
    read = ["--loss", "L", "--loss", "val_bpb", "--unit", "val_bpb=nats", "--bootstrap", "0", "--json"]
    made = document(["fit", str(table), *read], capsys)
    floors = {fit["metric"]: fit["parameters"]["E"] for fit in made["fits"] if fit["approach"] == 3}
    assert floors == {"L": pytest.approx(LAW["E"]), "val_bpb": pytest.approx(LAW["E"] + 0.5)}
    assert made["table"]["mapping"] == {"params": "N", "tokens": "D", "loss": "L"}
    assert [(row["row"], row["column"], row["value"]) for row in made["table"]["dropped"]] == [(66, "L", "nan")]
    assert [one["mapping"]["loss"] for one in made["tables"]] == ["L", "val_bpb"]


def test_fit_predict_and_compare_of_a_sweep(launched) -> None:
    fits = launched.json("fit", SWEEP)["fits"]
    assert {(fit["family"], fit["approach"]) for fit in fits} >= {("dense", 3), ("low_rank", 3)}
    assert all(fit.keys() >= FIT for fit in fits)
    predictions = launched.json("predict", SWEEP, "--compute", "1e10")["predictions"]
    assert [p["compute"] for p in predictions] == [1e10, 1e10]
    assert all(
        p.keys() >= {"family", "rank_ratio", "compute", "N", "D", "loss", "intervals", "checks"} for p in predictions
    )
    assert launched.json("compare", SWEEP)["comparisons"]
    assert "could be wrong" in launched("fit", SWEEP).stdout


def test_a_report_made_again_is_the_same(launched) -> None:
    folder = launched.root / "results" / "micro"
    before = {path.name: path.read_bytes() for path in sorted(folder.glob("tables/*"))}
    assert before
    launched("report", SWEEP)
    assert {path.name: path.read_bytes() for path in sorted(folder.glob("tables/*"))} == before


def test_export_and_evaluate_use_the_kept_weights(launched, tmp_path: Path) -> None:
    run = launched.json("status", SWEEP)["runs"][-1]["id"]
    launched("export", SWEEP, run[:8], "--out", str(tmp_path / "model"))
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert (tmp_path / "model" / "model.safetensors").exists()
    card = (tmp_path / "model" / "README.md").read_text()
    for words in ("## Law", "python-stdlib", "training FLOPs", "Validation loss", "tokenizer bytes", run):
        assert words in card
    (tmp_path / "more.txt").write_text("def f(x):\n    return x + 1\n" * 2000)
    found = launched.json("evaluate", SWEEP, "--data", str(tmp_path / "more.txt"))["evaluations"]
    assert len(found) == 26
    assert all(0 < one["loss"] < 6 for one in found)


def test_curves_are_exported_for_trackers(launched, tmp_path: Path) -> None:
    launched("export", SWEEP, "--to", "csv", "--out", str(tmp_path / "csv"))
    rows = list(csv.DictReader((tmp_path / "csv" / "curves.csv").read_text().splitlines()))
    assert len({row["id"] for row in rows}) == 26
    assert all(float(row["loss"]) > 0 for row in rows)
    run = launched.json("status", SWEEP)["runs"][0]["id"]
    launched("export", SWEEP, run, "--to", "csv", "--out", str(tmp_path / "one"))
    one = csv.DictReader((tmp_path / "one" / "curves.csv").read_text().splitlines())
    assert {row["id"] for row in one} == {run}
    assert "csv, tensorboard, wandb, trackio" in launched("export", SWEEP, "--to", "x", "--out", "o", status=1).stderr
    assert "--to csv" in launched("export", SWEEP, "--out", "o", status=2).stderr


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "trackio"])
def test_a_tracker_gets_its_files_or_names_its_package(launched, tracker: str, tmp_path: Path) -> None:
    out = tmp_path / tracker
    run = launched.json("status", SWEEP)["runs"][0]["id"]
    if importlib.util.find_spec(tracker) is None:
        told = launched("export", SWEEP, run, "--to", tracker, "--out", str(out), status=1).stderr
        assert "scaling-orchestrator[trackers]" in told
        return
    launched("export", SWEEP, run, "--to", tracker, "--out", str(out))
    assert any(path.is_file() for path in out.rglob("*"))


def test_a_run_writes_on_and_says_what_it_cannot(launched) -> None:
    run = launched.json("status", SWEEP)["runs"][-1]["id"]
    made = launched.json("generate", SWEEP, run, "--prompt", "def f(", "--tokens", "12")
    assert (made["run"], made["prompt"], made["tokens"]) == (run, "def f(", 12)
    assert 0 < len(made["text"]) <= 12
    printed = launched("generate", SWEEP, run, "--prompt", "def f(", "--tokens", "12").stdout
    assert printed == f"def f({made['text']}\n"
    told = launched("generate", SWEEP, run, "--prompt", "def f(", "--tokens", "40", status=1).stderr
    assert "32 together" in told
    assert "--tokens 26" in told
    assert "the prompt is empty" in launched("generate", SWEEP, run, "--prompt", "", status=1).stderr


def test_next_proposes_a_sweep_that_plans(launched, tmp_path: Path) -> None:
    out = launched.sweep.with_name("micro-next.yaml")
    launched("next", SWEEP, "--spend", "2e9", "--target", "1e11", "--out", str(out))
    assert launched.json("plan", str(out))["totals"]["runs"] > 0
    out.unlink()


def test_init_writes_a_sweep_that_plans(tmp_path: Path, capsys) -> None:
    assert main(["init", "mine", "--root", str(tmp_path)]) == 0
    assert main(["plan", str(tmp_path / "sweeps" / "mine.yaml")]) == 0
    assert main(["init", "mine", "--root", str(tmp_path)]) == 1
    assert main(["init", "../mine", "--root", str(tmp_path)]) == 1
    assert "Traceback" not in capsys.readouterr().err
