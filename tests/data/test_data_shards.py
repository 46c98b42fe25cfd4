from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scaling.data.batches import validation_windows
from scaling.data.corpus import open_corpus
from scaling.data.shards import find_data, open_data, prepare
from scaling.data.tokenizer import load_tokenizer
from scaling.errors import DataError, StoreError
from scaling.run import DataRef


def ref(path: Path, tokenizer: str = "bytes", validation_tokens: int = 500, **more) -> DataRef:
    return DataRef(path.name, tokenizer, validation_tokens, **more)


def prepared(path: Path, **more):
    return prepare(ref(path, **more), root=path.parent, store=path.parent / "store")


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe:300"])
def test_the_files_hold_every_document_in_order(write_corpus, tokenizer):
    path = write_corpus()
    data = prepared(path, tokenizer=tokenizer)
    documents = list(open_corpus(path.name, root=path.parent).documents())
    model = load_tokenizer(tokenizer, documents=lambda: (d.text for d in documents if not d.held_out))
    for held_out, found in ((False, data.train), (True, data.validation["validation"].tokens)):
        kept = [d for d in documents if d.held_out == held_out]
        wanted = [i for d in kept for i in (*model.encode(d.text).tolist(), model.separator)]
        assert found.tolist() == wanted
    held = data.validation["validation"]
    assert held.document_bytes.tolist() == [len(d.text.encode()) + 1 for d in documents if d.held_out]
    assert held.document_starts[1:].tolist() == (np.flatnonzero(held.tokens == model.separator) + 1)[:-1].tolist()
    assert (data.train_tokens, data.vocab_size) == (len(data.train), model.vocab_size)


def test_the_second_call_opens_and_a_worker_needs_only_the_hash(write_corpus):
    path = write_corpus()
    store = path.parent / "store"
    assert find_data(ref(path), root=path.parent, store=store) is None
    first = prepared(path)
    made = first.folder.stat().st_mtime_ns
    assert prepared(path).hash == first.hash
    assert first.folder.stat().st_mtime_ns == made
    found = find_data(ref(path), root=path.parent, store=store)
    assert found is not None
    assert found.hash == open_data(store, first.hash).hash == first.hash
    assert not list((store / "data").glob(".building*"))


def test_the_hash_is_the_content_and_nothing_else(write_corpus, tmp_path):
    path = write_corpus()
    first = prepared(path).hash
    os.utime(path)
    assert prepared(path).hash == first
    (tmp_path / "elsewhere").mkdir()
    moved = shutil.copy(path, tmp_path / "elsewhere" / "renamed.jsonl")
    assert prepared(Path(moved)).hash == first
    assert prepared(path, validation_tokens=400).hash != first
    assert prepared(path, tokenizer="bpe:300").hash != first
    with path.open("a") as file:
        file.write('{"text": "one more document"}\n')
    assert prepared(path).hash != first


def test_further_validation_sets(write_corpus):
    path, other = write_corpus(), write_corpus("other.jsonl", documents=20, seed=5)
    plain = prepared(path)
    data = prepared(path, validation=(("other", "other.jsonl"),))
    assert list(data.validation) == ["validation", "other"]
    texts = [d.text for d in open_corpus("other.jsonl", root=other.parent).documents()]
    assert bytes(data.validation["other"].tokens) == b"".join(t.encode() + b"\0" for t in texts)
    assert np.array_equal(data.train, plain.train)
    assert data.hash != plain.hash
    for name in ("validation", "train/x", "../x", ""):
        with pytest.raises(DataError, match="not a name"):
            prepared(path, validation=((name, "other.jsonl"),))


def test_loss_per_byte_is_tokenizer_free(write_corpus):
    """The bytes of windows over all of a set are the bytes of its text, whatever the tokens are."""
    path = write_corpus()
    sizes = set()
    for tokenizer in ("bytes", "bpe:300"):
        data = prepared(path, tokenizer=tokenizer, validation_tokens=150)
        held = data.validation["validation"]
        held = type(held)(held.name, held.tokens, held.document_starts, held.document_bytes, 10**9)
        windows = validation_windows(held, 1)
        # the very first token is never predicted: its share of the first document is missing
        first_token = held.document_bytes[0] / held.document_starts[1]
        sizes.add(round(windows.bytes + first_token, 6))
    assert len(sizes) == 1


def test_too_little_text_says_how_much_there_is_and_is_needed(write_corpus):
    path = write_corpus(documents=100)
    held_out = sum(len(d.text.encode()) + 1 for d in open_corpus(path.name, root=path.parent).documents() if d.held_out)
    with pytest.raises(DataError) as caught:
        prepared(path, validation_tokens=50_000)
    assert f"{held_out} tokens held out" in str(caught.value)
    assert "50001 needed" in str(caught.value)
    assert not list((path.parent / "store" / "data").glob(".building*"))
    assert prepared(path, validation_tokens=held_out - 1).hash


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "description", "cut", "gone"])
def test_damaged_data_is_refused_and_prepared_again(write_corpus, damage):
    path = write_corpus()
    data = prepared(path)
    file = data.folder / ("description.json" if damage in ("description", "cut", "gone") else "train.bin")
    raw = bytearray(file.read_bytes())
    if damage in ("remove", "gone"):
        file.unlink()
    elif damage in ("truncate", "cut"):
        file.write_bytes(raw[:-1])
    elif damage == "description":
        file.write_bytes(raw.replace(b'"vocab_size": 256', b'"vocab_size": 255'))
    else:
        raw[1234] ^= 1
        file.write_bytes(raw)
    with pytest.raises(StoreError, match="prepared data") as error:
        open_data(path.parent / "store", data.hash)
    assert "scaling launch" in error.value.hint
    assert find_data(ref(path), root=path.parent, store=path.parent / "store") is None
    assert prepared(path).hash == data.hash
    assert open_data(path.parent / "store", data.hash)
    assert data.folder.with_name(f"{data.hash}.bad").exists()
    shutil.rmtree(data.folder)
    with pytest.raises(StoreError, match="no such prepared data"):
        open_data(path.parent / "store", data.hash)
    assert prepared(path).hash == data.hash


def test_a_store_that_cannot_be_written(write_corpus):
    path = write_corpus()
    (path.parent / "store").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        prepared(path)


CHILD = """
import os, signal, sys, time
from pathlib import Path
from scaling import files
from scaling.data.shards import prepare
from scaling.run import DataRef
path, mode = Path(sys.argv[1]), sys.argv[2]
def hook(point):
    if point.startswith("publish") and mode == "wait":
        print("building", flush=True)
        time.sleep(600)
    if point.startswith("replace " + mode):
        os.kill(os.getpid(), signal.SIGKILL)
files.fault_hook = hook
print(prepare(DataRef(path.name, "bpe:300", 500), root=path.parent, store=path.parent / "store").hash)
assert not {"torch", "pandas", "scipy"} & set(sys.modules), "data needs NumPy alone"
"""


def child(path: Path, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", CHILD, str(path), mode], stdout=subprocess.PIPE, text=True)


def test_many_processes_prepare_once(write_corpus):
    path = write_corpus(documents=600)
    processes = [child(path, "run") for _ in range(4)]
    hashes = {p.communicate()[0].strip() for p in processes}
    assert [p.returncode for p in processes] == [0] * 4
    assert len(hashes) == 1
    data = path.parent / "store" / "data"
    assert {f.name for f in data.iterdir()} == {*hashes, "sources", "tokenizers"}
    assert len(list((data / "tokenizers").iterdir())) == 1


def test_a_builder_that_was_killed_leaves_nothing_behind(write_corpus):
    path = write_corpus()
    data = path.parent / "store" / "data"
    victim, waiting = child(path, "wait"), None
    assert victim.stdout is not None
    assert victim.stdout.readline() == "building\n"
    waiting = child(path, "run")
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    out, _ = waiting.communicate()
    assert waiting.returncode == 0
    assert {f.name for f in data.iterdir()} == {out.strip(), "sources", "tokenizers"}


@pytest.mark.parametrize("at", ["bpe-300", "description.json", ""])
def test_killed_at_any_file_the_next_call_gives_the_same(write_corpus, at):
    path = write_corpus()
    victim = child(path, at)
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    again = prepared(path, tokenizer="bpe:300")
    untouched = prepare(ref(path, "bpe:300"), root=path.parent, store=path.parent / "other store")
    assert again.hash == untouched.hash


def test_a_hugging_face_data_set_goes_through_datasets(tmp_path, monkeypatch):
    pytest.importorskip("datasets", reason="the optional package datasets is not installed")
    texts = [f"document {i} " + "word " * (i % 50) for i in range(400)]
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"text": texts}), tmp_path / "set" / "train-00000.parquet")
    through_hub = prepare(DataRef("hf:set", "bytes", 500), root=tmp_path, store=tmp_path / "store")
    as_path = prepare(DataRef("set", "bytes", 500), root=tmp_path, store=tmp_path / "store")
    assert through_hub.hash == as_path.hash
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    (tmp_path / "empty" / "x.json").write_text(json.dumps({"body": "no text"}))
    with pytest.raises(DataError, match="a record has no text"):
        prepare(DataRef("hf:empty", "bytes", 500), root=tmp_path, store=tmp_path / "store")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match="needs the package datasets"):
        prepare(DataRef("hf:owner/name", "bytes", 500), root=tmp_path, store=tmp_path / "store")
