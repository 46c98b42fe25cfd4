"""Every structure through its interface: counts, maps and starts agree with each other and with a built model."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.errors import TrainingError
from scaling.parameterizations import (
    DENSE,
    PARAMETERIZATIONS,
    LowRank,
    Parameterization,
    find_parameterization,
    parameterization_of,
    structures,
)
from scaling.parameterizations.low_rank import split
from scaling.run import Shape
from scaling.sweeps.counting import count, matrix_ranks
from scaling.training.model import Decoder

SHAPES = [
    Shape(layers=2, width=32, heads=4, ff_width=88, vocab_size=64),
    Shape(layers=2, width=32, heads=4, ff_width=88, vocab_size=64, kv_heads=2),
    Shape(layers=2, width=32, heads=4, ff_width=88, vocab_size=64, kv_heads=1, tied=True),
]


@st.composite
def structured(draw: Any) -> tuple[Parameterization, int, int]:
    """A structure and a size it can have."""
    outputs, inputs = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    rank = draw(st.integers(1, min(outputs, inputs)))
    return draw(st.sampled_from([DENSE, LowRank(rank), LowRank(rank, guided=True)])), outputs, inputs


def started(structure: Parameterization, w: torch.Tensor) -> dict[str, torch.Tensor]:
    return structure.start(w, torch.Generator().manual_seed(0))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(deadline=None, max_examples=60)
@given(structured())
def test_counts_follow_from_the_tensors(one: tuple[Parameterization, int, int]) -> None:
    structure, outputs, inputs = one
    specs = {spec.name: spec for spec in structure.tensors(outputs, inputs)}
    tensors = started(structure, normal(outputs, inputs))
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {n: s.shape for n, s in specs.items()}
    trained = sum(tensors[name].numel() for name, spec in specs.items() if spec.role == "trained")
    assert structure.params(outputs, inputs) == trained
    assert structure.structured_params(outputs, inputs) == (trained if structure.structured else 0)
    assert structure.flops(outputs, inputs) == 2 * trained  # every trained number is multiplied once per token
    assert structure.bytes(outputs, inputs, value_bytes=2) == 2 * trained
    stepped = [matrix for step in structure.matrices(outputs, inputs) for matrix in step.matrices]
    assert {m.tensor: (m.fan_out, m.fan_in) for m in stepped} == {
        name: spec.shape for name, spec in specs.items() if spec.role == "trained"
    }
    assert sum(m * n for m, n in structure.trained_matrices(outputs, inputs)) == trained


@settings(deadline=None, max_examples=60)
@given(structured(), st.integers(1, 5))
def test_apply_is_the_merged_matrix_and_transpose_apply_its_transpose(
    one: tuple[Parameterization, int, int], rows: int
) -> None:
    structure, outputs, inputs = one
    tensors = started(structure, normal(outputs, inputs))
    x, y = normal(rows, inputs, seed=1), normal(rows, outputs, seed=2)
    merged = structure.merged(tensors)
    assert merged.shape == (outputs, inputs)
    torch.testing.assert_close(structure.apply(tensors, x), x @ merged.mT)
    torch.testing.assert_close(structure.transpose_apply(tensors, y), y @ merged)
    # <W x, y> = <x, Wᵀ y>, whatever the merged matrix says
    torch.testing.assert_close(
        (structure.apply(tensors, x) * y).sum(), (x * structure.transpose_apply(tensors, y)).sum()
    )


@settings(deadline=None, max_examples=40)
@given(structured())
def test_kernels_and_saved_activations_are_those_of_apply(one: tuple[Parameterization, int, int]) -> None:
    structure, outputs, inputs = one
    seen: list[tuple[int, int]] = []

    class Spy(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func is torch.Tensor.__matmul__ or func is torch.Tensor.matmul:
                seen.append((args[1].shape[1], args[1].shape[0]))
            return super().__torch_function__(func, types, args, kwargs or {})

    tensors = started(structure, normal(outputs, inputs))
    structure.apply(tensors, normal(3, inputs).as_subclass(Spy))
    products = structure.products(outputs, inputs)
    assert seen == [(p.outputs, p.inputs) for p in products]
    assert structure.saved(outputs, inputs) == sum(p.outputs for p in products[:-1])


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 99), st.data())
def test_a_start_is_the_best_approximation_with_equal_spectra(rows: int, columns: int, seed: int, data: Any) -> None:
    rank = data.draw(st.integers(1, min(rows, columns)))
    w = normal(rows, columns, seed=seed).float()
    a, b = split(w, rank)
    u, s, vh = np.linalg.svd(w.double().numpy(), full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ vh[:rank]
    np.testing.assert_allclose((a @ b).numpy(), best, atol=2e-5)
    for factor in (a, b):
        np.testing.assert_allclose(np.linalg.svd(factor.numpy(), compute_uv=False), np.sqrt(s[:rank]), atol=1e-5)


def test_a_full_rank_start_loses_nothing() -> None:
    w = normal(7, 5)
    structure = LowRank(5, guided=True)
    tensors = started(structure, w)
    torch.testing.assert_close(structure.merged(tensors), w)
    assert tensors["helper"] is w
    assert DENSE.merged(started(DENSE, w)) is w


def test_the_helper_mixes_in_by_its_share_and_is_no_part_of_the_model() -> None:
    structure, x = LowRank(2, guided=True), normal(4, 9)
    tensors = started(structure, normal(6, 9))
    mixed = structure.apply(tensors, x, guide=torch.tensor(0.25))
    torch.testing.assert_close(mixed, 0.25 * x @ tensors["helper"].mT + 0.75 * x @ (tensors["a"] @ tensors["b"]).mT)
    assert structure.helper_params(6, 9) == 54
    assert structure.params(6, 9) == LowRank(2).params(6, 9) == 2 * (6 + 9)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ratio", [None, 0.25, 1.0])
def test_a_built_model_has_the_tensors_of_its_structures(shape: Shape, ratio: float | None) -> None:
    ranks = None if ratio is None else matrix_ranks(shape, ratio)
    model, sizes = Decoder(shape, ranks, sequence_length=8), shape.matrices()
    expected = {
        f"layers.{i}.{name}.{spec.name}": spec.shape
        for i in range(shape.layers)
        for name, structure in structures(shape, ranks).items()
        for spec in structure.tensors(*sizes[name])
    }
    built = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert {name: size for name, size in built.items() if name in expected} == expected
    hidden = sum(s.params(*sizes[name]) for name, s in structures(shape, ranks).items()) * shape.layers
    assert count(shape, ranks).hidden == hidden == sum(np.prod(size, dtype=int) for size in expected.values())


def test_the_registry_has_every_structure_under_its_own_name() -> None:
    assert set(PARAMETERIZATIONS) == {"dense", "low_rank"}
    for name, kind in PARAMETERIZATIONS.items():
        assert find_parameterization(name) is kind
        assert kind.name == name
    assert [parameterization_of(ranks).name for ranks in (None, {"q": 1})] == ["dense", "low_rank"]
    with pytest.raises(TrainingError) as error:
        find_parameterization("lowrank")
    assert (error.value.where, error.value.allowed) == ("parameterization", "dense, low_rank")


@pytest.mark.parametrize("rank", [0, 33, None])
def test_a_missing_or_impossible_rank_is_refused_by_name(rank: int | None) -> None:
    ranks = matrix_ranks(SHAPES[1], 0.25)
    ranks = {name: value for name, value in (ranks | {"o": rank}).items() if value is not None}
    with pytest.raises(TrainingError) as error:
        structures(SHAPES[1], ranks)
    assert (error.value.where, error.value.allowed) == ("ranks.o", "1 to 32")


def test_what_a_structure_is_needs_no_torch() -> None:
    program = (
        "import sys; from scaling.parameterizations import LowRank\n"
        "s = LowRank(3, guided=True); s.params(5, 7); s.products(5, 7); s.matrices(5, 7)\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
