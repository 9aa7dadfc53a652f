"""Two real processes over gloo, against one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.testing import assert_close

from bladescan.base.errors import DeviceUnavailableError, UsageError
from bladescan.pretext.examples import Batch
from bladescan.training.distributed import ALONE, World, choose_device, joined, share_batch_norms
from bladescan.training.minibatches import Minibatch
from bladescan.training.state import new_training_state
from bladescan.training.step import step
from tests import ROOT
from tests.training.tiny import TINY, batch

TRAINING = """
import sys
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from tests.training.test_distributed import train_three_steps
train_three_steps({out!r})
"""


def shared(whole, world):
    own = slice(*(len(whole.pixels) // world.size * k for k in (world.rank, world.rank + 1)))
    return Batch(whole.pixels[own], {name: values[own] for name, values in whole.targets.items()})


def train_three_steps(folder):
    """Train as this process of the world, and save all that it has learned."""
    with joined("cpu") as world:
        state = new_training_state(TINY, world.device)
        state.model.double()
        share_batch_norms(state.model, world)
        for k in range(3):
            both = Minibatch(shared(batch(seed=2 * k), world), shared(batch(seed=2 * k + 1), world))
            result = step(state, both, TINY, 1e-3, world)
        tensors = dict(state.model.state_dict()) | {"weights": state.weights.data, "losses": result.losses}
        path = Path(folder) / f"{world.size}-{world.rank}.safetensors"
        save_file({k: v.contiguous() for k, v in tensors.items()}, path)


@pytest.mark.integration
def test_two_processes_train_as_one_does(tmp_path):
    """Parameters, statistics, task weights and losses after three bi-level steps, in double precision."""
    script = tmp_path / "script.py"
    script.write_text(TRAINING.format(tests=str(ROOT), out=str(tmp_path)))
    train_three_steps(tmp_path)
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([sys.executable, *launch, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("1-0", "2-0", "2-1"))
    assert one.keys() == first.keys()
    for name, value in one.items():
        assert torch.equal(first[name], second[name]), name
        assert_close(first[name], value, rtol=1e-7, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
    assert not torch.equal(one["weights"], torch.ones_like(one["weights"]))


def test_a_world_of_one_changes_nothing():
    x = torch.randn(4, 3, requires_grad=True)
    assert ALONE.gather(x) is x
    gradient = {"a": x}
    assert ALONE.average(gradient) is gradient
    assert ALONE.share([1, 2, 3]) == [1, 2, 3]
    model = nn.Sequential(nn.BatchNorm2d(3))
    share_batch_norms(model, ALONE)
    assert type(model[0]) is nn.BatchNorm2d
    assert ALONE.from_first(lambda: 3) == 3
    with joined("cpu") as world:
        assert world == ALONE and world.leads


def test_a_minibatch_is_shared_out_in_order_or_not_at_all():
    parts = [World(rank, 3).share(list(range(6))) for rank in range(3)]
    assert parts == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(UsageError, match="7 photographs cannot be divided among 3 processes"):
        World(0, 3).share(range(7))


@pytest.mark.parametrize("name", ["cuda:99", "mps", "tpu", "cpu:x"])
def test_a_device_that_cannot_be_had_is_an_error(name):
    with pytest.raises(DeviceUnavailableError, match=name):
        choose_device(name)


def test_auto_takes_what_there_is():
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
