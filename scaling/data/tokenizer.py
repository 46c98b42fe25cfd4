"""Text to token ids, with one id that separates documents.

`bytes` needs nothing: token = byte, and byte 0, which no cleaned text contains, separates. `bpe:N` is a byte-level
BPE of N entries trained on the corpus' own training part (Sennrich et al. 1508.07909; the byte alphabet of GPT-2),
kept in a cache. `hf:NAME` and `tiktoken:NAME` are published vocabularies, so that losses compare with published ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from scaling.errors import DamagedRecord, DataError
from scaling.files import write_atomic
from scaling.records import read_record, sealed

if TYPE_CHECKING:  # NumPy is imported where arrays are made: a plan asks only for the size of a vocabulary
    import numpy as np
    import tokenizers
    from numpy.typing import NDArray

FORMS = "bytes, bpe:N (N from 257 to 1000000), hf:NAME, or tiktoken:NAME"
BYTE_SEPARATOR = 0
BPE_SEPARATOR = "<|separator|>"
# What published vocabularies call the token that ends a document, in the order they are looked for.
END_TOKENS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|eos|>", BPE_SEPARATOR)
BPE_TRAINING_BYTES = 20_000_000  # assumption: more text does not change the merges of a small vocabulary noticeably


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary. Ids are below `vocab_size`; `separator` ends each document and occurs nowhere else."""

    name: str
    vocab_size: int
    separator: int
    definition: str | None  # bpe, hf: the whole tokenizer as JSON; None where the name is enough
    _encode: Callable[[Sequence[str]], Iterable[Sequence[int] | NDArray[np.uint8]]] = field(repr=False)
    _decode: Callable[[Sequence[int]], str] = field(repr=False)

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """The smallest unsigned integer that holds every id."""
        import numpy as np

        return np.min_scalar_type(self.vocab_size - 1)

    def encode(self, text: str) -> NDArray[np.unsignedinteger]:
        """The ids of one text, without a separator."""
        return next(iter(self.encode_batch([text])))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; bytes that are no UTF-8 become the replacement character."""
        return self._decode(ids)

    def encode_batch(self, texts: Sequence[str]) -> Iterator[NDArray[np.unsignedinteger]]:
        """The ids of each text, without separators; the published and trained ones use several threads."""
        import numpy as np

        for ids in self._encode(texts):
            yield np.asarray(ids, dtype=self.dtype)


def saved_tokenizer(name: str, folder: Path) -> Tokenizer:
    """The tokenizer `name` as the prepared data in `folder` was made with; nothing is trained or fetched.

    Raises:
        DataError: an unknown name, a missing optional package, or a folder without its definition.
    """
    if name == "bytes" or name.startswith("tiktoken:"):
        return load_tokenizer(name)
    import tokenizers

    file = folder / "tokenizer.json"
    if not file.is_file():
        raise DataError(
            f"the prepared data has no tokenizer {name}", where=str(file), hint="scaling launch prepares it"
        )
    model = tokenizers.Tokenizer.from_file(os.fspath(file))
    return _from_model(name, model, model.get_vocab_size(with_added_tokens=True))


def definition_of(tokenizer: Tokenizer) -> str | None:
    """The whole tokenizer as the JSON of the `tokenizers` package; None for `tiktoken:`, whose name is enough."""
    if tokenizer.name != "bytes":
        return tokenizer.definition
    from tokenizers import Tokenizer as Model
    from tokenizers import decoders, models, pre_tokenizers

    model = Model(models.BPE(vocab=_byte_alphabet(), merges=[]))
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    model.decoder = decoders.ByteLevel()
    definition: str = model.to_str()
    return definition


def _byte_alphabet() -> dict[str, int]:
    """Printable character -> byte: the byte alphabet of GPT-2. A byte that is no printable Latin-1 character is
    written as the next character from 256 on.
    """
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


def vocab_size(name: str, *, root: Path = Path()) -> int:
    """Entries of the vocabulary, as a plan needs it before any text is read. `hf:` and `tiktoken:` load theirs.

    Raises:
        DataError: an unknown name.
    """
    kind, _, rest = name.partition(":")
    if name == "bytes":
        return 256
    if kind == "bpe":
        return _bpe_size(name, rest)
    return load_tokenizer(name, root=root).vocab_size


def load_tokenizer(
    name: str,
    *,
    root: Path = Path(),
    cache: Path | None = None,
    documents: Callable[[], Iterable[str]] | None = None,
) -> Tokenizer:
    """The tokenizer called `name`.

    Args:
        name: one of `FORMS`.
        root: where a relative path in ``hf:PATH`` starts.
        cache: `bpe:N` only: the file that holds it, written after training.
        documents: `bpe:N` only: the texts to train on where the cache has none.

    Raises:
        DataError: an unknown name, a vocabulary that cannot be loaded, or a missing optional package.
    """
    kind, _, rest = name.partition(":")
    if name == "bytes":
        return Tokenizer(name, 256, BYTE_SEPARATOR, None, _bytes, _text_of_bytes)
    if kind == "bpe":
        return _bpe(name, _bpe_size(name, rest), cache, documents)
    if kind == "hf" and rest:
        return _hugging_face(name, rest, root)
    if kind == "tiktoken" and rest:
        return _tiktoken(name, rest)
    raise DataError("unknown tokenizer", where="data.tokenizer", got=name, allowed=FORMS)


def _bpe_size(name: str, digits: str) -> int:
    if not digits.isdecimal() or not 257 <= int(digits) <= 1_000_000:
        raise DataError("not a BPE vocabulary size", where="data.tokenizer", got=name, allowed=FORMS)
    return int(digits)


def _bytes(texts: Sequence[str]) -> Iterator[NDArray[np.uint8]]:
    import numpy as np

    return (np.frombuffer(text.encode(), np.uint8) for text in texts)


def _text_of_bytes(ids: Sequence[int]) -> str:
    return bytes(ids).decode("utf-8", errors="replace")


def _bpe(name: str, size: int, cache: Path | None, documents: Callable[[], Iterable[str]] | None) -> Tokenizer:
    model = None if cache is None else _cached(cache)
    if model is None and documents is None:
        raise DataError(f"the tokenizer {name} has not been trained yet", hint="scaling launch prepares the data first")
    if model is None:
        assert documents is not None
        model = _train_bpe(size, documents())
        if cache is not None:
            write_atomic(cache, sealed({"model": model.to_str()}))
    return _from_model(name, model, size)


def _cached(cache: Path) -> tokenizers.Tokenizer | None:
    """The tokenizer in `cache`, None where there is none or it is damaged; 0.1 wrote the model as it is."""
    import tokenizers

    try:
        record = read_record(cache)
    except (FileNotFoundError, DamagedRecord):
        return None
    text: str = record.values["model"] if record.format > 1 else cache.read_text(encoding="utf-8")
    return tokenizers.Tokenizer.from_str(text)


def _train_bpe(size: int, texts: Iterable[str]) -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[BPE_SEPARATOR],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator(_first_bytes(texts, BPE_TRAINING_BYTES), trainer)
    return model


def _first_bytes(texts: Iterable[str], limit: int) -> Iterator[str]:
    used = 0
    for text in texts:
        yield text
        used += len(text)
        if used >= limit:
            return


def _from_model(name: str, model: tokenizers.Tokenizer, size: int) -> Tokenizer:
    separator = next((i for t in END_TOKENS if (i := model.token_to_id(t)) is not None), None)
    if separator is None:
        raise DataError("the vocabulary has no token that ends a document", where=name, allowed=" or ".join(END_TOKENS))
    # Special tokens written in a text are text, not separators.
    model.encode_special_tokens = True

    def encode(texts: Sequence[str]) -> Iterator[Sequence[int]]:
        return (e.ids for e in model.encode_batch_fast(list(texts), add_special_tokens=False))

    def decode(ids: Sequence[int]) -> str:
        text: str = model.decode(list(ids), skip_special_tokens=False)
        return text

    return Tokenizer(name, size, separator, model.to_str(), encode, decode)


def _hugging_face(name: str, source: str, root: Path) -> Tokenizer:
    import tokenizers

    path = root / Path(source).expanduser()
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        if file.is_file():
            model = tokenizers.Tokenizer.from_file(os.fspath(file))
        else:
            model = tokenizers.Tokenizer.from_pretrained(source)
    except Exception as error:  # the library raises plain Exception for every error
        raise DataError(
            "the tokenizer cannot be loaded",
            where="data.tokenizer",
            got=f"{name}: {error}",
            hint="check the name and the network, or give a folder with tokenizer.json: hf:PATH",
        ) from error
    return _from_model(name, model, model.get_vocab_size(with_added_tokens=True))


def _tiktoken(name: str, source: str) -> Tokenizer:
    try:
        import tiktoken
    except ImportError as error:
        hint = "pip install 'scaling-orchestrator[tiktoken]' (or: pip install tiktoken)"
        raise DataError(f"the tokenizer {name} needs the package tiktoken", hint=hint) from error
    if source not in tiktoken.list_encoding_names():
        names = ", ".join(tiktoken.list_encoding_names())
        raise DataError("unknown tiktoken vocabulary", where="data.tokenizer", got=source, allowed=names)
    encoding = tiktoken.get_encoding(source)
    return Tokenizer(name, encoding.n_vocab, encoding.eot_token, None, encoding.encode_ordinary_batch, encoding.decode)
