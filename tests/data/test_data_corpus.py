from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scaling.data import python_files
from scaling.data.corpus import open_corpus
from scaling.data.readers import PIECE_CHARACTERS
from scaling.errors import DataError


def texts(name: str, root: Path, counts: Counter[str] | None = None) -> list[str]:
    return [d.text for d in open_corpus(name, root=root).documents(counts)]


def test_four_percent_are_held_out_by_the_hash_of_the_text_alone(write_corpus):
    path = write_corpus(documents=4000)
    documents = list(open_corpus(path.name, root=path.parent).documents())
    share = sum(d.held_out for d in documents) / len(documents)
    assert share == pytest.approx(0.04, abs=3 * (0.04 * 0.96 / 4000) ** 0.5)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(reversed(lines)))
    again = {d.text: d.held_out for d in open_corpus(path.name, root=path.parent).documents()}
    assert again == {d.text: d.held_out for d in documents}
    held_out = next(d.text for d in documents if d.held_out)
    assert int(hashlib.sha256(held_out.encode()).hexdigest()[:16], 16) % 100 < 4


def test_every_file_type_gives_the_same_texts(tmp_path):
    wanted = ["first text\nof two lines", "second", "drei, groß"]
    (tmp_path / "a.jsonl").write_text("\n\n".join(json.dumps({"content": t}) for t in wanted))
    pq.write_table(pa.table({"id": [1, 2, 3], "text": wanted}), tmp_path / "b.parquet")
    folder = tmp_path / "folder" / "deep"
    folder.mkdir(parents=True)
    for number, text in enumerate(wanted):
        (folder / f"{number}.txt").write_text(text)
    (folder / "notes.md").write_text("not text of the corpus")
    (folder / ".hidden.txt").write_text("neither")
    assert texts("a.jsonl", tmp_path) == texts("b.parquet", tmp_path) == texts("folder", tmp_path) == wanted


def test_plain_text_is_cut_at_line_ends_and_nothing_is_lost(tmp_path):
    whole = "".join(f"line {i} {'x' * (i % 97)}\n" for i in range(2000)) + "the end"
    (tmp_path / "book.txt").write_text(whole)
    pieces = texts("book.txt", tmp_path)
    assert "".join(pieces) == whole
    assert all(PIECE_CHARACTERS <= len(p) < PIECE_CHARACTERS + 110 and p.endswith("\n") for p in pieces[:-1])


def test_nul_and_broken_utf8_are_repaired_and_counted(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"a\0b\0" + b"\xff\xfe" + "é\ufffd".encode() + b" end")
    (tmp_path / "y.txt").write_bytes(b" \n \0")
    counts: Counter[str] = Counter()
    assert texts(".", tmp_path, counts) == ["ab\ufffd\ufffdé\ufffd end"]
    assert counts == {"repaired: NUL characters": 3, "repaired: invalid UTF-8": 2, "dropped: empty": 1}


def test_broken_utf8_in_parquet_and_lone_surrogates_in_json_are_repaired(tmp_path):
    strings = pa.array([b"ok", b"\xff bad", None], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": strings}), tmp_path / "a.parquet")
    (tmp_path / "b.jsonl").write_text('{"text": "x\\ud800y"}')
    counts: Counter[str] = Counter()
    assert texts("a.parquet", tmp_path, counts) == ["ok", "\ufffd bad"]
    assert counts["repaired: invalid UTF-8"] == 1
    assert texts("b.jsonl", tmp_path) == ["x?y"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', "a.jsonl:2: this line is not JSON"),
        ("a.jsonl", b'{"body": "x"}\n', "a.jsonl:1: a record has no text"),
        ("a.jsonl", b'{"text": 5}\n', "a.jsonl:1: a record has no text"),
        ("a.jsonl", b"[1]\n", "found:   list"),
        ("a.jsonl", b"[" * 100_000, "a.jsonl:1: this line is not JSON"),
        ("a.parquet", b"not parquet", "the Parquet file cannot be read"),
        ("a.csv", b"a,b", "nothing here can be read as text"),
    ],
)
def test_a_corpus_that_cannot_be_read_says_where(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        texts(name, tmp_path)
    assert said in str(caught.value)


def test_other_ways_to_have_no_corpus(tmp_path):
    pq.write_table(pa.table({"text": [1, 2], "body": ["x", "y"]}), tmp_path / "a.parquet")
    (tmp_path / "empty").mkdir()
    (tmp_path / "loop.txt").symlink_to(tmp_path / "loop.txt")
    for name, said in [
        ("a.parquet", "found:   text (int64), body (string)"),
        ("empty", "allowed: .txt .jsonl .parquet"),
        ("nowhere", "python-packages, python-stdlib, hf:OWNER/NAME"),
        ("loop.txt", "there is no such corpus"),
    ]:
        with pytest.raises(DataError) as caught:
            texts(name, tmp_path)
        assert said in str(caught.value)


def test_the_fingerprint_follows_the_sources(write_corpus):
    path = write_corpus()

    def now() -> str:
        return open_corpus(path.name, root=path.parent).fingerprint

    first = now()
    assert now() == first
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    touched = now()
    assert touched != first
    with path.open("a") as file:
        file.write('{"text": "more"}\n')
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1000))
    assert now() not in (first, touched)


def test_the_standard_library_is_clean_text_without_tests():
    counts: Counter[str] = Counter()
    corpus = open_corpus("python-stdlib", root=Path())
    documents = [d.text for d in corpus.documents(counts)]
    assert sum(map(len, documents)) > 5e6
    assert len(set(documents)) == len(documents)
    assert any("class JSONDecoder" in d for d in documents)
    assert not any("test_json" in d[:200] or "\0" in d for d in documents)
    assert max(len(line) for d in documents for line in d.split("\n")) <= 400
    assert list(corpus.versions) == ["python"]


def test_each_cleaning_rule_refuses_its_own():
    line = "def function(argument, other):\n    return argument\n"
    good = "".join(line.replace("argument", w) for w in map(str, dir(os)) if w.isalpha()).encode()
    assert python_files.refusal(good) is None
    for raw, why in [
        (b"x = 1\n", "size"),
        (good * 100, "size"),
        (good + b"#" + b"y " * 201, "long line"),
        (b"".join(b"%d, %d,\n" % (i, i * i) for i in range(500)), "not prose-like"),
        (good + "ü".encode() * 20, "non-ASCII"),
        (line.encode() * 300, "repetitive"),
    ]:
        assert python_files.refusal(raw) == why


def test_a_missing_package_is_an_error(monkeypatch):
    monkeypatch.setattr(python_files, "PACKAGES", ("numpy", "no_such_package"))
    with pytest.raises(DataError, match="needs no_such_package, which is not installed"):
        open_corpus("python-packages", root=Path())
    monkeypatch.setattr(python_files, "PACKAGES", ("numpy",))
    assert list(open_corpus("python-packages", root=Path()).versions) == ["numpy"]
