"""How fast is a fit, beside others, on one objective, in one run.

    python benchmarks/laws.py --out results/benchmarks/laws.md
    python benchmarks/laws.py --random-laws 207 --out results/benchmarks/laws_optimum.md

The data are the 240 points of the replication of Hoffmann et al. (read from ../shared/data), the objective `log_huber`
with δ 1e-3, summed. Times are medians of CPU seconds, one thread each, which another load on the machine moves less
than wall seconds; the command's are wall seconds. Slow rivals are timed on a sample of their starts and extrapolated,
which is said. Rivals that are not installed are named, with what pip says of them.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np

from scaling.laws.draws import bootstrap
from scaling.laws.fitting import Fit, fit
from scaling.laws.points import Points
from scaling.laws.solver.parameters import MAX_EXPONENT, MIN_EXPONENT

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT.parent / "shared" / "data" / "chinchilla_svg.csv"
DELTA = 1e-3
SAME = 1e-9  # relative difference of two objectives that are one
EXACT = 1e-14  # summed objective of a law that passes through its points; L-BFGS-B stops about there
# The 4,500 starts of Hoffmann et al., appendix D.3: alpha, beta, e, a, b.
STARTS = (
    np.arange(0, 2.5, 0.5),
    np.arange(0, 2.5, 0.5),
    np.arange(-1, 1.5, 0.5),
    np.arange(0, 30, 5),
    np.arange(0, 30, 5),
)


def median_seconds(run: Callable[[], object], repeats: int, clock: Callable[[], float] = time.process_time) -> float:
    times = []
    for _ in range(repeats):
        begin = clock()
        run()
        times.append(clock() - begin)
    return float(np.median(times))


def objective(v: np.ndarray, n: np.ndarray, d: np.ndarray, target: np.ndarray, weight: np.ndarray):
    """Summed log-Huber and its gradient in (a, alpha, b, beta, e): the rival's arithmetic, as fast as it comes."""
    terms = np.exp(np.array([v[0] - v[1] * n, v[2] - v[3] * d]))
    floor = np.exp(v[4])
    total = terms[0] + terms[1] + floor
    residual = np.log(total) - target
    slope = np.minimum(np.maximum(residual, -DELTA), DELTA)
    weighted = weight * slope
    share = weighted / total
    model, data = terms * share
    gradient = np.array([model.sum(), -(model @ n), data.sum(), -(data @ d), floor * share.sum()])
    return float(weighted @ (residual - 0.5 * slope)), gradient


def lbfgs(start: np.ndarray, data: tuple[np.ndarray, ...], steps: int = 2000):
    """One local descent; the exponents have the bounds ours have, the rest is free of any that matter."""
    from scipy.optimize import minimize

    exponent = (MIN_EXPONENT, MAX_EXPONENT)
    bounds = [(-20, 200), exponent, (-20, 200), exponent, (-40, 5)]
    options = {"maxiter": steps, "ftol": 1e-13, "gtol": 1e-10}
    return minimize(objective, start, args=data, jac=True, method="L-BFGS-B", bounds=bounds, options=options)


def start_grid() -> np.ndarray:
    return np.array([(a, alpha, b, beta, e) for alpha, beta, e, a, b in product(*STARTS)])


def scipy_fit(data: tuple[np.ndarray, ...], best: float, sample: int) -> list[str]:
    starts = start_grid()
    chosen = starts[np.random.default_rng(0).choice(len(starts), sample, replace=False)]
    begin = time.process_time()
    values = np.array([lbfgs(start, data).fun for start in chosen])
    seconds = (time.process_time() - begin) * len(starts) / sample
    arrive = float((values <= best * (1 + 1e-6)).mean())
    name = f"SciPy L-BFGS-B, {len(starts):,} starts (timed on {sample}, extrapolated; {arrive:.0%} arrive)"
    return [name, seconds, float(values.min())]


def scipy_least_squares(data: tuple[np.ndarray, ...], repeats: int) -> list:
    from scipy.optimize import least_squares

    n, d, target, _ = data

    def residual(v):
        return np.log(np.exp(v[0] - v[1] * n) + np.exp(v[2] - v[3] * d) + np.exp(v[4])) - target

    def jacobian(v):
        t = np.stack([np.exp(v[0] - v[1] * n), np.exp(v[2] - v[3] * d), np.full(len(n), np.exp(v[4]))])
        s = t / t.sum(axis=0)
        return np.column_stack([s[0], -s[0] * n, s[1], -s[1] * d, s[2]])

    start = np.array([5.0, 0.3, 7.0, 0.33, 0.5])

    def run():
        return least_squares(residual, start, jacobian, loss="huber", f_scale=DELTA, xtol=1e-14, ftol=1e-14, gtol=1e-14)

    return [
        "SciPy least_squares(loss='huber'), one start near the optimum",
        median_seconds(run, repeats),
        float(run().cost),
    ]


def scipy_bootstrap(fit: Fit, data: tuple[np.ndarray, ...], draws: int, sample: int) -> float:
    p = fit.parameters
    start = np.array([np.log(p["A"]), p["alpha"], np.log(p["B"]), p["beta"], np.log(p["E"])])
    rng = np.random.default_rng(0)
    count = len(fit.points)
    begin = time.process_time()
    for _ in range(sample):
        weight = rng.multinomial(count, np.full(count, 1 / count)).astype(float)
        lbfgs(start, (*data[:3], weight))
    return (time.process_time() - begin) * draws / sample


def chinchilla_package(points: Points) -> list | None:
    """PyPI `chinchilla`, its own summed log-Huber with δ 1e-3, on 16 of its 3,125 starts."""
    try:
        from chinchilla import Chinchilla
        from chinchilla._metrics import log_huber
    except ImportError:
        return None
    grid = {"e": (0.5, 1.0), "a": (5.0, 10.0), "b": (5.0, 10.0), "alpha": (0.3, 0.6), "beta": (0.3,)}
    with tempfile.TemporaryDirectory() as folder:
        model = Chinchilla(
            folder,
            param_grid=grid,
            seed_ranges={"C": (1e18, 1e22), "N_to_D": (1e-2, 1.0)},
            loss_fn=lambda y, f: log_huber(y, f, delta=DELTA),
            scaling_factor=2.0,
            log_level=40,
        )
        for n, d, loss in zip(points.params, points.tokens, points.loss, strict=True):
            model.database.append(N=float(n), D=float(d), loss=float(loss))
        begin = time.process_time()
        model.fit(parallel=False, simulation=True)
        seconds = (time.process_time() - begin) * 3125 / 16
    v = [np.log(float(model.A)), float(model.alpha), np.log(float(model.B)), float(model.beta), np.log(float(model.E))]
    n, d, target = np.log(points.params), np.log(points.tokens), np.log(points.loss)
    value, _ = objective(np.array(v), n, d, target, np.ones(len(n)))
    return ["PyPI chinchilla, 3,125 starts (timed on 16, extrapolated)", seconds, value]


def command_seconds(repeats: int) -> float | None:
    """Wall seconds of `scaling fit FILE` as a process, 1,000 draws included; None where the command does not run."""
    command = [
        sys.executable,
        "-m",
        "scaling.cli",
        "fit",
        str(TABLE),
        "--drop-highest",
        "5",
        "--bootstrap",
        "1000",
        "--json",
    ]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        return None
    return median_seconds(lambda: subprocess.run(command, capture_output=True, check=True), repeats, time.perf_counter)


def many_points(points: Points, times: int) -> Points:
    rng = np.random.default_rng(0)
    repeated = points.select(np.tile(np.arange(len(points)), times))
    return Points(repeated.params, repeated.tokens, repeated.loss * np.exp(0.003 * rng.normal(size=len(repeated))))


def against_scipy(i: int) -> float:
    """Relative excess of our objective over SciPy's best of 200 starts on random law `i`, with noise of kind i // 3."""
    from laws_cases import random_case

    rng = np.random.default_rng((11, i))
    _, points = random_case(rng, i)
    draw = (0.0, rng.normal(size=len(points)), rng.standard_t(2, size=len(points)))[i // 3 % 3]
    points = points.with_loss(points.loss * np.exp(rng.choice([0.005, 0.01, 0.03]) * draw))
    data = (np.log(points.params), np.log(points.tokens), np.log(points.loss), np.ones(len(points)))
    begins = rng.uniform([0, 0, 0, 0, -1], [25, 2, 25, 2, 1.5], size=(200, 5))
    ends = sorted((lbfgs(begin, data, steps=200) for begin in begins), key=lambda end: end.fun)
    rival = min(lbfgs(end.x, data).fun for end in ends[:10])
    return (fit(points).objective_value - rival) / max(rival, EXACT)


def random_laws(count: int) -> str:
    """Ours against SciPy on random laws, noiseless and noisy (normal and heavy-tailed)."""
    path = str(ROOT / "tests" / "laws")
    with ProcessPoolExecutor(initializer=sys.path.insert, initargs=(0, path)) as pool:
        gaps = np.array(list(pool.map(against_scipy, range(count))))
    rows = []
    for kind, name in enumerate(("none", "normal", "Student's t, 2 degrees of freedom")):
        gap = gaps[np.arange(count) // 3 % 3 == kind]
        worse, better = (gap > SAME).sum(), (gap < -SAME).sum()
        rows.append(f"| {name} | {len(gap)} | {worse} | {better} | {gap.max():.1e} | {gap.min():.1e} |")
    lines = [
        "# Is the optimum global?",
        "",
        f"`python benchmarks/laws.py --random-laws {count}`: random laws (α, β .15 to .9, E 0 to 3) on narrow and wide",
        "grids, noise .005 to .03, `log_huber` δ 1e-3. The rival is SciPy's L-BFGS-B from 200 random starts, 200",
        "steps each and the best 10 to the end, with analytic gradients and our bounds on the exponents. A relative",
        f"difference below {SAME:g} is no difference, and neither is one between objectives below {EXACT:g}.",
        "",
        "| noise | laws | ours worse | ours better | largest excess | smallest |",
        "|---|---|---|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"


def why_absent(package: str) -> str:
    """Why a rival is not here, by asking pip to install it (and not doing it)."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--quiet", package]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    if not asked.returncode:
        return f"{package} (not installed; `pip install {package}`)"
    needs = re.search(r"Requires-Python ([^\s;]+)", asked.stderr)
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    reason = f"needs Python {needs[1]}, this is {here}" if needs else asked.stderr.strip().splitlines()[-1]
    return f"{package} (does not install: {reason})"


def speed(sample: int) -> str:
    """The tables of times."""
    with TABLE.open() as file:
        rows = list(csv.DictReader(file))
    columns = (np.array([float(row[name]) for row in rows]) for name in ("params", "tokens", "loss"))
    points = Points(*columns).drop_highest(5)
    data = (np.log(points.params), np.log(points.tokens), np.log(points.loss), np.ones(len(points)))

    result = fit(points)
    ours = median_seconds(lambda: fit(points), 61)
    table = [["ours: grid, projection, 3 polished starts", ours, result.objective_value]]
    table += [scipy_fit(data, result.objective_value, sample), scipy_least_squares(data, 9)]
    package = chinchilla_package(points)
    table += [package] if package else []
    lines = [
        "# Speed of the fit engine",
        "",
        f"`python benchmarks/laws.py`: {len(points)} points, `log_huber` δ 1e-3 summed; medians of CPU seconds,",
        "one thread, both sides in one run.",
        "",
        "## One fit",
        "",
        "| method | seconds | times ours | summed objective |",
        "|---|---|---|---|",
        *(f"| {name} | {seconds:.4g} | {seconds / ours:.3g} | {value:.10f} |" for name, seconds, value in table),
    ]
    draws = 4000
    own = median_seconds(lambda: bootstrap(result, draws=draws), 5)
    rival = scipy_bootstrap(result, data, draws, sample)
    lines += [
        "",
        f"## {draws:,} case bootstraps",
        "",
        "| method | seconds | times ours |",
        "|---|---|---|",
        f"| ours, one batch | {own:.3f} | 1 |",
        f"| SciPy L-BFGS-B from the optimum (timed on {sample}, extrapolated) | {rival:.2f} | {rival / own:.3g} |",
        "",
        "## Growth with the number of points",
        "",
        "| points | one fit, s | 100 draws, s |",
        "|---|---|---|",
    ]
    for times in (1, 10, 100):
        big = many_points(points, times)
        law = fit(big)
        seconds = (
            median_seconds(lambda big=big: fit(big), 5),
            median_seconds(lambda law=law: bootstrap(law, draws=100), 3),
        )
        lines.append(f"| {len(big):,} | {seconds[0]:.4f} | {seconds[1]:.4f} |")
    process = command_seconds(5)
    lines += ["", "## As a command", ""]
    if process is None:
        lines.append("`scaling fit` did not run here.")
    else:
        lines.append(f"`scaling fit` with 1,000 draws, as a process: {process:.2f} s wall, median of 5.")
    absent = [*([] if package else ["chinchilla"]), "simple-scaling-laws"]
    lines += ["", "Not compared: " + ", ".join(why_absent(name) for name in absent) + "."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--random-laws", type=int, default=0, help="instead: SciPy's best of 200 starts on so many laws"
    )
    parser.add_argument("--sample", type=int, default=90, help="starts and draws timed of SciPy's")
    options = parser.parse_args()
    text = random_laws(options.random_laws) if options.random_laws else speed(options.sample)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text)


if __name__ == "__main__":
    main()
