"""Compiled functions of one run, and whether they really were compiled.

Dynamo keeps what it has compiled for the life of a process and stops compiling one function after a few models: from
then on it runs that function eagerly and says nothing. So every run starts with an empty cache, and the number of
graphs that reached the compiler is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


class Compiler:
    """Compiles the functions of one run with a backend of torch; compiles nothing without one.

    Attributes:
        graphs: how many graphs were compiled so far.
    """

    def __init__(self, backend: str | None) -> None:
        self.backend, self.graphs = backend, 0
        if backend is not None:
            torch._dynamo.reset()

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        """The function, compiled when it is first called."""
        if self.backend is None:
            return function
        return torch.compile(function, backend=self._compile)

    @property
    def compiled(self) -> bool:
        """Whether anything was compiled."""
        return self.graphs > 0

    def _compile(self, graph: Any, inputs: list[Any]) -> Any:
        assert self.backend is not None
        self.graphs += 1
        return torch._dynamo.lookup_backend(self.backend)(graph, inputs)
