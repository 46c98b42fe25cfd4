from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from scaling.data.tokenizer import BPE_SEPARATOR, definition_of, load_tokenizer, saved_tokenizer, vocab_size
from scaling.errors import DataError

TEXTS = [f"the law number {i} holds for losses of {i * i} models and no others" for i in range(200)]


@pytest.fixture(scope="module")
def bpe(tmp_path_factory):
    cache = tmp_path_factory.mktemp("bpe") / "bpe.json"
    return load_tokenizer("bpe:300", cache=cache, documents=lambda: TEXTS), cache


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=("Cs",))))
def test_bytes_are_utf8_and_never_the_separator(text):
    tokenizer = load_tokenizer("bytes")
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids.tolist()) == text
    assert tokenizer.separator not in ids
    assert ids.dtype == np.uint8


@given(st.text(alphabet=st.characters(exclude_categories=("Cs",))) | st.just(f"a{BPE_SEPARATOR}b"))
def test_bpe_gives_back_any_text_and_never_the_separator(bpe, text):
    tokenizer, _ = bpe
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids.tolist()) == text
    assert tokenizer.separator not in ids
    assert ids.dtype == np.uint16
    assert (ids < tokenizer.vocab_size).all()


def test_bpe_is_trained_once_the_same_way_and_kept(bpe):
    tokenizer, cache = bpe
    again = load_tokenizer("bpe:300", documents=lambda: TEXTS)
    assert again.definition == tokenizer.definition
    cached = load_tokenizer("bpe:300", cache=cache)
    for text, ids in zip(TEXTS, cached.encode_batch(TEXTS), strict=True):
        assert np.array_equal(ids, tokenizer.encode(text))
        assert len(ids) < len(text) / 1.5
    other = cache.with_name("0.1.json")
    other.write_text(tokenizer.definition)  # as 0.1 wrote it
    assert load_tokenizer("bpe:300", cache=other).definition == tokenizer.definition
    other.write_text(cache.read_text().replace("the", "teh", 1)[:-3])
    assert load_tokenizer("bpe:300", cache=other, documents=lambda: TEXTS).definition == tokenizer.definition
    assert other.read_bytes() == cache.read_bytes(), "a damaged one is trained again"
    with pytest.raises(DataError, match="has not been trained"):
        load_tokenizer("bpe:301", cache=cache.with_name("other.json"))


def test_a_saved_tokenizer_is_the_one_of_the_data(bpe, tmp_path):
    ours, _ = bpe
    (tmp_path / "tokenizer.json").write_text(ours.definition)
    again = saved_tokenizer("bpe:300", tmp_path)
    assert again.encode(TEXTS[3]).tolist() == ours.encode(TEXTS[3]).tolist()
    assert (again.vocab_size, again.separator) == (ours.vocab_size, ours.separator)
    assert saved_tokenizer("bytes", tmp_path).vocab_size == 256
    with pytest.raises(DataError, match="no tokenizer bpe:300"):
        saved_tokenizer("bpe:300", tmp_path / "nothing")


def test_the_definition_of_bytes_is_the_bytes():
    model = tokenizers.Tokenizer.from_str(definition_of(load_tokenizer("bytes")))
    text = "naïve 漢字 \x7f\x01 🙂"
    assert model.encode(text).ids == list(text.encode())
    assert model.get_vocab_size() == 256


def test_sizes_are_known_without_a_text():
    assert vocab_size("bytes") == 256
    assert vocab_size("bpe:4096") == 4096


@pytest.mark.parametrize(
    "name", ["", "byte", "bytes:3", "bpe", "bpe:", "bpe:256", "bpe:1e4", "bpe:-1", "hf:", "tiktoken:"]
)
def test_an_unknown_name_lists_what_is_allowed(name):
    with pytest.raises(DataError, match="bpe:N"):
        vocab_size(name)


def test_a_published_vocabulary_from_a_folder(tmp_path):
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<unk>": 0, "law": 1, "loss": 2, "</s>": 3}, "<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model.save(str(tmp_path / "tokenizer.json"))
    tokenizer = load_tokenizer(f"hf:{tmp_path.name}", root=tmp_path.parent)
    assert (tokenizer.vocab_size, tokenizer.separator) == (4, 3)
    assert tokenizer.encode("loss law other").tolist() == [2, 1, 0]
    assert vocab_size(f"hf:{tmp_path / 'tokenizer.json'}") == 4


def test_a_vocabulary_without_an_end_is_refused(tmp_path):
    tokenizers.Tokenizer(tokenizers.models.WordLevel({"law": 0}, "law")).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(DataError, match="no token that ends a document"):
        load_tokenizer(f"hf:{tmp_path}")


def test_a_vocabulary_that_cannot_be_loaded_says_why(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match="cannot be loaded"):
        load_tokenizer(f"hf:{tmp_path}")


def test_a_missing_optional_package_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    with pytest.raises(DataError) as caught:
        load_tokenizer("tiktoken:gpt2")
    assert "scaling-orchestrator[tiktoken]" in str(caught.value)


def test_tiktoken_names_are_checked():
    pytest.importorskip("tiktoken", reason="the optional package tiktoken is not installed")
    with pytest.raises(DataError, match="o200k_base"):
        load_tokenizer("tiktoken:nonsense", root=Path())
