import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from scaling.run import DataRef, Initialisation, Optimizer, Run, Schedule, Shape
from scaling.sweeps import counting
from scaling.sweeps.counting import count, matrix_ranks
from scaling.sweeps.ladders import LADDERS
from scaling.sweeps.memory import training_memory
from scaling.training.model import Decoder, mean_loss

EVERY_SHAPE = [(name, rung.name) for name, ladder in LADDERS.items() for rung in ladder]
SMALL = Shape(layers=2, width=32, heads=4, ff_width=88, vocab_size=64)


def shape_of(ladder: str, rung: str) -> Shape:
    return next(r for r in LADDERS[ladder] if r.name == rung).shape(256 if ladder == "tiny" else 32_000)


def built(shape: Shape, ranks: dict[str, int] | None) -> Decoder:
    with torch.device("meta"):
        return Decoder(shape, ranks, sequence_length=16)


@pytest.mark.parametrize(("ladder", "rung"), EVERY_SHAPE)
@pytest.mark.parametrize("rank_of", [None, "in_features", "min"])
def test_every_group_equals_the_built_models_tensors(ladder: str, rung: str, rank_of: str | None) -> None:
    shape = shape_of(ladder, rung)
    # Every layer is alike: two are enough, and keep the largest shapes quick to build.
    shape = dataclasses.replace(shape, layers=min(shape.layers, 2))
    ranks = None if rank_of is None else matrix_ranks(shape, 0.3, rank_of)
    groups = dict.fromkeys(("embedding", "head", "attention", "feed_forward", "norms"), 0)
    for name, tensor in built(shape, ranks).named_parameters():
        part = name.split(".")[2] if name.startswith("layers") else name.split(".")[0]
        group = "attention" if part in "qkvo" else "feed_forward" if part in ("gate", "up", "down") else part
        groups["norms" if "norm" in group else group] += tensor.numel()
    counts = count(shape, ranks)
    assert {group: getattr(counts, group) for group in groups} == groups
    assert counts.params_total == sum(groups.values())


@pytest.mark.parametrize("rung", [rung.name for rung in LADDERS["tiny"]])
def test_totals_of_the_tiny_ladder_equal_the_built_model(rung: str) -> None:
    shape = shape_of("tiny", rung)
    for ranks in (None, matrix_ranks(shape, 0.25)):
        assert count(shape, ranks).params_total == sum(p.numel() for p in built(shape, ranks).parameters())


@pytest.mark.parametrize(
    "shape", [SMALL, dataclasses.replace(SMALL, kv_heads=2), dataclasses.replace(SMALL, tied=True)]
)
@pytest.mark.parametrize("ratio", [None, 0.25])
def test_torch_counts_six_times_params_matmul_per_token(shape: Shape, ratio: float | None) -> None:
    ranks = None if ratio is None else matrix_ranks(shape, ratio)
    model = Decoder(shape, ranks, sequence_length=16)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    tokens = torch.randint(shape.vocab_size, (3, 17))
    with FlopCounterMode(display=False) as counter:
        mean_loss(model, tokens[:, :-1], tokens[:, 1:]).backward()
    # The counter does not see CPU attention, whose products are counted by formula.
    assert counter.get_total_flops() == 6 * count(shape, ranks).params_matmul * 3 * 16


def test_attention_counts_scores_and_values_over_half_the_positions() -> None:
    dense = 2 * count(SMALL).params_matmul
    assert counting.forward_flops_per_token(SMALL, None, 128) - dense == 2 * 2 * 2 * 32 * 64
    assert counting.training_flops(SMALL, None, sequence_length=128, tokens=10) == 30 * (dense + 2 * 2 * 2 * 32 * 64)


def test_the_dense_helper_counts_while_it_is_on() -> None:
    ranks = matrix_ranks(SMALL, 0.25)
    plain = counting.training_flops(SMALL, ranks, sequence_length=16, tokens=100)
    guided = counting.training_flops(SMALL, ranks, sequence_length=16, tokens=100, guided=0.5)
    helper = count(SMALL).params_matmul - count(SMALL).head_products
    assert guided - plain == 0.5 * 6 * helper * 100


@pytest.mark.parametrize(
    ("ratio", "rank_of", "ranks"),
    [
        (0.25, "in_features", {"q": 8, "gate": 8, "down": 22}),
        (0.5, "in_features", {"q": 16, "gate": 16, "down": 32}),  # 44 clamped to min(in, out)
        (0.25, "min", {"q": 8, "gate": 8, "down": 8}),
        (0.001, "in_features", {"q": 1, "gate": 1, "down": 1}),
        (1.0, "min", {"q": 32, "gate": 32, "down": 32}),
    ],
)
def test_ranks_follow_their_rule(ratio: float, rank_of: str, ranks: dict[str, int]) -> None:
    found = matrix_ranks(SMALL, ratio, rank_of)
    assert {name: found[name] for name in ranks} == ranks


def optimizer(name: str) -> Optimizer:
    return Optimizer(name, 0.02, 0.02, 0.9, 0.95, 1e-8, newton_schulz_steps=None if name == "adamw" else 5)


def test_newton_schulz_is_counted_product_by_product() -> None:
    """One 3 x 5 step by hand: X Xᵀ 2·3·5·3, its square 2·3·3·3, times X 2·3·3·5."""
    shape = Shape(layers=1, width=6, heads=1, ff_width=10, vocab_size=2)
    muon = counting.optimizer_flops(shape, None, optimizer("muon"), 1)
    fewer = counting.optimizer_flops(shape, None, dataclasses.replace(optimizer("muon"), newton_schulz_steps=2), 1)
    by_hand = 4 * (2 * 6 * 6 * 6 * 3) + 3 * (2 * 6 * 10 * 6 + 2 * 6**3 + 2 * 6 * 6 * 10)
    assert muon - fewer == 3 * by_hand
    assert counting.optimizer_flops(shape, None, optimizer("muon"), 7) == 7 * muon


def test_optimizer_share_at_width_64_is_the_measured_one() -> None:
    """Newton-Schulz was 31 % of the training FLOPs of a dense model at width 64 and 6 sequences of 128 per step."""
    shape = next(r for r in LADDERS["tiny"] if r.name == "d64L3").shape(256)
    share = counting.optimizer_flops(shape, None, optimizer("muon"), 1) / counting.training_flops(
        shape, None, sequence_length=128, tokens=768
    )
    assert share == pytest.approx(0.31, abs=0.05)


def test_memory_grows_with_every_cause() -> None:
    run = Run(
        shape=SMALL,
        parameterization="dense",
        initialisation=Initialisation(0.3, 0.0, 1.0),
        optimizer=optimizer("muon"),
        schedule=Schedule("linear", 1, 0.0),
        steps=10,
        batch_tokens=256,
        sequence_length=128,
        seed=0,
        data=DataRef("python-stdlib", "bytes", 1024),
    )
    least = training_memory(run, sequences=1).peak
    params = count(SMALL).params_total
    assert least > 12 * params  # weights, gradients, one average
    assert training_memory(dataclasses.replace(run, optimizer=optimizer("adamw")), sequences=1).peak > least
    assert training_memory(run, sequences=2).peak > least
    low_rank = dataclasses.replace(run, parameterization="low_rank", ranks=matrix_ranks(SMALL, 0.25))
    assert training_memory(dataclasses.replace(low_rank, self_guided=0.5), sequences=1).peak > (
        training_memory(low_rank, sequences=1).peak
    )


def test_kv_bytes_count_two_tensors_per_layer() -> None:
    assert counting.kv_bytes_per_token(SMALL) == 2 * 2 * 32 * 2
    assert counting.kv_bytes_per_token(dataclasses.replace(SMALL, kv_heads=1), 4) == 2 * 2 * 8 * 4


@pytest.mark.parametrize(("ladder", "rung"), EVERY_SHAPE)
def test_torch_counts_the_products_and_the_attention_of_every_ladder_shape(ladder: str, rung: str) -> None:
    """Without storage attention runs as plain batched products over all positions, so the counter sees it too."""
    shape = shape_of(ladder, rung)
    shape = dataclasses.replace(shape, layers=min(shape.layers, 2))
    for ranks in (None, matrix_ranks(shape, 0.25)):
        tokens = torch.zeros(1, 16, dtype=torch.long, device="meta")
        with FlopCounterMode(display=False) as counter:
            mean_loss(built(shape, ranks), tokens, tokens).backward()
        flops = {str(op): count for op, count in counter.get_flop_counts()["Global"].items()}
        assert flops.keys() == {"aten.mm", "aten.bmm"}
        assert flops["aten.mm"] == 6 * count(shape, ranks).params_matmul * 16
        full = counting.forward_flops_per_token(shape, ranks, 2 * 16)  # a causal position sees half of them on average
        assert sum(flops.values()) == 3 * full * 16
