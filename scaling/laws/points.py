"""The data of a law: one point per trained model (or per cell), as plain arrays.

A point says how large a model was (`params`), how long it trained (`tokens`) and where it ended (`loss`). Everything
else is optional and only asked for by the method that needs it: isoFLOP minima need `budget`, paired draws need `cell`
or `seed`, the rank laws need `factorized_params`. Which of the three parameter counts `params` holds is the caller's
choice and is carried in `params_column`, because an exponent depends on the convention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaling.errors import FitError

Array = npt.NDArray[np.float64]
Texts = npt.NDArray[np.str_]
Indices = npt.NDArray[np.intp]

FLOPS_PER_PARAM_TOKEN = 6.0  # Kaplan et al. 2020, section 2.1: forward 2, backward 4

_POSITIVE = ("params", "tokens", "loss", "flops", "budget", "unique_tokens", "unique_params")
_FINITE = ("weight", "factorized_params", "relative_rank")
_LABELS = ("line", "trunk", "cell", "seed")


class Range(NamedTuple):
    """Smallest and largest N, D and D/N of some points: what a law fitted to them rests on."""

    params: tuple[float, float]
    tokens: tuple[float, float]
    tokens_per_param: tuple[float, float]


@dataclass(frozen=True, eq=False)
class Points:
    """n points, every field an array [n] or None.

    Args:
        params: parameters N, in the convention named by `params_column`.
        tokens: training tokens D.
        loss: final loss in nats per token (or any positive loss; the unit carries through).
        flops: training FLOPs actually spent; None counts 6·N·D (`compute`).
        budget: the nominal compute budget of the isoFLOP profile a point belongs to.
        line: name of the line, for laws over several lines.
        rank_ratio: rank ratio, NaN for dense.
        weight: non-negative weight of each point in the objective; None is 1.
        trunk: points that share a trunk (one run read at several horizons) share a label: they are resampled together.
        cell: points of one cell share a label; pairs lines in paired draws.
        seed: training seed; cells with several seeds give the seed noise.
        factorized_params: of `params`, those in factorized matrices (as counted); 0 for dense. For `rank`,
            `rank_power`.
        relative_rank: mean of r/min(in, out) over the factorized matrices, 1 for dense. For `rank_power`.
        unique_tokens: distinct tokens of the corpus a point was trained on; tokens/unique_tokens are epochs. For
            `data_constrained`.
        unique_params: compute-optimal parameters for `unique_tokens`, at most `params`. For `data_constrained`.
        params_column: which count `params` is.

    Raises:
        FitError: a column has the wrong length, or holds a value that is not finite (or not positive where it must be).
    """

    params: Array
    tokens: Array
    loss: Array
    flops: Array | None = None
    budget: Array | None = None
    line: Texts | None = None
    rank_ratio: Array | None = None
    weight: Array | None = None
    trunk: Texts | None = None
    cell: Texts | None = None
    seed: Texts | None = None
    factorized_params: Array | None = None
    relative_rank: Array | None = None
    unique_tokens: Array | None = None
    unique_params: Array | None = None
    params_column: str = "params"

    def __post_init__(self) -> None:
        """Copies, checks and freezes the columns."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "params_column" or value is None:
                continue
            column = _labels(value) if field.name in _LABELS else _numbers(field.name, value)
            if column.shape != (np.size(self.params),):
                raise FitError(
                    "columns of points differ in length",
                    where=f"column {field.name}",
                    got=str(column.shape),
                    allowed=f"({np.size(self.params)},), as many values as `params`",
                )
            column.setflags(write=False)
            object.__setattr__(self, field.name, column)
        if not len(self):
            raise FitError("there are no points", hint="check the file, and the exclusions")
        _check_values(self)

    def __len__(self) -> int:
        return int(np.size(self.params))

    @cached_property
    def compute(self) -> Array:
        """Training FLOPs: `flops` where given, else 6·N·D."""
        return self.flops if self.flops is not None else FLOPS_PER_PARAM_TOKEN * self.params * self.tokens

    @cached_property
    def weights(self) -> Array:
        """Weight of every point (ones where none were given)."""
        return self.weight if self.weight is not None else np.ones(len(self))

    @cached_property
    def range(self) -> Range:
        """The range of the points."""
        columns = (self.params, self.tokens, self.tokens / self.params)
        params, tokens, ratio = ((float(column.min()), float(column.max())) for column in columns)
        return Range(params, tokens, ratio)

    @property
    def designed(self) -> bool:
        """Whether the budgets hold two points or more each, on average: a designed grid, not a column of compute."""
        return self.budget is not None and 2 * len(np.unique(self.budget)) <= len(self)

    def select(self, rows: Indices | npt.NDArray[np.bool_] | Sequence[int]) -> Points:
        """The points at `rows` (indices or a mask)."""
        index = np.asarray(rows)
        kept = {
            field.name: value[index]
            for field in fields(self)
            if field.name != "params_column" and (value := getattr(self, field.name)) is not None
        }
        return replace(self, **kept)

    def with_loss(self, loss: Array) -> Points:
        """The same points with other losses."""
        return replace(self, loss=loss)

    def drop_highest(self, count: int) -> Points:
        """Without the `count` highest losses (the replication of Hoffmann et al. drops 5 early, unconverged runs).

        Raises:
            FitError: no points would be left.
        """
        if count >= len(self):
            raise FitError("no points would be left", got=f"{count} of {len(self)} dropped", allowed="fewer")
        return self.select(np.sort(np.argsort(self.loss, kind="stable")[: len(self) - count]))

    def lines(self) -> dict[str, Points]:
        """The points of each line, in order of first appearance; one line named "" where no line is given."""
        if self.line is None:
            return {"": self}
        return {str(name): self.select(self.line == name) for name in dict.fromkeys(self.line.tolist())}


def _numbers(name: str, value: object) -> Array:
    try:
        return np.array(value, dtype=np.float64, copy=True)
    except (TypeError, ValueError) as error:
        raise FitError(f"a value is not a number: {error}", where=f"column {name}") from error


def _labels(value: object) -> Texts:
    return np.array([str(item) for item in np.asarray(value).tolist()], dtype=np.str_)


def _check_values(points: Points) -> None:
    for name in (*_POSITIVE, *_FINITE):
        column = getattr(points, name)
        if column is None:
            continue
        wanted = "finite and positive" if name in _POSITIVE else "finite and not negative"
        good = np.isfinite(column) & ((column > 0) if name in _POSITIVE else (column >= 0))
        if not good.all():
            row = int(np.flatnonzero(~good)[0])
            raise FitError(
                f"{(~good).sum()} of {len(points)} values cannot be used",
                where=f"column {name}, point {row + 1}",
                got=repr(float(column[row])),
                allowed=f"{wanted} numbers",
                hint="remove those rows, or exclude them by name and reason",
            )
    if points.weight is not None and not points.weight.any():
        raise FitError("every weight is zero", where="column weight", allowed="at least one positive weight")
