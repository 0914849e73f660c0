"""Users without a home folder, and variables that begin with the home folder of a user who is not known."""

import json
import os

import pytest
from click.testing import CliRunner
from support.command_line import call

from runtime.cli import runtime
from runtime.datasets import fashion_mnist
from runtime.errors import UsageError
from runtime.model import registry
from runtime.storage import home, known_home
from zoo.cli import zoo

pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows knows its users otherwise")


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom the machine does not know: no line in the password file, and no variable that helps."""
    import pwd

    def unknown(_uid: int) -> None:
        raise KeyError("uid not found")

    for variable in ("HOME", "ZOO_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_a_user_without_a_home_still_has_the_shipped_models(homeless):
    assert known_home() is None
    assert registry.find_model().name == "lenet-modern"
    assert {"lenet", "lenet-modern"} <= {stored.name for stored in registry.list_models()}


def test_the_commands_that_only_read_run_without_a_home(homeless):
    for group, *command in (
        (runtime, "list"),
        (runtime, "info", "--device", "cpu"),
        (runtime, "doctor"),
        (zoo, "list"),
        (zoo, "verify", "lenet", "--images", "10"),
    ):
        result = CliRunner().invoke(group, [*command, "--json"])

        assert (result.exit_code, bool(json.loads(result.stdout))) == (0, True), result.output


def test_the_data_is_found_without_a_home(homeless, fashion_mnist_dir):
    assert fashion_mnist.find() == fashion_mnist.Location(fashion_mnist_dir, "environment")


def test_whoever_would_write_there_is_told_of_the_variable(homeless):
    for asked in (home, registry.user_weights, fashion_mnist.cache_folder):
        with pytest.raises(UsageError, match=r"no home folder; set \$ZOO_HOME"):
            asked()


@pytest.mark.parametrize("command", [["list"], ["predict", "a.png"]])
def test_a_zoo_home_of_nobody_is_named(command, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", "~nosuch/x")
    result = call("runtime", *([*command, "-m", "lenet"] if command[0] == "predict" else command))

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.strip() == (
        "Error: $ZOO_HOME is '~nosuch/x', but ~nosuch has no home folder here; write the whole path"
    )


def test_a_data_folder_of_nobody_is_named(monkeypatch):
    monkeypatch.setenv("FASHION_MNIST_DIR", "~nosuch/x")
    result = call("runtime", "accuracy", "-m", "lenet", "--device", "cpu")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "$FASHION_MNIST_DIR is '~nosuch/x', but ~nosuch has no home folder here" in result.stderr


def test_the_doctor_names_a_variable_that_is_wrong_and_says_to_correct_it(monkeypatch):
    monkeypatch.setenv("ZOO_HOME", "~nosuch/x")
    problems = json.loads(call("runtime", "doctor", "--json").stdout)["problems"]

    (found,) = [problem for problem in problems if "$ZOO_HOME" in problem["what"]]
    assert found["remedy"] == "correct that variable, or unset it"
