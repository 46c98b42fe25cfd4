"""The structures that a hidden matrix can have, one file each behind the interface of `interface.py`.

`PARAMETERIZATIONS` has them by the name a sweep writes. A run holds its options as data (`Run.ranks`: matrix name ->
rank, None where every matrix is dense), and `structures` turns them into the structure of every matrix.
"""

from __future__ import annotations

from collections.abc import Mapping

from scaling.errors import TrainingError
from scaling.parameterizations.dense import DENSE, Dense
from scaling.parameterizations.interface import HELPER, Matrix, Parameterization, Product, Stepped, TensorSpec
from scaling.parameterizations.low_rank import LowRank
from scaling.run import Shape

__all__ = [
    "DENSE",
    "HELPER",
    "PARAMETERIZATIONS",
    "Dense",
    "LowRank",
    "Matrix",
    "Parameterization",
    "Product",
    "Ranks",
    "Stepped",
    "TensorSpec",
    "find_parameterization",
    "parameterization_of",
    "structures",
]

Ranks = Mapping[str, int] | None
PARAMETERIZATIONS: Mapping[str, type[Parameterization]] = {kind.name: kind for kind in (Dense, LowRank)}


def find_parameterization(name: str) -> type[Parameterization]:
    """The structure called `name`.

    Raises:
        TrainingError: there is none.
    """
    if name not in PARAMETERIZATIONS:
        raise TrainingError(
            "There is no such parameterization.",
            where="parameterization",
            got=name,
            allowed=", ".join(PARAMETERIZATIONS),
        )
    return PARAMETERIZATIONS[name]


def parameterization_of(ranks: Ranks) -> type[Parameterization]:
    """The structure of the hidden matrices of a model."""
    return Dense if ranks is None else LowRank


def structures(shape: Shape, ranks: Ranks, *, guided: bool = False) -> dict[str, Parameterization]:
    """The structure of every matrix of one layer, by its name in `Shape.matrices`.

    Args:
        shape: the model.
        ranks: matrix name -> rank; None where every matrix is dense.
        guided: whether structures that take a helper have one.

    Raises:
        TrainingError: a rank is missing or impossible.
    """
    if ranks is None:
        return dict.fromkeys(shape.matrices(), DENSE)
    result: dict[str, Parameterization] = {}
    for name, (outputs, inputs) in shape.matrices().items():
        result[name] = LowRank(ranks.get(name, 0), guided=guided)
        if allowed := result[name].problem(outputs, inputs):
            raise TrainingError(
                "A low-rank run needs a possible rank for every matrix.",
                where=f"ranks.{name}",
                got=ranks.get(name),
                allowed=allowed,
            )
    return result
