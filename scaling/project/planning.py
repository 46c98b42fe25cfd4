"""The plan of a sweep with its price, and the plans that a launch refuses."""

from __future__ import annotations

from collections.abc import Iterable

from scaling.errors import ScalingError
from scaling.project.opened import OpenSweep
from scaling.project.plan_changes import difference
from scaling.results.launches import last_launch
from scaling.results.store import Store
from scaling.runners.runner_file import Runner
from scaling.sweeps.price import Priced, Throughput, price
from scaling.sweeps.schema import require_paths


def priced(opened: OpenSweep, runner: Runner) -> Priced:
    """The plan of a sweep, priced for a runner, by measured throughput and corpus size where they are known.

    Raises:
        SpecError: data that the sweep names are not there.
    """
    require_paths(opened.sweep, opened.root)
    store = Store(runner.store_path(opened.root))
    corpus_tokens = _corpus_tokens(opened, store)
    return price(
        opened.grid(store, corpus_tokens=corpus_tokens),
        device=runner.hardware(),
        placed=lambda run: runner.resources_for(run.counts.params_total).placement,
        sharing=runner.sharing,
        cores=lambda run: runner.cores_per_gpu(run.counts.params_total),
        measured=_measured(opened, store),
        corpus_tokens=corpus_tokens,
    )


def refuse_errors(opened: OpenSweep, plan: Priced) -> None:
    """Raises ScalingError where a check says that the plan cannot be run."""
    for check in plan.checks:
        if check.severity == "error":
            raise ScalingError(check.message, where=str(opened.path), hint=f"scaling plan {opened.path}")


def refuse_other_plan(opened: OpenSweep, plan: Priced) -> None:
    """Raises ScalingError where the plan differs from the last launch and is not its next stage."""
    frozen = last_launch(opened.root, opened.name)
    if frozen is None:
        return
    change = difference(frozen, plan.plan)
    ids = {planned.run.id for planned in plan.plan.runs}
    next_stage = opened.text == frozen.sweep_text and ids.issuperset(frozen.ids)
    if change and not next_stage:
        raise ScalingError(
            f"the plan differs from launch {frozen.number}: {change}",
            where=str(opened.path),
            hint=f"scaling launch {opened.path} --replan   (finished runs that are still planned are kept)",
        )


def _corpus_tokens(opened: OpenSweep, store: Store) -> int | None:
    """Training tokens of the corpus, where the store has it prepared."""
    if not store.path.exists():
        return None
    from scaling.data.corpus import missing_packages
    from scaling.data.shards import find_data

    if missing := missing_packages(opened.sweep.data.ref):
        what = f"{', '.join(missing)} of the corpus python-packages is not installed here"
        opened.listener.message(f"{what}: the plan does not know how many tokens the corpus has")
        return None
    data = find_data(opened.sweep.data.ref, root=opened.root, store=store.path)
    if data is None:
        return None
    opened.check_data(data)
    return data.train_tokens


def _measured(opened: OpenSweep, store: Store) -> Iterable[Throughput]:
    """What the finished runs of the last launch reached."""
    launch = last_launch(opened.root, opened.name)
    for row in launch.rows if launch else ():
        result = store.result(row.id)
        if result is not None and result.device_seconds > 0:
            rate = (result.flops + result.optimizer_flops) / result.device_seconds
            yield Throughput(row.line, row.params_matmul, rate, result.runs_per_gpu)
