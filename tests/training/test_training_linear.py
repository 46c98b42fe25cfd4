"""The generic map against the facts of its structure."""

import pytest
import torch

from scaling.errors import TrainingError
from scaling.parameterizations import DENSE, LowRank
from scaling.training.linear import Linear

STREAM = torch.Generator()


@pytest.mark.parametrize("structure", [DENSE, LowRank(3), LowRank(3, guided=True)])
def test_parameters_are_the_tensors_of_the_structure(structure):
    layer = Linear(structure, 6, 9)
    named = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert list(named.items()) == [(spec.name, spec.shape) for spec in structure.tensors(6, 9)]
    trained = sum(p.numel() for name, p in layer.named_parameters() if name != "helper")
    assert trained == structure.params(6, 9)


@pytest.mark.parametrize("structure", [DENSE, LowRank(3)])
def test_the_map_is_nested_linear_bit_for_bit_in_both_directions(structure):
    layer, generator = Linear(structure, 32, 48), torch.Generator().manual_seed(0)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    x, slope = (torch.randn(16, n, generator=generator) for n in (48, 32))
    layer(x).backward(slope)
    ours = [layer(x).detach()] + [p.grad.clone() for p in layer.parameters()]
    layer.zero_grad()
    y = x
    for product in structure.products(32, 48):
        y = torch.nn.functional.linear(y, layer.get_parameter(product.name))
    y.backward(slope)
    for one, other in zip(ours, [y.detach()] + [p.grad for p in layer.parameters()], strict=True):
        assert torch.equal(one, other)


def test_dense_and_guided_maps_start_from_the_same_matrix():
    w, x = torch.randn(6, 9), torch.randn(4, 9)
    dense, guided = Linear(DENSE, 6, 9), Linear(LowRank(3, guided=True), 6, 9)
    dense.set_dense(w, STREAM)
    guided.set_dense(w, STREAM)
    guided.guide = torch.ones(())
    torch.testing.assert_close(guided(x), dense(x))
    guided.guide = torch.tensor(0.25)
    torch.testing.assert_close(guided(x), 0.25 * dense(x) + 0.75 * x @ guided.merged().T)
    guided.guide = None
    torch.testing.assert_close(guided(x), x @ guided.merged().T)


def test_factors_are_what_is_stepped_as_pairs():
    assert Linear(DENSE, 6, 9).factors() == []
    assert [tuple(f.shape) for f in Linear(LowRank(3, guided=True), 6, 9).factors()] == [(6, 3), (3, 9)]


def test_a_structure_with_a_buffer_keeps_it_out_of_the_parameters():
    class Permuted(type(DENSE)):
        def tensors(self, outputs, inputs):
            from scaling.parameterizations import TensorSpec

            return (*super().tensors(outputs, inputs), TensorSpec("order", (inputs,), "buffer"))

    layer = Linear(Permuted(), 6, 9)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    assert set(layer.tensors) == {"weight", "order"} == set(layer.state_dict())


def test_a_structure_without_a_merged_matrix_says_so():
    class Nonlinear(type(DENSE)):
        mergeable = False

    with pytest.raises(TrainingError, match="cannot be written as dense"):
        Linear(Nonlinear(), 6, 9).merged()
