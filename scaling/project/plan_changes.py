"""How a plan differs from a frozen launch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from scaling.files import JsonObject
from scaling.results.launches import Launch
from scaling.sweeps.grids import Plan


def difference(launch: Launch, plan: Plan) -> str | None:
    """How a plan differs from a frozen launch, in words; None where it asks for the same runs.

    The settings of runs that both have under the same place in the grid are compared, so that the answer names the
    setting.
    """
    old = {row.id: row for row in launch.rows}
    planned = {one.run.id: one for one in plan.runs}
    gone, new = old.keys() - planned.keys(), planned.keys() - old.keys()
    if not gone and not new:
        return None
    before = {(old[i].cell, old[i].seed): _flat(old[i].settings or {}) for i in gone}
    after = {(planned[i].cell, planned[i].run.seed): _flat(planned[i].run.settings()) for i in new}
    changed = Counter(
        f"{key}: {before[place].get(key)} -> {after[place].get(key)}"
        for place in before.keys() & after.keys()
        for key in before[place].keys() | after[place].keys()
        if before[place].get(key) != after[place].get(key)
    )
    reasons = "; ".join(f"{change} ({count} runs)" for change, count in changed.most_common(5))
    return f"{len(new)} new runs, {len(gone)} no longer planned" + (f"; {reasons}" if reasons else "")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> JsonObject:
    flat: JsonObject = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
