"""Where to start: variable projection.

For fixed exponents (and stretch parameters, outer power and a floor outside of it) a law is linear in its coefficients
and floor, all of them non-negative. So a grid over the few non-linear parameters, with a non-negative least squares of
at most three columns at each node, scans every basin; the Gram matrices of all nodes come from one matrix product per
pair of columns. The least squares is on relative residuals, the first order of the log residuals; the best nodes are
then ranked by the exact objective. (Golub and Pereyra 1973; for scaling laws, vpnls.)
"""

from __future__ import annotations

from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from scaling.laws.forms import Term
from scaling.laws.objectives import Objective
from scaling.laws.points import Array, Indices
from scaling.laws.solver.objective_terms import System
from scaling.laws.solver.parameters import MAX_EXPONENT, Layout

EXPONENTS = np.geomspace(0.02, MAX_EXPONENT, 27)  # assumption: published exponents lie between .05 and .9
_COARSE = 3  # the first scan, which is for the weights of the second, takes every third exponent
_POWERS = np.geomspace(0.03, 1.5, 12)
# Of a form with a floor outside its power, whose grid has two more dimensions: the polish does the rest. Floors are
# shares of the lowest loss.
_POWERS_ABOVE, _FLOORS = np.geomspace(0.2, 1.8, 5), np.array([0.0, 0.3, 0.6, 0.85])
_THETAS = 7  # nodes for each stretch parameter
_SHORT_LIST_VALUES = 8_000  # nodes × points whose exact objective is evaluated in each scan …
_SHORT_LIST = 12  # … and the fewest nodes for each value of the outer parameters
_FLOORLESS = 4  # nodes of the second scan for E = 0
_SMALLEST_LOG = -140.0  # of a loss over the largest, to the inverse power: the square of its inverse is a number
_HOPELESS = 2.0  # times the best objective of the grid
_NEIGHBOUR = 0.2  # relative distance of all parameters within which two starts are one


class Outer(NamedTuple):
    """One value of each outer parameter: stretches by index, the outer power, and a floor outside of it (in the unit
    of the loss).
    """

    thetas: dict[int, float]
    power: float = 1.0
    floor: float | None = None


def starts(system: System, objective: Objective, target: Array, weight: Array, count: int) -> Array:
    """The `count` best grid nodes as internal vectors [count, P], best first; `target` and `weight` are [points].

    Least squares follows outliers where the objective does not, so the scan is made again with the weights under
    which least squares and the objective agree at the best node so far.
    """
    candidates, values = np.empty((0, system.size)), np.empty(0)
    outer = _outer_nodes(system)
    kept = max(_SHORT_LIST, _SHORT_LIST_VALUES // (len(system.points) * len(outer)))
    scan_weight = weight
    for exponents, bare in ((EXPONENTS[::_COARSE], 0), (EXPONENTS, _FLOORLESS)):
        grid = np.concatenate([_scan(system, node, exponents, scan_weight, kept, bare) for node in outer])
        candidates = np.concatenate([candidates, grid])
        values = np.concatenate([values, system.value(grid, objective, target, weight)])
        log_loss = system.log_loss(candidates[[np.argmin(values)]])[0]
        residual = (log_loss if objective.in_log else np.exp(log_loss)) - target
        majoriser = objective.curvature(residual[None]).majoriser[0]
        scan_weight = weight * majoriser * (1.0 if objective.in_log else system.points.loss**2)
    chosen = _spread(candidates, values, count)
    if system.floor is not None:
        chosen = _with_edge(chosen, candidates[:, system.floor.index[0]], values)
    return candidates[chosen]


def _with_edge(chosen: Indices, floor: Array, values: Array) -> Indices:
    """The chosen starts and the best one without a floor, if it is not hopeless.

    Towards E = 0 a flat term and the floor replace each other along a curved valley, down which a descent is slow.
    """
    bare = np.flatnonzero(floor == 0.0)
    if not len(bare):
        return chosen
    edge = bare[values[bare].argmin()]
    hopeless = values[edge] > _HOPELESS * values.min()
    return chosen if hopeless or edge in chosen else np.append(chosen, edge)


def _spread(candidates: Array, values: Array, count: int) -> Indices:
    """The best candidates that are not neighbours of a better one (then the best neighbours, if those are too few)."""
    order = np.argsort(values, kind="stable")
    ordered = candidates[order]
    reach = _NEIGHBOUR * (0.1 + np.abs(ordered))
    near, first = np.zeros(len(order), dtype=bool), 0
    chosen: list[int] = []
    while len(chosen) < count and not near.all():
        first += int(near[first:].argmin())
        chosen.append(first)
        near |= (np.abs(ordered - ordered[first]) <= reach[first]).all(axis=1)
    rest = np.setdiff1d(np.arange(len(order)), chosen)
    return order[np.concatenate([chosen, rest])[:count].astype(np.intp)]


def _outer_nodes(system: System) -> list[Outer]:
    """Every value of the outer parameters that the grid visits."""
    layout = system.layout
    axes: list[tuple[list[int], Array]] = []
    for term, columns in zip(layout.form.terms, system.terms, strict=True):
        if term.stretch and columns.stretched:
            indices = sorted({columns.first_theta + int(i) for i in columns.stretched.group})
            axes.append((indices, np.linspace(term.stretch.lower, term.stretch.upper, _THETAS + 2)[1:-1]))
    powers: Array = np.ones(1)
    floors: list[float | None] = [None]
    if layout.form.power:
        powers = _POWERS_ABOVE if layout.form.floor else _POWERS
        powers = np.array([layout.fixed[layout.form.power]]) if layout.form.power in layout.fixed else powers
    if layout.form.power and layout.form.floor:
        floors = [*(_FLOORS * system.points.loss.min()).tolist()]
        floors = [layout.fixed[layout.form.floor]] if layout.form.floor in layout.fixed else floors
    nodes = []
    for values in product(*(axis for _, axis in axes)):
        thetas = {i: float(value) for (indices, _), value in zip(axes, values, strict=True) for i in indices}
        nodes += [Outer(thetas, float(power), floor) for power in powers for floor in floors]
    return nodes


def _scan(system: System, outer: Outer, exponents: Array, weight: Array, count: int, floorless: int) -> Array:
    """The best nodes over the exponents for one value of the outer parameters, as internal vectors: `count` of them,
    and `floorless` with E = 0.
    """
    layout, form, points = system.layout, system.layout.form, system.points
    above = points.loss if outer.floor is None else np.maximum(points.loss - outer.floor, 1e-6 * points.loss)
    relative = np.exp(np.maximum(np.log(above / layout.loss_scale) / outer.power, _SMALLEST_LOG))
    root = np.sqrt(weight) if outer.floor is None else np.sqrt(weight) * above / points.loss
    grids, columns = [], []
    for k, term in enumerate(form.terms):
        grid = _exponent_grid(layout, term, exponents)
        log_variable = _log_variable(system, k, outer.thetas)
        grids.append(grid)
        columns.append(np.exp(-grid[:, None] * log_variable) * (root / relative))
    inner_floor = bool(form.floor) and outer.floor is None
    if inner_floor:
        grids.append(np.zeros(1))
        columns.append((root / relative)[None])
    shape = [len(grid) for grid in grids]
    gram, right = _normal_equations(columns, root)
    allowed = _tied_nodes(layout, shape) if layout.tied else None
    if allowed is not None:
        gram, right = gram[:, :, allowed], right[:, allowed]
    held = _held_coefficients(layout, outer.power) if layout.fixed else {}
    coefficients, gain = _partly_held(gram, right, held) if held else non_negative(gram, right)
    best = np.argsort(-gain, kind="stable")[:count]
    coefficients = coefficients[:, best]
    if inner_floor and floorless and form.floor not in layout.fixed:
        without, gain = (
            _partly_held(gram[:-1, :-1], right[:-1], held) if held else non_negative(gram[:-1, :-1], right[:-1])
        )
        bare = np.argsort(-gain, kind="stable")[:floorless]
        best = np.concatenate([best, bare])
        coefficients = np.hstack([coefficients, np.vstack([without[:, bare], np.zeros(len(bare))])])
    nodes = np.unravel_index(best if allowed is None else allowed[best], shape)
    return _vectors(system, grids, nodes, coefficients.T, outer)


def _exponent_grid(layout: Layout, term: Term, exponents: Array) -> Array:
    """Exponents of one term that the grid visits."""
    if not isinstance(term.exponent, str):
        return np.array([float(term.exponent)])
    name = layout.tied.get(term.exponent, term.exponent)
    return np.array([layout.fixed[name]]) if name in layout.fixed else exponents


def _tied_nodes(layout: Layout, shape: list[int]) -> Indices:
    """Nodes whose tied exponents are equal."""
    places = np.arange(int(np.prod(shape)))
    exponents = [term.exponent for term in layout.form.terms]
    index = np.unravel_index(places, shape)
    for alias, kept in layout.tied.items():
        if alias in exponents:
            a, b = exponents.index(alias), exponents.index(kept)
            places = places[index[a][places] == index[b][places]]
    return places


def _held_coefficients(layout: Layout, power: float) -> dict[int, float]:
    """Columns whose coefficient is fixed, and its value in the units of the scan."""
    unit = float(np.exp(np.log(layout.loss_scale) / power))
    held = {
        k: layout.fixed[term.coefficient] / unit
        for k, term in enumerate(layout.form.terms)
        if term.coefficient in layout.fixed
    }
    if layout.form.floor and layout.form.floor in layout.fixed and not layout.form.power:
        held[len(layout.form.terms)] = layout.fixed[layout.form.floor] / unit
    return held


def _partly_held(gram: Array, right: Array, held: dict[int, float]) -> tuple[Array, Array]:
    """`non_negative` of the columns not held: coefficients of all columns, and the explained sum of squares."""
    fixed = [k for k in held if k < len(right)]
    free = [k for k in range(len(right)) if k not in held]
    values = np.array([held[k] for k in fixed])
    among = np.einsum("i,ijq,j->q", values, gram[np.ix_(fixed, fixed)], values)
    gain = 2.0 * values @ right[fixed] - among
    coefficients = np.zeros_like(right)
    coefficients[fixed] = values[:, None]
    if free:
        rest = right[free] - np.einsum("ijq,j->iq", gram[np.ix_(free, fixed)], values)
        coefficients[free], explained = non_negative(gram[np.ix_(free, free)], rest)
        gain = gain + explained
    return coefficients, gain


def _log_variable(system: System, k: int, thetas: dict[int, float]) -> Array:
    term, columns = system.layout.form.terms[k], system.terms[k]
    if columns.stretched is None:
        plain: Array = np.log(getattr(system.points, term.variable)) - system.layout.centres[k]
        return plain
    theta = np.array([thetas[columns.first_theta + int(i)] for i in columns.stretched.group]) * columns.stretched.slope
    log_value: Array = columns.stretched.effective(theta[None]).log_value[0] - system.layout.centres[k]
    return log_value


def _normal_equations(columns: list[Array], target: Array) -> tuple[Array, Array]:
    """Gram matrices [m, m, nodes] and right sides [m, nodes] for every combination of one row of each column table."""
    m, shape = len(columns), [len(table) for table in columns]
    gram = np.empty((m, m, *shape))
    right = np.empty((m, *shape))
    for a in range(m):
        axis = [1] * m
        axis[a] = shape[a]
        gram[a, a] = (columns[a] ** 2).sum(axis=1).reshape(axis)
        right[a] = (columns[a] @ target).reshape(axis)
        for b in range(a + 1, m):
            both = axis.copy()
            both[b] = shape[b]
            gram[a, b] = gram[b, a] = (columns[a] @ columns[b].T).reshape(both)
    return gram.reshape(m, m, -1), right.reshape(m, -1)


def non_negative(gram: Array, right: Array) -> tuple[Array, Array]:
    """Non-negative least squares of m ≤ 3 columns for a batch, by trying supports, largest first.

    Args:
        gram: [m, m, Q]. right: [m, Q].

    Returns:
        Coefficients [m, Q] and the explained sum of squares [Q] (larger is a smaller residual).
    """
    size = len(right)
    best, gain = np.zeros_like(right), np.zeros(right.shape[1])
    rows = np.arange(right.shape[1])
    for count in range(size, 0, -1):
        for support in combinations(range(size), count):
            solution = _solve(gram, right, support)
            explained = (solution * right[[*support]]).sum(axis=0)
            feasible = (solution >= 0).all(axis=0) & (explained > gain[rows])
            here = rows[feasible]
            gain[here] = explained[feasible]
            best[:, here] = 0.0
            best[np.array(support)[:, None], here] = solution[:, feasible]
        if count == size:  # where the free solution is feasible it is the best
            left = gain == 0.0
            rows, gram, right = rows[left], gram[:, :, left], right[:, left]
    return best, gain


def _solve(gram: Array, right: Array, support: tuple[int, ...]) -> Array:
    """Gaussian elimination on the sub-systems of one support, all nodes at once; −1 (infeasible) where singular."""
    rows = [[gram[i, j] for j in support] + [right[i]] for i in support]
    singular = np.zeros(right.shape[1], dtype=bool)
    for pivot, row in enumerate(rows):
        dead = row[pivot] <= 1e-13 * gram[support[pivot], support[pivot]]
        singular |= dead
        row[pivot] = np.where(dead, 1.0, row[pivot])
        for other in rows[pivot + 1 :]:
            factor = other[pivot] / row[pivot]
            for j in range(pivot + 1, len(row)):
                other[j] = other[j] - factor * row[j]
    solution = np.empty((len(support), right.shape[1]))
    for pivot in range(len(rows) - 1, -1, -1):
        rest = rows[pivot][-1]
        for j in range(pivot + 1, len(rows)):
            rest = rest - rows[pivot][j] * solution[j]
        solution[pivot] = rest / rows[pivot][pivot]
    solution[:, singular] = -1.0
    return solution


def _vectors(
    system: System,
    grids: list[Array],
    nodes: tuple[np.ndarray[tuple[int], np.dtype[np.intp]], ...],
    coefficients: Array,
    outer: Outer,
) -> Array:
    """Grid nodes and their coefficients, for losses in units of `loss_scale` -> internal vectors; every line of a
    joint form starts alike.
    """
    layout, form = system.layout, system.layout.form
    vectors = np.zeros((len(coefficients), system.size))
    log_unit = np.log(layout.loss_scale) / outer.power
    log_coefficients = np.log(np.maximum(coefficients, 1e-300)) + log_unit
    for k, term in enumerate(form.terms):
        for name in layout.per_line(term.coefficient):
            vectors[:, layout.index(name)] = log_coefficients[:, k]
        if isinstance(term.exponent, str):
            for name in layout.per_line(term.exponent):
                vectors[:, layout.index(name)] = grids[k][nodes[k]]
    if form.floor:
        floor = coefficients[:, -1] * np.exp(log_unit) if outer.floor is None else outer.floor
        for name in layout.floors:
            vectors[:, layout.index(name)] = floor / layout.loss_scale
    if form.power:
        vectors[:, layout.index(form.power)] = outer.power
    for i, theta in outer.thetas.items():
        vectors[:, i] = theta
    clipped: Array = np.clip(vectors, layout.lower, layout.upper)
    return clipped
