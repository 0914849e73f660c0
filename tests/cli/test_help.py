"""Both commands as whoever types them meets them: help with an example everywhere, and completion by the shell."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.command_line import python

from runtime.cli import runtime
from zoo.cli import zoo

ROOT = Path(__file__).resolve().parents[2]


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, click.Command]]:
    """All commands under a command that do something, by what one types."""
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            inner = command.get_command(click.Context(command), name)
            assert inner is not None
            yield from commands(inner, (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = [*commands(runtime, ("runtime",)), *commands(zoo, ("zoo",))]


@pytest.mark.parametrize(("typed", "command"), COMMANDS, ids=[typed for typed, _ in COMMANDS])
def test_the_help_of_every_command_shows_an_example_of_that_command(typed, command):
    name, *words = typed.split()
    group = {"runtime": runtime, "zoo": zoo}[name]
    shown, shown_too = (
        CliRunner().invoke(group, [*words, option], prog_name=name).stdout for option in ("--help", "-h")
    )
    _, found, examples = shown.partition("Example")

    assert shown_too == shown
    assert found, f"{typed} --help shows no example"
    assert f"{typed}" in examples.split("Options:")[0]


@pytest.mark.parametrize(("typed", "command"), COMMANDS, ids=[typed for typed, _ in COMMANDS])
def test_every_flag_of_every_command_says_what_it_does(typed, command):
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{typed} {parameter.opts[0]}"


@pytest.mark.parametrize("group", [runtime, zoo], ids=["runtime", "zoo"])
def test_the_help_of_the_whole_names_every_command(group):
    shown = CliRunner().invoke(group, ["--help"]).stdout

    for name in group.list_commands(click.Context(group)):
        assert f"\n  {name} " in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", ["runtime", "zoo"])
def test_the_shell_gets_its_completion_script(program, shell):
    done = complete(program, f"{shell}_source")

    assert done.returncode == 0, done.stderr
    assert f"_{program.upper()}_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize(
    ("program", "typed", "offered"),
    [
        ("runtime", "runtime pre", {"predict"}),
        ("runtime", "runtime serve --max", {"--max-wait", "--max-queue", "--max-body", "--max-pixels"}),
        ("runtime", "runtime predict --invert ", {"auto", "yes", "no"}),
        ("zoo", "zoo ex", {"export"}),
        ("zoo", "zoo train --se", {"--seed", "--seeds"}),
    ],
)
def test_the_shell_is_offered_commands_flags_and_choices(program, typed, offered):
    words = typed.split(" ")
    done = complete(program, "bash_complete", COMP_WORDS=typed, COMP_CWORD=str(len(words) - 1))

    assert done.returncode == 0, done.stderr
    assert {line.partition(",")[2] for line in done.stdout.split()} >= offered


def complete(program: str, instruction: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Do what the shell does when the tab key is pressed."""
    code = f"import sys; sys.argv = [{program!r}]; from {program}.__main__ import main; main()"
    environment = os.environ | {f"_{program.upper()}_COMPLETE": instruction} | variables
    return python("-c", code, env=environment)
