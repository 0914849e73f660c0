"""Several processes, as torchrun starts them, learn as one does; when one dies, all end, and the run can be resumed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from runtime.errors import UsageError
from zoo import distributed
from zoo.distributed import World
from zoo.runs import checkpoint
from zoo.runs.checkpoint import checkpoint_in

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]

CURVES = """
import json, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
from zoo.data.dataset import load_split
from zoo.distributed import hard_exit, process_group
from zoo.models import create_model
from zoo.recipes import Recipe
from zoo.training.trainer import Trainer

torch.set_num_threads(1)
cpu = torch.device("cpu")
# Rounding errors grow from step to step; in float64 they stay smaller than the effect of a mistake.
# The seventh batch of an epoch is a single image: one process has nothing to do.
recipe = Recipe(name="best", epochs=3, batch_size=32, lr=0.02, momentum=0.9, flip=True, shift=1, ema=0.9)
found = {{}}
with process_group(cpu) as world:
    for name in ("lenet", "lenet-modern"):
        torch.manual_seed(0)
        trainer = Trainer(
            create_model(name).double(), recipe, load_split("train")[slice(0, 193)], seed=0, world=world
        )
        losses = []

        def watch(images, running):
            sums = torch.tensor([running.loss * running.images, running.images], dtype=torch.float64)
            world.all_reduce(sums)
            losses.append((sums[0] / sums[1]).item())

        epochs = [trainer.run_epoch(watch) for _ in range(3)]
        found[name] = {{
            "losses": losses,
            "accuracy": [epoch.train_accuracy for epoch in epochs],
            "weights": [tensor.double().sum().item() for tensor in trainer.trained.state_dict().values()],
        }}
    Path(sys.argv[1] + f"-{{world.rank}}.json").write_text(json.dumps(found))
hard_exit(0)
"""

RUN = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from support import small_runs as t
from runtime.errors import FashionZooError
from zoo.distributed import hard_exit, process_group

t.run.load_split = t.small_split
t.torch.set_num_threads(1)


class Die(t.StopAfter):
    def batch(self, images, running):
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


try:
    with process_group(t.CPU) as world:
        listener = None if world.is_main else Die(int(sys.argv[2]))
        result = t.train(Path(sys.argv[1]), resume=True, world=world, listener=listener)
    print(f"rank {{world.rank}} of {{world.size}} got {{result.test_accuracy}}")
    hard_exit(0)
except FashionZooError as error:
    print(f"Error: {{error}}", file=sys.stderr)
    hard_exit(error.exit_code)
"""


def start(program: str, *arguments: object, processes: int) -> subprocess.CompletedProcess[str]:
    """Run a program by torchrun, or with 0 `processes` directly."""
    # torchrun ends the others as soon as it sees one dead; a busy machine needs time to say so before.
    options = ["--standalone", "--monitor-interval", "3", "--nproc-per-node", str(processes)]
    launcher = ["-m", "torch.distributed.run", *options] if processes else []
    folder = Path(str(arguments[0])).parent
    script = folder / "program.py"
    script.write_text(program.format(tests=str(ROOT / "tests")))
    command = [sys.executable, *launcher, str(script), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=240, check=False)


def test_two_processes_learn_as_one_does(tmp_path, fashion_mnist_dir):
    for name, processes in (("one", 0), ("two", 2)):
        done = start(CURVES, tmp_path / name, processes=processes)
        assert done.returncode == 0, done.stderr
    one, two, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("one-0", "two-0", "two-1"))

    assert two == second
    for network in ("lenet", "lenet-modern"):
        assert len(set(one[network]["losses"])) == 21
        assert two[network]["losses"] == pytest.approx(one[network]["losses"], rel=1e-5)
        assert two[network]["accuracy"] == pytest.approx(one[network]["accuracy"])
        assert two[network]["weights"] == pytest.approx(one[network]["weights"], rel=1e-5, abs=1e-5)


def test_a_process_that_dies_ends_all_with_a_sentence_and_the_run_goes_on(tmp_path, fashion_mnist_dir):
    unbroken = start(RUN, tmp_path / "unbroken", 0, processes=2)
    broken = start(RUN, tmp_path / "broken", 12, processes=2)
    saved = checkpoint.load(checkpoint_in(tmp_path / "broken"))
    resumed = start(RUN, tmp_path / "broken", 0, processes=2)

    assert broken.returncode != 0
    assert "Error: another process of this run died or did not answer" in broken.stderr
    assert saved.header["epoch"] == 1
    assert saved.header["trained_on"]["processes"] == 2
    for done in (unbroken, resumed):
        assert done.returncode == 0, done.stderr
        lines = sorted(done.stdout.splitlines())
        assert [line[:13] for line in lines] == ["rank 0 of 2 g", "rank 1 of 2 g"]
        assert lines[0].split("got ")[1] == lines[1].split("got ")[1] != "None"
    ours, expected = (checkpoint.load(checkpoint_in(tmp_path / name)).weights for name in ("broken", "unbroken"))
    assert all(torch.equal(ours[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize("rows", [0, 1, 2, 96, 128])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_cover_a_batch_once_and_differ_by_one_row_at_most(rows, size):
    shares = [range(1000)[World(rank, size).share(100, 100 + rows)] for rank in range(size)]

    assert [row for share in shares for row in share] == list(range(100, 100 + rows))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_under_torchrun_each_process_takes_its_own_gpu(monkeypatch):
    assert distributed.device_of_process("cuda:1") == "cuda:1"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    monkeypatch.setenv("LOCAL_RANK", "3")

    assert distributed.device_of_process("cuda") == "cuda:3"
    assert distributed.device_of_process("cpu") == "cpu"
    with pytest.raises(UsageError, match="each process has a GPU of its own"):
        distributed.device_of_process("cuda:1")


def test_a_command_under_torchrun_says_all_it_has_to_say_and_keeps_its_exit_code():
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1", "-m", "zoo"]
    ended = {
        name: subprocess.run(
            [*torchrun, "summary", name, "--json"], capture_output=True, text=True, cwd=ROOT, timeout=240, check=False
        )
        for name in ("lenet", "nosuch")
    }

    assert ended["lenet"].returncode == 0, ended["lenet"].stderr
    assert json.loads(ended["lenet"].stdout)["parameters"] == 61_706
    assert ended["nosuch"].stdout == ""
    assert "exitcode  : 2" in ended["nosuch"].stderr
    assert "there is no model 'nosuch'" in ended["nosuch"].stderr
