"""What the README says is so: its table, its commands, its examples."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.cli import COMMANDS as RUNTIME_COMMANDS
from tools.readme import speed_table, with_tables
from zoo.cli import COMMANDS as ZOO_COMMANDS

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def test_the_tables_are_those_made_from_the_index_and_the_benchmarks() -> None:
    assert with_tables(README) == README, "run `python -m tools.readme`"


def test_comparisons_become_rows_and_what_broke_does_not(tmp_path: Path) -> None:
    def row(p50: float, times: float) -> dict[str, object]:
        return {"latency_ms": {"p50": p50}, "times_ours": times}

    ways = {"runtime": row(0.1, 1.0), "torch": row(0.56, 5.6), "openvino": {"batch_size": 1, "error": "ended"}}
    figures = {
        "conditions": {"gpu": None, "cores": 2},
        "cells": {"lenet/fp32/1": {"backends": ways}, "lenet/fp32/8": {"backends": ways}},
    }
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    (folder / "compare_cpu.json").write_text(json.dumps(figures))

    assert speed_table(tmp_path).splitlines()[2:] == [
        "| `lenet` in fp32, batch 1, 2 CPU cores | 0.1 ms | PyTorch, 0.56 ms | 5.60 × |"
    ]


@pytest.mark.parametrize(
    "command", [f"zoo {name}" for name in ZOO_COMMANDS] + [f"runtime {n}" for n in RUNTIME_COMMANDS]
)
def test_every_command_is_in_the_readme(command: str) -> None:
    assert f"`{command}" in README


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md", "docs/scale.md"])
def test_every_link_of_a_page_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", (ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_pages_name_the_version_of_onnxruntime_web_that_is_pinned() -> None:
    from export.deploy.web import ONNXRUNTIME_WEB

    named = re.findall(r"onnxruntime-web@([\d.]+)", README + (ROOT / "docs" / "scale.md").read_text())

    assert named
    assert set(named) == {ONNXRUNTIME_WEB}


def test_the_example_without_this_package_runs_as_printed() -> None:
    block = README.split("### Without this package")[1].split("```python")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_model_cards_are_those_of_their_index_entries() -> None:
    from export.bundle.card import model_card
    from runtime.model.registry import read_index

    for name, entry in read_index(ROOT / "weights").items():
        assert (ROOT / "weights" / name / "README.md").read_text() == model_card(entry)
