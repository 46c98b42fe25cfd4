"""Processes over gloo against one process: DDP and FSDP2 give the same training within rounding.

The tolerance on a loss after six steps is 1e-4 nats; measured differences are below 1e-6. They come from the order in
which gradients are summed, which the sign-like update of Muon amplifies while gradients are small.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scaling.errors import TrainingError
from scaling.training.checkpoint import newest_first
from scaling.training.loop import train
from scaling.training.parallel import Team, join
from scaling.training.sharded import own_rows, row_counts

TOLERANCE_NATS = 1e-4
CASES = [("ddp", "muon"), ("ddp", "spectron"), ("ddp", "guided"), ("fsdp", "adamw"), ("fsdp", "muon")]
CASES += [("fsdp", "spectron"), ("fsdp", "spectron_renormalise_only"), ("fsdp", "guided")]

CHILD = """
import json, sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
import torch
from conftest import parallel_run, token_data
from scaling.training.loop import Stopped, train
from scaling.training.parallel import join
folder, results = Path(sys.argv[2]), {}
for strategy, name in json.loads(sys.argv[3]):
    team = join(strategy, torch.device("cpu"))
    boundaries = iter(range(1000))
    common = dict(data=token_data(Path()), owns=lambda: True, log=lambda record: None, team=team)
    where = folder / f"{strategy}-{name}"
    stopped = train(parallel_run(name), folder=where, attempt=1, stop=lambda: team.rank == 1 and next(boundaries) == 3,
                    **common)
    assert stopped == Stopped(3), stopped
    common["stop"] = lambda: False
    result = train(parallel_run(name), folder=where / "whole", attempt=1, micro_sequences=1, **common)
    resumed = train(parallel_run(name), folder=where, attempt=2, **common)
    results[f"{strategy}-{name}"] = [result.loss_nats, resumed.loss_nats]
if team.rank == 0:
    print(json.dumps(results))
torch.distributed.destroy_process_group()
"""


def alone(run, data, folder):
    options = {"attempt": 9, "stop": lambda: False, "owns": lambda: True, "log": lambda record: None}
    return train(run, data=data, folder=folder, **options)


FOUR = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
import torch
from conftest import tiny_run, token_data
from scaling.training.loop import train
from scaling.training.parallel import join
team, folder = join("ddp", torch.device("cpu")), Path(sys.argv[2])
boundaries = iter(range(1000))
common = dict(data=token_data(Path()), owns=lambda: True, log=lambda record: None, team=team)
whole = train(tiny_run(), folder=folder / "whole", attempt=1, stop=lambda: False, **common)
train(tiny_run(), folder=folder, attempt=1, stop=lambda: next(boundaries) == 3, **common)
resumed = train(tiny_run(), folder=folder, attempt=2, stop=lambda: False, **common)
if team.rank == 0:
    print("[", whole.loss_nats, ",", resumed.loss_nats, "]")
torch.distributed.destroy_process_group()
"""


def of_ranks(count, script, *arguments):
    """What rank 0 of `count` processes prints, read as JSON."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    base["WORLD_SIZE"] = str(count)
    command = [sys.executable, "-c", script, str(Path(__file__).parent), *arguments]
    ranks = [
        subprocess.Popen(command, env={**base, "RANK": str(r)}, stdout=subprocess.PIPE, text=True) for r in range(count)
    ]
    outputs = [rank.communicate(timeout=300)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * count
    return json.loads(outputs[0].splitlines()[-1])


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    return folder, of_ranks(2, CHILD, str(folder), json.dumps(CASES))


def test_four_ranks_train_as_one_and_resume_to_the_bit(a_run, data, tmp_path):
    """Above two ranks the order of a sum matters: DDP must not change it on the way."""
    whole, resumed = of_ranks(4, FOUR, str(tmp_path / "four"))
    assert whole == resumed
    assert whole == pytest.approx(alone(a_run(), data, tmp_path / "one").loss_nats, abs=TOLERANCE_NATS)


@pytest.mark.parametrize(("strategy", "name"), CASES)
def test_two_ranks_train_as_one(two_ranks, case_run, data, tmp_path, strategy, name):
    """Undisturbed with gradient accumulation; stopped by one rank and resumed; a checkpoint of two taken on by one."""
    folder, results = two_ranks
    one = alone(case_run(name), data, tmp_path / "one")
    whole, resumed = results[f"{strategy}-{name}"]
    assert whole == pytest.approx(one.loss_nats, abs=TOLERANCE_NATS)
    assert resumed == pytest.approx(one.loss_nats, abs=TOLERANCE_NATS)
    (checkpoint,) = newest_first(folder / f"{strategy}-{name}")
    target = tmp_path / "from_two" / checkpoint.name
    target.parent.mkdir()
    target.write_bytes(checkpoint.read_bytes())
    taken_on = alone(case_run(name), data, target.parent)
    assert taken_on.loss_nats == pytest.approx(one.loss_nats, abs=TOLERANCE_NATS)
    assert taken_on.steps == one.steps


@pytest.mark.parametrize(("rows", "world"), [(7, 2), (3, 4), (8, 4), (1, 3), (5, 4)])
def test_rows_are_cut_as_torch_does(rows, world):
    tensor = torch.arange(rows * 2).view(rows, 2)
    chunks = [c.shape[0] for c in tensor.chunk(world)]
    assert row_counts(rows, world) == chunks + [0] * (world - len(chunks))
    parts = [own_rows(tensor, rank=r, world=world) for r in range(world)]
    assert torch.equal(torch.cat(parts), tensor)


def test_one_process_is_alone(monkeypatch):
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert join("ddp", torch.device("cpu")) == Team()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert join("fsdp", torch.device("cpu")) == Team()


def test_ranks_that_cannot_meet_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(TrainingError, match="where they meet") as error:
        join("ddp", torch.device("cpu"))
    assert "MASTER_ADDR" in str(error.value)
