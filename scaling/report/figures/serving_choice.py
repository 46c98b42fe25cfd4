"""Which (rank, N) is cheapest over (served tokens, loss), and what memory a served model takes along its context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaling.analysis.study import Study
from scaling.inference.curve import FloatArray
from scaling.inference.decision import least_loss
from scaling.quantity import format_bytes, format_number
from scaling.report.decision_tables import made_decision
from scaling.report.figures.axes import Numbers, end_labels, new_figure, set_log_ticks
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import INK, SOFT, colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

_LOSSES, _SIZES = 49, 400
_BELOW, _ABOVE = 0.02, 5.0  # of the reference's C_f(ℓ): the range of losses that the map shows
_CONTEXTS = 25


@dataclass(frozen=True)
class MapData:
    """The cheapest candidate and its N over losses [l] and served tokens [t].

    Args:
        served, losses: of the map, ascending.
        names: (order, name) of the candidates.
        cheapest: which of `names` [l][t].
        params: N of it [l][t].
        asked: served tokens and loss of the question.
    """

    served: Numbers
    losses: Numbers
    names: tuple[tuple[int, str], ...]
    cheapest: tuple[tuple[int, ...], ...]
    params: tuple[Numbers, ...]
    asked: tuple[float, float]


def map_data(study: Study) -> MapData | None:
    """By the fit of every line; None without a decision or with a single line."""
    made = made_decision(study)
    if made is None or len({one.line for one in made.decision.candidates}) < 2:
        return None
    found, orders = made.decision, {line.name: line.order for line in study.lines}
    compute = float(found.compute[0, 0])
    high, low = (least_loss(found.base, share * compute) for share in (_BELOW, _ABOVE))
    losses, served = np.linspace(low, high, _LOSSES), found.served_grid
    costs, sizes = zip(*(one.lives(losses, served, _SIZES) for one in found.candidates), strict=True)
    cheapest = np.argmin(np.stack(costs), axis=0)
    params = np.take_along_axis(np.stack(sizes), cheapest[None], axis=0)[0]
    names = tuple((orders[one.line], one.name) for one in found.candidates)
    return MapData(
        tuple(served.tolist()),
        tuple(losses.tolist()),
        names,
        tuple(map(tuple, cheapest.tolist())),
        tuple(map(tuple, params.tolist())),
        (found.served_tokens, found.target_loss),
    )


def map_figure(data: MapData) -> Figure:
    """The map with contours of N."""
    figure = new_figure(7.4, 3.8)
    entries = draw_map(data, figure.subplots())
    figure.legend(handles=entries, fontsize=8, title="cheapest", loc="outside right center", frameon=False)
    return figure


def draw_map(data: MapData, ax: Axes) -> list[Patch]:
    """Areas in the colour of the cheapest line, hatched where it is merged; contours of N; a cross: the question.

    Returns the entries of a legend.
    """
    from matplotlib.patches import Patch

    cheapest, params = np.array(data.cheapest), np.array(data.params)
    entries = []
    for n, (order, name) in enumerate(data.names):
        here = cheapest == n
        if not here.any():
            continue
        hatch = "//" if name.endswith("merged") else ""
        area = np.ma.masked_where(~here, here.astype(float))
        # an image: three thousand cells as paths were half of a page
        cells = ax.pcolormesh(data.served, data.losses, area, cmap=_one_colour(order), shading="nearest", alpha=0.35)
        cells.set_rasterized(True)
        if hatch:
            levels = [0.5, 1.5]
            ax.contourf(data.served, data.losses, here.astype(float), levels=levels, colors="none", hatches=[hatch])
        entries.append(Patch(facecolor=colour(order), alpha=0.5, hatch=hatch, label=name))
    lines = ax.contour(data.served, data.losses, np.log10(params), levels=5, colors=[INK], linewidths=0.8)
    ax.clabel(lines, fmt=lambda value: f"N {format_number(10**value, 2)}", fontsize=7, inline_spacing=2)
    ax.plot(*data.asked, "x", color=INK, markersize=7)
    ax.set_xscale("log")
    set_log_ticks(ax.xaxis, data.served[0], data.served[-1])
    ax.set_xlim(data.served[0], data.served[-1])
    ax.grid(visible=False)
    ax.set_xlabel("served tokens")
    ax.set_ylabel("loss to serve at (nats/token)")
    return entries


def _one_colour(order: int) -> ListedColormap:
    from matplotlib.colors import ListedColormap

    return ListedColormap([colour(order)])


@dataclass(frozen=True)
class MemoryLine:
    """Bytes of one model's weights, and of its cache along the contexts."""

    order: int
    name: str
    weights: float
    cache: Numbers


@dataclass(frozen=True)
class MemoryData:
    """Memory of the chosen models along the context; `room` is that of the device."""

    contexts: Numbers
    batch: int
    device: str
    room: float
    lines: tuple[MemoryLine, ...]


def memory_data(study: Study) -> MemoryData | None:
    """The cheapest model of every line over its life; None without a decision or without shapes."""
    made = made_decision(study)
    if made is None or made.setting is None:
        return None
    setting, orders = made.setting, {line.name: line.order for line in study.lines}
    contexts = np.geomspace(min(128, setting.context), max(131_072, setting.context), _CONTEXTS)
    lines = []
    for row in made.decision.best:
        assert row.params is not None
        served = made.served[row.line, row.form]
        token = served.price_at("kv_bytes_per_token", row.params) * setting.batch
        weights = served.price_at("weight_bytes", row.params)
        lines.append(MemoryLine(orders[row.line], row.line, weights, tuple((token * contexts).tolist())))
    room = setting.device.memory_bytes
    return MemoryData(tuple(contexts.tolist()), setting.batch, setting.device.name, room, tuple(lines))


def memory_figure(data: MemoryData) -> Figure:
    """Weights and cache along the context."""
    figure = new_figure(6.4, 3.4)
    draw_memory(data, figure.subplots())
    return figure


def draw_memory(data: MemoryData, ax: Axes) -> None:
    """Solid: the cache; dashed: the weights; dotted: the memory of the device, where it is near."""
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    for line in data.lines:
        ax.plot(data.contexts, line.cache, color=colour(line.order))
        ax.axhline(line.weights, color=colour(line.order), linestyle="--", linewidth=1.1)
    held: FloatArray = np.array([value for line in data.lines for value in (line.weights, *line.cache)])
    if data.room < 30 * held.max():
        ax.axhline(data.room, color=SOFT, linestyle=":")
        ax.annotate(data.device, (data.contexts[0], data.room), va="bottom", color=SOFT, fontsize=8)
    ax.xaxis.set_major_formatter(lambda value, _: format_number(value))
    ax.yaxis.set_major_formatter(lambda value, _: format_bytes(value))
    ax.set_xlim(data.contexts[0], data.contexts[-1] * 6)
    ax.set_xlabel("context (tokens)")
    ax.set_ylabel(f"bytes, batch {data.batch}")
    end_labels(ax, [(line.order, line.name, data.contexts[-1], line.cache[-1]) for line in data.lines])


def _map_caption(data: MapData) -> str:
    return (
        "The cheapest line, form and size for every loss and number of served tokens, by the fits alone; contours are "
        "its N, the cross is the question. Where intervals contain 1 a border between areas is not determined."
    )


def _memory_caption(data: MemoryData) -> str:
    return "Memory of the chosen models: solid, keys and values; dashed, weights. Low rank saves no cache."


CHEAPEST_MAP = StudyFigure("serving_map", map_data, map_figure, _map_caption, lambda data: 44)
MEMORY = StudyFigure("serving_memory", memory_data, memory_figure, _memory_caption, lambda data: 40)
