"""The example files of docs/clusters: they parse, ask for what they should, and start the worker that exists."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from scaling.cli.work import work
from scaling.runners.runner_file import load_runner

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "clusters"
FILES = sorted(EXAMPLES.iterdir())
OTHERS = [path for path in FILES if path.name != "slurm.yaml"]


def worker_arguments(text: str) -> list[str]:
    """What follows `scaling work` in a script."""
    [line] = re.findall(r"^(?:exec )?scaling work (.*)$", text, re.MULTILINE)
    return shlex.split(line)


def check_worker(arguments: list[str]) -> None:
    """The command line that the file starts is one that the verb understands."""
    context = work.make_context("work", list(arguments))
    assert isinstance(context, click.Context)
    assert {"store", "launch"} <= {name for name, value in context.params.items() if value}


def directives(path: Path, sign: str) -> dict[str, str]:
    """``#PBS -J 0-7`` as {"-J": "0-7"}."""
    lines = re.findall(rf"^#{sign} (-\w+) ?(.*)$", path.read_text(), re.MULTILINE)
    return {name: " ".join(shlex.split(value)) for name, value in lines}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_an_example_is_short_and_says_whether_it_was_run(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert 10 <= len(lines) <= 30
    head = " ".join(lines[:3])
    assert ("Not run here" in head) == (path in OTHERS)
    assert path.name in (ROOT / "docs" / "clusters.md").read_text()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_a_shell_script_that_starts_a_worker(path: Path) -> None:
    done = subprocess.run(["sh", "-n", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    check_worker(worker_arguments(path.read_text()))
    assert "\nexec scaling work" in path.read_text(), "signals reach the worker, not a shell before it"


def test_pbs_asks_for_an_array_that_may_be_run_again() -> None:
    asked = directives(EXAMPLES / "pbs-array.sh", "PBS")
    assert (asked["-J"], asked["-r"]) == ("0-7", "y")
    assert re.fullmatch(r"select=1:ncpus=\d+:ngpus=1:mem=\d+gb|walltime=\d+:\d+:\d+", asked["-l"])


def test_lsf_warns_in_time_and_queues_a_stopped_worker_again() -> None:
    asked = directives(EXAMPLES / "lsf-array.sh", "BSUB")
    assert re.fullmatch(r"[\w-]+\[1-8\]", asked["-J"])
    assert (asked["-wa"], asked["-wt"], asked["-Q"]) == ("USR2", "2", "75")


def test_the_kubernetes_job_is_indexed() -> None:
    job = yaml.safe_load((EXAMPLES / "kubernetes-job.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    spec = job["spec"]
    assert spec["completionMode"] == "Indexed"
    assert 1 <= spec["parallelism"] <= spec["completions"]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "required with backoffLimitPerIndex"
    assert spec["backoffLimitPerIndex"] > 0
    assert pod["terminationGracePeriodSeconds"] >= 60
    [container] = pod["containers"]
    assert container["command"][:2] == ["scaling", "work"]
    check_worker(container["command"][2:])
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounted.keys() == {volume["name"] for volume in pod["volumes"]}
    assert container["command"][3].startswith(mounted["project"]), "the store lies on the volume"


def test_the_skypilot_task_mounts_a_volume_and_not_a_bucket() -> None:
    task = yaml.safe_load((EXAMPLES / "skypilot.yaml").read_text())
    assert set(task) == {"name", "num_nodes", "resources", "volumes", "setup", "run"}
    assert list(task["volumes"]) == ["/project"]
    assert "cd /project\n" in task["run"]
    arguments = worker_arguments(task["run"])
    check_worker(arguments)
    assert "--follow" in arguments, "SkyPilot ends every node when one leaves with an error"


def test_the_slurm_example_is_a_runner_file() -> None:
    assert load_runner(EXAMPLES / "slurm.yaml").time_limit == 4 * 3600
