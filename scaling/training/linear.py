"""The one linear map of the model: the tensors of a structure as parameters, applied as the structure says."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from scaling.errors import TrainingError
from scaling.parameterizations import Parameterization


class Linear(nn.Module):
    """y (..., out) from x (..., in). Parameters and buffers: the tensors of `structure`, under their names.

    Attributes:
        guide: share of the structure's helper, a number on the device; None: the helper is off.
    """

    def __init__(self, structure: Parameterization, outputs: int, inputs: int) -> None:
        super().__init__()
        self.structure, self.outputs, self.inputs = structure, outputs, inputs
        self.guide: Tensor | None = None
        for spec in structure.tensors(outputs, inputs):
            if spec.role == "buffer":
                self.register_buffer(spec.name, torch.empty(spec.shape))
            else:
                self.register_parameter(spec.name, nn.Parameter(torch.empty(spec.shape)))

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The tensors by name."""
        return {**self._parameters, **self._buffers}  # type: ignore[dict-item]  # None is never registered

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) -> (..., out)."""
        return self.structure.apply(self.tensors, x, guide=self.guide)

    @torch.no_grad()
    def set_dense(self, w_OI: Tensor, generator: torch.Generator) -> None:
        """Start from the dense matrix `w_OI`; `generator` is this matrix's own."""
        for name, value in self.structure.start(w_OI, generator).items():
            self.tensors[name].copy_(value)

    def merged(self) -> Tensor:
        """The matrix that this map applies without its helper, out × in.

        Raises:
            TrainingError: the structure has no such matrix.
        """
        if not self.structure.mergeable:
            raise TrainingError(
                "This model cannot be written as dense matrices.",
                where="parameterization",
                got=self.structure.name,
                allowed="a structure without a nonlinearity inside",
            )
        return self.structure.merged({name: tensor.detach() for name, tensor in self.tensors.items()})

    def factors(self) -> list[Tensor]:
        """The factors of products, detached: what an optimizer steps as pairs."""
        stepped = self.structure.matrices(self.outputs, self.inputs)
        return [self.tensors[m.tensor].detach() for one in stepped if one.kind == "pair" for m in one.matrices]
