"""What serving costs at equal loss, one panel per cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from scaling.analysis.serving import serving
from scaling.analysis.study import Study
from scaling.report.figures.axes import Numbers, names_key, new_figure, set_log_ticks
from scaling.report.figures.study_figure import StudyFigure
from scaling.report.figures.style import colour, marker

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class ServingLine:
    """What one line costs to serve at each loss it can reach."""

    order: int
    name: str
    loss: Numbers
    cost: Numbers


@dataclass(frozen=True)
class ServingPanel:
    """One kind of cost."""

    title: str
    unit: str
    lines: tuple[ServingLine, ...]


@dataclass(frozen=True)
class ServingData:
    """Serving cost at equal loss."""

    panels: tuple[ServingPanel, ...]


def serving_data(study: Study) -> ServingData | None:
    """Each line's own cheapest-to-train model at every target loss, in its own form at batch 1 on the first device;
    None where nothing is priced.
    """
    device = study.settings.devices[0] if study.settings.devices else ""
    rows = [
        (comparison.target_loss, row)
        for comparison in serving(study).comparisons
        for row in comparison.rows
        if row.choice.kind == "cheapest"
        and (row.setting.device.name, row.setting.batch) == (device, 1)
        and row.form != "merged"
    ]
    if not rows:
        return None
    panels = []
    costs = [
        ("Arithmetic", "decode FLOPs per token", "decode_flops_per_token", 1.0),
        ("Weights", "bytes", "weight_bytes", 1.0),
        ("Keys and values", "cache bytes per token", "kv_bytes_per_token", 1.0),
    ]
    if all(row.model is None or row.model.prices.decode_seconds is not None for _, row in rows):
        costs.append((f"Time on {device}, batch 1", "decode step (µs)", "decode_seconds", 1e6))
    for title, unit, column, scale in costs:
        lines = []
        for line in study.lines:
            known = [
                (loss, getattr(row.model.prices, column) * scale)
                for loss, row in rows
                if row.line == line.name and row.model is not None
            ]
            if known:
                lines.append(ServingLine(line.order, line.name, *zip(*known, strict=True)))
        panels.append(ServingPanel(title, unit, tuple(lines)))
    return ServingData(tuple(panels))


def serving_figure(data: ServingData) -> Figure:
    """What serving the same loss costs, line by line, one panel per cost."""
    figure = new_figure(3.1 * len(data.panels) + 0.5, 3.2)
    axes = figure.subplots(1, len(data.panels), squeeze=False)[0]
    for panel, ax in zip(data.panels, axes, strict=True):
        ax.set_title(panel.title)
        ax.set_ylabel(panel.unit)
        ax.set_xlabel("loss to reach (nats/token)")
        ends = []
        for line in panel.lines:
            ax.plot(line.loss, line.cost, marker(line.order), color=colour(line.order), linestyle="-", linewidth=1.3)
            ends.append((line.order, line.name, line.loss[0], line.cost[0]))
        ax.set_yscale("log")
        costs = [c for line in panel.lines for c in line.cost]
        if costs:
            set_log_ticks(ax.yaxis, min(costs), max(costs))
        ax.invert_xaxis()
    names_key(axes[0], [(line.order, line.name) for line in data.panels[0].lines])
    return figure


def _caption(data: ServingData) -> str:
    return (
        "What serving costs at equal loss: each line's cheapest-to-train model at the losses that every line "
        "reaches, priced along its ladder."
    )


SERVING = StudyFigure("serving", serving_data, serving_figure, _caption, lambda data: 60)
