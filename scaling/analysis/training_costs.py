"""What one trained token costs at a size N, on the three axes a comparison can hold equal.

`exact` and `6ND` follow from the shapes of the line (`inference.Curve`: log-interpolated along its ladder);
`device_seconds` is measured, so it is log-interpolated between the sizes that were trained and grows in proportion to
N beyond them. A table without shapes knows only 6·N·D, and says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from scaling.analysis.data_points import Cell
from scaling.analysis.table_reader import ForeignRow
from scaling.errors import DataError
from scaling.inference.curve import Curve, FloatArray
from scaling.parameterizations import Ranks
from scaling.rows import RunRow
from scaling.run import Shape
from scaling.sweeps.counting import count, matrix_ranks

PerToken = Callable[[FloatArray], FloatArray]
Models = Sequence[tuple[Shape, Ranks]]


def models_of_rows(rows: Sequence[RunRow]) -> Models | None:
    """The models of one line as its rows describe them; None in a foreign table that describes none.

    Raises:
        DataError: the shape of a run of ours does not give the parameters that were counted.
    """
    models: dict[tuple[Shape, tuple[tuple[str, int], ...]], tuple[Shape, Ranks]] = {}
    for row in rows:
        model = row.model or _model_of_0_1(row)
        if model is None or count(*model).params_total != row.params_total:
            if isinstance(row, ForeignRow) or row.imported:
                return None
            raise DataError(
                "the shape of a run does not give its number of parameters",
                where=f"run {row.id}, {row.cell}",
                got=f"params_total {row.params_total}",
                allowed="the layers, widths, heads, ties and ranks that were trained",
                hint="scaling collect SWEEP   writes the table anew from the launch",
            )
        models[model[0], tuple((model[1] or {}).items())] = model
    return list(models.values())


def _model_of_0_1(row: RunRow) -> tuple[Shape, Ranks] | None:
    """The model of a row without key-value heads, ties and ranks: of all there may be the first that has the
    parameters the row counted.
    """
    layers, width, heads, ff_width, vocab = row.layers, row.width, row.heads, row.ff_width, row.vocab_size
    if layers is None or width is None or heads is None or ff_width is None or vocab is None:
        return None
    shared = [n for n in range(1, heads) if heads % n == 0]
    for kv_heads, tied in itertools.product((None, *shared), (False, True)):
        shape = Shape(layers, width, heads, ff_width, vocab, kv_heads, True if tied else None)
        ratio = row.rank_ratio
        for ranks in [None] if ratio is None else [matrix_ranks(shape, ratio), matrix_ranks(shape, ratio, "min")]:
            if count(shape, ranks).params_total == row.params_total:
                return shape, ranks
    return None


def smooth(params: Sequence[float], per_token: Sequence[float]) -> PerToken:
    """A cost per token as a function of N: a parabola in log–log through (N, cost), proportional to N beyond them."""
    x, y = np.log(np.array(params)), np.log(np.array(per_token))
    sizes = len(np.unique(x))
    centre, low, high = x.mean(), x.min(), x.max()
    rest = np.polyfit(x - centre, y - x, min(2, sizes - 1)) if sizes > 1 else np.array([(y - x).mean()])

    def cost(n: FloatArray) -> FloatArray:
        log_n = np.log(n)
        return np.asarray(np.exp(log_n + np.polyval(rest, np.clip(log_n, low, high) - centre)))

    return cost


def seconds_per_token(cells: Sequence[Cell]) -> PerToken | None:
    """Device seconds per trained token at N, from the runs that were timed."""
    timed = [
        (cell.params, row.device_seconds / row.tokens) for cell in cells for row in cell.rows if row.device_seconds
    ]
    return smooth(*zip(*timed, strict=True)) if timed else None


def axes(curve: Curve | None, cells: Sequence[Cell], *, sequence_length: int | None) -> dict[str, PerToken]:
    """Cost per trained token by axis; `6ND` alone, as 6·N, where there are no shapes."""
    if curve is None:
        return {"6ND": lambda params: 6.0 * params}
    sizes = [rung.params for rung in curve.rungs]
    costs: dict[str, PerToken] = {}
    for convention in ("exact", "6ND") if sequence_length is not None else ("6ND",):
        flops = curve.training_flops_per_token(sizes, sequence_length=sequence_length or 0, convention=convention)
        costs[convention] = smooth(sizes, flops.tolist())
    seconds = seconds_per_token(cells)
    if seconds is not None:
        costs["device_seconds"] = seconds
    return costs
