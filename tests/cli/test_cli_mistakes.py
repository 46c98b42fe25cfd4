"""Every mistake is one clear error with file and line, exit status 1, nothing on standard output and no traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from micro_sweep import MICRO

from scaling.cli import main

# what is wrong -> (text of the file, words that the message must have)
MISTAKES = {
    "unknown key": (MICRO.replace("seeds: 2", "seedz: 2"), [":19: training.replicates.seedz", "did you mean 'seeds'"]),
    "duplicate key": (MICRO + "sweep: again\n", [":21: the key 'sweep' is written twice"]),
    "wrong type": (MICRO.replace("lr: 0.02}", "lr: fast}"), [":14: families.dense.lr", "fast"]),
    "negative budget": (MICRO.replace("7e7,", "-7e7,"), [":6: grid.budgets[0]", "more than 0"]),
    "empty list": (MICRO.replace("[7e7, 1.4e8, 2.8e8]", "[]"), [":6: grid.budgets", "at least one"]),
    "unknown ladder": (
        MICRO.replace("  ladder:\n", "  ladder: tinny\n").replace("    - {layers", "    # "),
        ["grid.ladder", "tiny"],
    ),
    "unspendable budget": (
        MICRO.replace("[7e7, 1.4e8, 2.8e8]", "[1e3]"),
        [":6: grid.budgets", "every cell is dropped"],
    ),
    "missing path": (MICRO.replace("python-stdlib", "texts/none.txt"), [":3: data.corpus", "no such file"]),
    "not a mapping": ("just a sentence\n", ["sweep.yaml:1"]),
    "not YAML": ("sweep: [unclosed\n", ["sweep.yaml:"]),
    "binary": (b"\x00\xff\xfe", ["sweep.yaml"]),
    "empty": ("", ["sweep.yaml"]),
    "rank ratio above one": (
        MICRO.replace("rank_ratio: 0.25", "rank_ratio: 1.5"),
        [":15: families.low_rank.rank_ratio"],
    ),
    "heads not dividing width": (MICRO.replace("width: 12, heads: 1", "width: 12, heads: 5"), ["heads", "1, 2, 3, 6"]),
    "sequence longer than the validation set": (
        MICRO.replace("sequence_length: 32", "sequence_length: 8192").replace("batch_tokens: 32", "batch_tokens: 8192"),
        [":17: training.sequence_length", "8192", "at most data.validation_tokens, 4000"],
    ),
    "token ids beyond the vocabulary": (
        MICRO.replace("tokenizer: bytes,", "tokenizer: bytes, vocab_size: 255,"),
        [":3: data.vocab_size", "255", "at least 256"],
    ),
    "batch no multiple of the sequence": (
        MICRO.replace("batch_tokens: 32", "batch_tokens: 100"),
        ["training.batch_tokens"],
    ),
}


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert err.startswith("error: ")
    return err


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("verb", [["plan"], ["launch", "--yes"]], ids=["plan", "launch"])
def test_mistakes_in_a_sweep_file(mistake: str, verb: list[str], tmp_path: Path, capsys) -> None:
    text, words = MISTAKES[mistake]
    path = tmp_path / "sweep.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    err = refused([verb[0], str(path), *verb[1:]], capsys)
    for word in words:
        assert word in err, err
    assert [p.name for p in tmp_path.iterdir()] == ["sweep.yaml"], "nothing was started"


def test_a_missing_file(tmp_path: Path, capsys) -> None:
    assert "nowhere.yaml" in refused(["plan", str(tmp_path / "nowhere.yaml")], capsys)


def test_a_corpus_too_small_says_how_much_is_needed(tmp_path: Path, capsys) -> None:
    (tmp_path / "small.txt").write_text("a few words\n" * 40)
    path = tmp_path / "sweep.yaml"
    path.write_text(MICRO.replace("python-stdlib", "small.txt"))
    assert main(["launch", str(path), "--yes"]) == 1
    err = capsys.readouterr().err
    assert "error: " in err
    assert "validation" in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob(".scaling/launches/**/*.json"))


def test_verbs_before_the_first_launch_name_the_next_command(tmp_path: Path, capsys) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(MICRO)
    for verb in (["status"], ["collect"], ["report"], ["fit"], ["logs", "abc"]):
        arguments = [verb[0], str(path), *verb[1:]]
        assert f"scaling launch {path}" in refused(arguments, capsys)


def test_an_unknown_runner_key_names_file_and_line(tmp_path: Path, capsys) -> None:
    sweep, runner = tmp_path / "sweep.yaml", tmp_path / "runner.yaml"
    sweep.write_text(MICRO)
    runner.write_text("runner: local\nslot: 3\n")
    err = refused(["launch", str(sweep), "--runner", str(runner), "--yes"], capsys)
    assert "runner.yaml:2: slot" in err
    assert "did you mean 'slots'" in err


def test_wrong_usage_exits_2(capsys) -> None:
    assert main(["plan"]) == 2
    assert main(["no-such-verb"]) == 2
    assert main(["plan", "a.yaml", "--no-such-option"]) == 2
    assert capsys.readouterr().out == ""


def test_an_unexpected_error_is_kept_in_a_file_and_says_how_to_report_it(tmp_path, capsys, monkeypatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ZeroDivisionError("a \x1b[31mred\x1b[0m bug")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("scaling.project.Project.open", broken)
    err = refused(["plan", "x.yaml"], capsys)
    [kept] = tmp_path.glob("scaling-error-*.txt")
    assert str(kept) in err
    assert "report it" in err
    assert "ZeroDivisionError: a \\x1b[31mred" in err, "control characters are shown, not sent"
    assert "Traceback" in kept.read_text()


@pytest.mark.parametrize(("number", "word"), [(errno.ENOSPC, "space"), (errno.EROFS, "mount"), (errno.EACCES, "umask")])
def test_a_disk_that_refuses_is_no_bug(tmp_path, capsys, monkeypatch, number: int, word: str) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "runs.csv"))

    monkeypatch.setattr("scaling.project.Project.open", refuse)
    err = refused(["plan", "x.yaml"], capsys)
    assert str(tmp_path) in err
    assert word in err
    assert not list(tmp_path.iterdir())
