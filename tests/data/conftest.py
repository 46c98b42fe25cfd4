from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

WORDS = [
    "the",
    "of",
    "loss",
    "model",
    "rank",
    "token",
    "scale",
    "budget",
    "fit",
    "law",
    "curve",
    "width",
    "depth",
    "train",
    "data",
    "fast",
    "slow",
    "wide",
    "thin",
]


@pytest.fixture
def write_corpus(tmp_path: Path) -> Callable[..., Path]:
    """Writes JSON lines of `documents` random texts of about `words` words and returns the file."""

    def write(name: str = "corpus.jsonl", documents: int = 300, words: int = 40, seed: int = 0) -> Path:
        draw = random.Random(seed)
        texts = [" ".join(draw.choices(WORDS, k=draw.randint(1, 2 * words))) + "é" * (i % 3) for i in range(documents)]
        path = tmp_path / name
        path.write_text("".join(json.dumps({"text": t, "id": i}) + "\n" for i, t in enumerate(texts)))
        return path

    return write
