"""Where to start: variable projection.

For fixed exponents (and stretch parameters, and outer power) a law is linear in its coefficients and floor, all of them
non-negative. So a grid over the few non-linear parameters, with a non-negative least squares of at most three columns
at each node,
scans every basin; the Gram matrices of all nodes come from one matrix product per pair of columns. The least squares
is on relative
residuals, the first order of the log residuals; the best nodes are then ranked by the exact objective.
(Golub and Pereyra 1973; for scaling laws, vpnls.)
"""

from __future__ import annotations

from itertools import combinations, product

import numpy as np

from scaling.laws.objectives import Objective
from scaling.laws.points import Array, Indices
from scaling.laws.system import System

EXPONENTS = np.geomspace(0.02, 2.5, 24)  # assumption: published exponents lie between .05 and .9
_POWERS = np.geomspace(0.03, 1.5, 12)
_THETAS = 7  # nodes for each stretch parameter
_SHORT_LIST = 48  # nodes of each scan whose exact objective is evaluated
_SCANS = 2
_NEIGHBOUR = 0.3  # relative distance of all parameters within which two starts are one


def starts(system: System, objective: Objective, target: Array, weight: Array, count: int) -> Array:
    """The `count` best grid nodes as internal vectors [count, P], best first; `target` and `weight` are [points].

    Least squares follows outliers where the objective does not, so the scan is made again with the weights under
    which least
    squares and the objective agree at the best node so far.
    """
    candidates, values = np.empty((0, system.size)), np.empty(0)
    scan_weight = weight
    for _ in range(_SCANS):
        found = np.concatenate([_scan(system, thetas, power, scan_weight) for thetas, power in _outer_nodes(system)])
        candidates = np.concatenate([candidates, found])
        values = np.concatenate([values, system.value(found, objective, target, weight)])
        log_loss = system.log_loss(candidates[[np.argmin(values)]])[0]
        residual = (log_loss if objective.in_log else np.exp(log_loss)) - target
        majoriser = objective.curvature(residual[None]).majoriser[0]
        scan_weight = weight * majoriser * (1.0 if objective.in_log else system.points.loss**2)
    return candidates[_spread(candidates, values, count)]


def _spread(candidates: Array, values: Array, count: int) -> Indices:
    """The best candidates that are not neighbours of a better one (then the best neighbours, if those are too few)."""
    order = np.argsort(values, kind="stable")
    chosen: list[int] = []
    near = np.zeros(len(order), dtype=bool)
    while len(chosen) < count and not near.all():
        best = int(order[~near[order]][0])
        chosen.append(best)
        near |= (np.abs(candidates - candidates[best]) <= _NEIGHBOUR * (0.1 + np.abs(candidates[best]))).all(axis=1)
    rest = [int(i) for i in order if i not in set(chosen)]
    return np.array((chosen + rest)[:count], dtype=np.intp)


def _outer_nodes(system: System) -> list[tuple[dict[int, float], float]]:
    """Values of the stretch parameters (by index) and of the outer power that the grid visits."""
    layout = system.layout
    axes: list[tuple[list[int], Array]] = []
    for term, columns in zip(layout.form.terms, system.terms, strict=True):
        if term.stretch and columns.stretched:
            indices = sorted({columns.first_theta + int(i) for i in columns.stretched.group})
            axes.append((indices, np.linspace(term.stretch.lower, term.stretch.upper, _THETAS + 2)[1:-1]))
    powers = _POWERS if layout.form.power else np.ones(1)
    nodes = []
    for values in product(*(axis for _, axis in axes)):
        thetas = {i: float(value) for (indices, _), value in zip(axes, values, strict=True) for i in indices}
        nodes += [(thetas, float(power)) for power in powers]
    return nodes


def _scan(system: System, thetas: dict[int, float], power: float, weight: Array) -> Array:
    """The best nodes over the exponents for one value of the outer parameters, as internal vectors."""
    form, layout, points = system.layout.form, system.layout, system.points
    relative = np.exp(np.log(points.loss) / power)
    root = np.sqrt(weight)
    grids, columns = [], []
    for k, term in enumerate(form.terms):
        grid = EXPONENTS if isinstance(term.exponent, str) else np.array([float(term.exponent)])
        log_variable = _log_variable(system, k, thetas)
        grids.append(grid)
        columns.append(np.exp(-grid[:, None] * log_variable) * (root / relative))
    if form.floor:
        grids.append(np.zeros(1))
        columns.append((root / relative)[None])
    gram, right = _normal_equations(columns, root)
    coefficients, gain = non_negative(gram, right)
    best = np.argsort(-gain, kind="stable")[:_SHORT_LIST]
    nodes = np.unravel_index(best, [len(grid) for grid in grids])
    return _vectors(system, grids, nodes, coefficients[best], thetas, power, layout.lower, layout.upper)


def _log_variable(system: System, k: int, thetas: dict[int, float]) -> Array:
    term, columns = system.layout.form.terms[k], system.terms[k]
    if columns.stretched is None:
        plain: Array = np.log(getattr(system.points, term.variable)) - system.layout.centres[k]
        return plain
    theta = np.array([thetas[columns.first_theta + int(i)] for i in columns.stretched.group]) * columns.stretched.slope
    log_value: Array = columns.stretched.effective(theta[None]).log_value[0] - system.layout.centres[k]
    return log_value


def _normal_equations(columns: list[Array], target: Array) -> tuple[Array, Array]:
    """Gram matrices [nodes, m, m] and right sides [nodes, m] for every combination of one row of each column table."""
    m, shape = len(columns), [len(table) for table in columns]
    gram = np.empty((*shape, m, m))
    right = np.empty((*shape, m))
    for a in range(m):
        axis = [1] * m
        axis[a] = shape[a]
        gram[..., a, a] = (columns[a] ** 2).sum(axis=1).reshape(axis)
        right[..., a] = (columns[a] @ target).reshape(axis)
        for b in range(a + 1, m):
            both = axis.copy()
            both[b] = shape[b]
            gram[..., a, b] = gram[..., b, a] = (columns[a] @ columns[b].T).reshape(both)
    return gram.reshape(-1, m, m), right.reshape(-1, m)


def non_negative(gram: Array, right: Array) -> tuple[Array, Array]:
    """Non-negative least squares of m ≤ 3 columns for a batch, by trying every support.

    Args:
        gram: [Q, m, m]. right: [Q, m].

    Returns:
        Coefficients [Q, m] and the explained sum of squares [Q] (larger is a smaller residual).
    """
    size = gram.shape[1]
    best = np.zeros_like(right)
    gain = np.zeros(len(gram))
    for count in range(1, size + 1):
        for support in combinations(range(size), count):
            solution = _solve(gram, right, support)
            explained = sum((solution[i] * right[:, j] for i, j in enumerate(support)), np.zeros(len(gram)))
            feasible = np.all([values >= 0 for values in solution], axis=0) & (explained > gain)
            gain = np.where(feasible, explained, gain)
            for j in range(size):
                value = solution[support.index(j)] if j in support else 0.0
                best[:, j] = np.where(feasible, value, best[:, j])
    return best, gain


def _solve(gram: Array, right: Array, support: tuple[int, ...]) -> list[Array]:
    """Gaussian elimination on the sub-systems of one support, all nodes at once; a singular one gives −1
    (infeasible).
    """
    rows = [[gram[:, i, j].copy() for j in support] + [right[:, i].copy()] for i in support]
    singular = np.zeros(len(gram), dtype=bool)
    for pivot, row in enumerate(rows):
        singular |= row[pivot] <= 1e-13 * gram[:, support[pivot], support[pivot]]
        safe = np.where(singular, 1.0, row[pivot])
        for other in rows[pivot + 1 :]:
            factor = other[pivot] / safe
            for j in range(pivot, len(row)):
                other[j] = other[j] - factor * row[j]
        row[pivot] = safe
    solution: list[Array] = []
    for pivot in range(len(rows) - 1, -1, -1):
        rest = rows[pivot][-1]
        for offset, value in enumerate(solution):
            rest = rest - rows[pivot][pivot + 1 + offset] * value
        solution.insert(0, np.where(singular, -1.0, rest / rows[pivot][pivot]))
    return solution


def _vectors(
    system: System,
    grids: list[Array],
    nodes: tuple[np.ndarray[tuple[int], np.dtype[np.intp]], ...],
    coefficients: Array,
    thetas: dict[int, float],
    power: float,
    lower: Array,
    upper: Array,
) -> Array:
    """Grid nodes and their coefficients -> internal vectors; every line of a joint form starts alike."""
    layout, form = system.layout, system.layout.form
    vectors = np.zeros((len(coefficients), system.size))
    floor = np.log(np.maximum(coefficients, 1e-300))
    for k, term in enumerate(form.terms):
        for name in layout.per_line(term.coefficient):
            vectors[:, layout.index(name)] = floor[:, k]
        if isinstance(term.exponent, str):
            for name in layout.per_line(term.exponent):
                vectors[:, layout.index(name)] = grids[k][nodes[k]]
    if form.floor:
        for name in layout.floors:
            vectors[:, layout.index(name)] = coefficients[:, -1] / layout.loss_scale
    if form.power:
        vectors[:, layout.index(form.power)] = power
    for i, theta in thetas.items():
        vectors[:, i] = theta
    clipped: Array = np.clip(vectors, lower, upper)
    return clipped
