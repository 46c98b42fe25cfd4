from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scaling.errors import TrainingError
from scaling.run import Initialisation, Shape
from scaling.sweeps.counting import count, matrix_ranks
from scaling.training.model import Decoder, initialise, mean_loss, token_losses

SHAPES = [
    Shape(layers=2, width=8, heads=2, ff_width=24, vocab_size=32),
    Shape(layers=1, width=12, heads=1, ff_width=32, vocab_size=20),
    Shape(layers=3, width=16, heads=4, ff_width=40, vocab_size=32, kv_heads=2),
    Shape(layers=2, width=8, heads=2, ff_width=24, vocab_size=32, tied=True),
]
INIT = Initialisation(embedding_std=0.3, head_std=0.1, hidden_gain=1.0)


def built(shape: Shape, ratio: float | None, seed: int = 0) -> Decoder:
    model = Decoder(shape, None if ratio is None else matrix_ranks(shape, ratio), sequence_length=16)
    initialise(model, INIT, seed=seed)
    return model


def reference_logits(shape: Shape, weights: dict[str, np.ndarray], tokens: np.ndarray) -> np.ndarray:
    """The model once more, one sequence, in float64 NumPy, position by position."""

    def norm(x, w):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * w

    def turn(x, t):  # x (C): complex pairs (c, c + C/2)
        half = len(x) // 2
        z = (x[:half] + 1j * x[half:]) * np.exp(1j * t * 1e4 ** (-np.arange(half) / half))
        return np.concatenate((z.real, z.imag))

    x = weights["embedding.weight"][tokens]
    c, group = shape.head_dim, shape.heads // (shape.kv_heads or shape.heads)
    for i in range(shape.layers):
        w = {k.removeprefix(f"layers.{i}."): v for k, v in weights.items() if k.startswith(f"layers.{i}.")}
        y = norm(x, w["attention_norm.weight"])
        q, k, v = (y @ w[n].T for n in "qkv")
        out = np.zeros_like(q)
        for h in range(shape.heads):
            mine, theirs = slice(h * c, (h + 1) * c), slice(h // group * c, (h // group + 1) * c)
            for t in range(len(tokens)):
                scores = [turn(q[t, mine], t) @ turn(k[s, theirs], s) / np.sqrt(c) for s in range(t + 1)]
                p = np.exp(scores - np.max(scores))
                out[t, mine] = (p / p.sum()) @ v[: t + 1, theirs]
        x = x + out @ w["o"].T
        y = norm(x, w["feed_forward_norm.weight"])
        gate = y @ w["gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ w["up"].T)) @ w["down"].T
    return norm(x, weights["norm.weight"]) @ weights.get("head.weight", weights["embedding.weight"]).T


@pytest.mark.parametrize("ratio", [None, 0.25])
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_match_a_float64_reference(shape, ratio):
    model = built(shape, ratio)
    for parameter in model.parameters():  # norms away from one, so that their weights matter
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    tokens = torch.randint(0, shape.vocab_size, (2, 11), generator=torch.Generator().manual_seed(2))
    weights = {n: p.detach().double().numpy() for n, p in model.named_parameters()}
    weights |= {n: layer.merged().double().numpy() for n, layer in model.hidden().items()}
    expected = [reference_logits(shape, weights, row) for row in tokens.numpy()]
    np.testing.assert_allclose(model(tokens).detach().numpy(), expected, atol=2e-5)


@pytest.mark.parametrize("ratio", [None, 0.25, 1.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_parameters_and_flops_are_those_counted_from_the_shape(shape, ratio):
    model = built(shape, ratio)
    counts = count(shape, None if ratio is None else matrix_ranks(shape, ratio))
    assert sum(p.numel() for p in model.parameters()) == counts.params_total
    tokens = torch.zeros(3, 16, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        mean_loss(model, tokens, tokens).backward()
    products = {str(op): n for op, n in counter.get_flop_counts()["Global"].items() if "scaled_dot" not in str(op)}
    attention_free = shape.kv_heads is None  # grouped heads run attention as plain products, which the counter sees
    if attention_free:
        assert sum(products.values()) == 6 * counts.params_matmul * tokens.numel()


def test_the_future_does_not_matter():
    model = built(SHAPES[2], 0.25)
    tokens = torch.randint(0, 32, (1, 16))
    changed = tokens.clone()
    changed[0, 9:] = (changed[0, 9:] + 1) % 32
    torch.testing.assert_close(model(tokens)[:, :9], model(changed)[:, :9])
    assert not torch.allclose(model(tokens)[:, 9], model(changed)[:, 9])


def test_one_seed_gives_dense_and_low_rank_the_same_matrices():
    dense, full = built(SHAPES[0], None), built(SHAPES[0], 1.0)
    for (name, a), b in zip(dense.hidden().items(), full.hidden().values(), strict=True):
        torch.testing.assert_close(a.merged(), b.merged(), msg=name)
    torch.testing.assert_close(dense.embedding.weight, full.embedding.weight, rtol=0, atol=0)
    other = built(SHAPES[0], None, seed=1)
    assert not torch.equal(dense.embedding.weight, other.embedding.weight)


def test_initial_standard_deviations():
    shape = replace(SHAPES[0], width=64, heads=4, ff_width=168)
    model = built(shape, None)
    assert model.embedding.weight.std().item() == pytest.approx(0.3, rel=0.05)
    assert model.layers[0].down.weight.std().item() == pytest.approx(168**-0.5, rel=0.05)
    assert model.head is not None
    assert model.head.weight.std().item() == pytest.approx(0.1, rel=0.05)


def test_mean_loss_is_the_mean_of_the_token_losses():
    model = built(SHAPES[0], None)
    inputs, targets = torch.randint(0, 32, (2, 3, 16))
    torch.testing.assert_close(mean_loss(model, inputs, targets), token_losses(model, inputs, targets).mean())


@pytest.mark.parametrize(
    ("shape", "ranks", "where"),
    [
        (Shape(1, 10, 3, 24, 32), None, "shape.heads"),
        (Shape(1, 6, 2, 24, 32), None, "shape.heads"),
        (Shape(1, 12, 3, 24, 32, kv_heads=2), None, "shape.kv_heads"),
        (SHAPES[0], {"q": 9}, "ranks.q"),
        (SHAPES[0], dict.fromkeys("qkvo", 1), "ranks.gate"),
    ],
)
def test_impossible_shapes_are_refused_by_name(shape, ranks, where):
    with pytest.raises(TrainingError) as error:
        Decoder(shape, ranks, sequence_length=8)
    assert error.value.where == where
