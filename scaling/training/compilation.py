"""Compiles the parts of a model, and says whether they really were compiled.

The blocks of a model are alike, so one of them is compiled and serves them all, and so is its end (last norm, output
head, loss): compiling takes as long for twenty layers as for two. Dynamo keeps what it has compiled for the life of a
process and stops compiling one function after a few models: from then on it runs that function eagerly and says
nothing. So every run starts with an empty cache, and the number of graphs that reached the compiler is kept.
"""

from __future__ import annotations

import gc
import warnings
from types import MethodType
from typing import Any

import torch

from scaling.training.model import Decoder, DecoderBlock

OF_DYNAMO = (  # what torch warns its own compiler of: it reads the stream's gradient, and instantiates a Function
    "The .grad attribute of a Tensor that is not a leaf",
    "<class 'torch.autograd.function.Function'> should not be instantiated",
)


class Compiler:
    """Compiles a model with a backend of torch; compiles nothing without one.

    Attributes:
        graphs: how many graphs were compiled so far.
    """

    def __init__(self, backend: str | None) -> None:
        self.backend, self.graphs = backend, 0
        if backend is not None:
            torch._dynamo.reset()
            gc.collect()  # a compiled model refers to itself, so the last one still holds its memory

    def compile(self, model: Decoder) -> None:
        """Let the blocks and the end of `model` be compiled when they are first called."""
        if self.backend is None:
            return
        for message in OF_DYNAMO:
            warnings.filterwarnings("ignore", message)
        backend = self._compile  # one object: a graph is only used again by the backend that made it
        block = torch.compile(DecoderBlock.forward, backend=backend)
        for layer in model.layers:
            layer.forward = MethodType(block, layer)
        model.losses = MethodType(torch.compile(Decoder.losses, backend=backend), model)  # type: ignore[method-assign]

    @property
    def compiled(self) -> bool:
        """Whether anything was compiled."""
        return self.graphs > 0

    def _compile(self, graph: Any, inputs: list[Any]) -> Any:
        assert self.backend is not None
        self.graphs += 1
        return torch._dynamo.lookup_backend(self.backend)(graph, inputs)
