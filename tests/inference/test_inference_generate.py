from __future__ import annotations

import pytest
import torch

from scaling.errors import TrainingError
from scaling.inference.generate import Cache, generate, merged, step
from scaling.run import Initialisation, Shape
from scaling.sweeps.counting import matrix_ranks
from scaling.training.model import Decoder, initialise

SHAPES = {
    "dense": (Shape(2, 32, 4, 48, 101), None),
    "grouped, tied": (Shape(2, 32, 4, 48, 101, kv_heads=2, tied=True), None),
    "low rank": (Shape(3, 32, 4, 48, 101, kv_heads=1), 0.25),
}


@pytest.fixture(params=SHAPES)
def model(request) -> Decoder:
    shape, ratio = SHAPES[request.param]
    model = Decoder(shape, ratio and matrix_ranks(shape, ratio), sequence_length=40)
    initialise(model, Initialisation(embedding_std=1.0, head_std=0.5, hidden_gain=2.0), seed=1)
    return model.double()


def prompt(batch: int = 3, length: int = 7) -> torch.Tensor:
    return torch.randint(101, (batch, length), generator=torch.Generator().manual_seed(0))


def test_every_cached_step_gives_the_logits_of_the_whole_text(model):
    text = prompt(length=12)
    whole = model(text)
    cache = Cache(model, 3, 12)
    with torch.inference_mode():
        assert torch.allclose(step(model, text[:, :7], cache), whole[:, 6], rtol=1e-10, atol=1e-12)
        for position in range(7, 12):
            logits = step(model, text[:, position : position + 1], cache)
            assert torch.allclose(logits, whole[:, position], rtol=1e-10, atol=1e-12)


def test_generation_takes_the_most_likely_token_each_time(model):
    tokens = generate(model, prompt(), 20)
    assert torch.equal(tokens[:, :7], prompt())
    following = model(tokens[:, :-1]).argmax(dim=-1)
    assert torch.equal(tokens[:, 7:], following[:, 6:])
    assert len(torch.unique(tokens[:, 7:])) > 3, "a model that repeats one token tests nothing"


def test_a_merged_model_is_dense_and_computes_the_same():
    shape, ratio = SHAPES["low rank"]
    model = Decoder(shape, matrix_ranks(shape, ratio), sequence_length=40, guided=True)
    initialise(model, Initialisation(embedding_std=1.0, head_std=0.5, hidden_gain=2.0), seed=1)
    model = model.double()
    dense = merged(model)
    assert not [name for name, _ in dense.named_parameters() if name.endswith((".a", ".b", ".helper"))]
    assert torch.allclose(dense(prompt()), model(prompt()), rtol=1e-9, atol=1e-10)
    assert torch.equal(generate(dense, prompt(), 10), generate(model, prompt(), 10))


def test_a_text_longer_than_the_positions_is_refused(model):
    with pytest.raises(TrainingError, match="longer than the model's positions"):
        generate(model, prompt(length=30), 11)
    assert generate(model, prompt(length=30), 10).shape == (3, 40)
