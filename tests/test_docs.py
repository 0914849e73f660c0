"""What the README and the documentation say is so: tables, links, install lines and pictures, and the site itself."""

import inspect
import json
import re
import tomllib
from pathlib import Path

import pytest
from support.command_line import python
from support.doc_pages import ROOT, blocks, pages

from runtime.cli import COMMANDS as RUNTIME_COMMANDS
from tools.docs import GENERATORS
from tools.readme import speed_table, with_table
from zoo.cli import COMMANDS as ZOO_COMMANDS

README = (ROOT / "README.md").read_text()
PAGES = pages()
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_the_table_is_that_made_from_the_index_and_the_benchmarks():
    assert with_table(README) == README, "run `python -m tools.readme`"


def test_the_readme_is_read_in_minutes():
    assert len(README.split()) <= 900


def test_the_readme_counts_the_networks_of_torchvision_as_measured():
    figures = json.loads((ROOT / "benchmarks" / "results" / "torchvision_models.json").read_text())

    assert f"[{figures['proved']} of {figures['of']}](docs/benchmarks.md#networks-of-torchvision)" in README


def test_comparisons_become_rows_and_what_broke_does_not(tmp_path):
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


def test_every_page_is_in_the_navigation():
    """Lost otherwise: a page that no reader finds."""
    assert {f"docs/{path.relative_to(ROOT / 'docs').as_posix()}" for path in (ROOT / "docs").rglob("*.md")} == set(
        PAGES[1:]
    )


@pytest.mark.parametrize(
    "command", [f"zoo {name}" for name in ZOO_COMMANDS] + [f"runtime {n}" for n in RUNTIME_COMMANDS]
)
def test_a_page_says_what_each_command_is_for(command):
    assert any(re.search(rf"^{command}\b|`{command}\b", (ROOT / page).read_text(), re.MULTILINE) for page in PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_of_a_page_leads_somewhere(page):
    for target in re.findall(r"\]\((?!http)([^)#]+)(?:#[^)]*)?\)", (ROOT / page).read_text()):
        assert (ROOT / page).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_install_lines_name_what_there_is(page):
    """Lost otherwise: a command that finds nothing, since the package is on no index."""
    text = (ROOT / page).read_text()

    assert not re.search(r"pip install '?fashion-zoo", text)
    for named in re.findall(r"pip install (?:-e )?'\.\[([\w,]+)\]'", text):
        assert set(named.split(",")) <= set(EXTRAS), named
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for named in re.findall(r"`make ([\w-]+)`|^make ([\w-]+)", text, re.MULTILINE):
        assert "".join(named) in targets, named


def test_no_message_names_a_package_that_is_on_no_index():
    sources = [path for package in ("runtime", "export", "zoo") for path in (ROOT / package).rglob("*.py")]

    assert len(sources) > 100
    assert [path for path in sources if re.search(r"pip install [^`\n]*fashion-zoo", path.read_text())] == []


def test_the_pages_name_the_version_of_onnxruntime_web_that_is_pinned():
    from export.deploy.web import ONNXRUNTIME_WEB

    named = [
        version for page in PAGES for version in re.findall(r"onnxruntime-web@([\d.]+)", (ROOT / page).read_text())
    ]

    assert named
    assert set(named) == {ONNXRUNTIME_WEB}


def test_the_page_of_checks_has_each_check_in_their_order():
    from runtime.model.registry import read_index

    text = (ROOT / "docs" / "concepts" / "checks.md").read_text()
    head, first, *others = re.findall(r"^\| ([a-z-]+) \|", text, re.MULTILINE)

    assert (head, first) == ("check", "self-contained")  # which older reports call otherwise
    assert others == read_index(ROOT / "weights")["lenet"]["verified"]["checks"][1:]


def test_every_public_name_is_in_the_reference():
    """Lost otherwise: a class that can be imported and is described nowhere."""
    import export
    import runtime
    import zoo
    from runtime.errors import FashionZooError

    api = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "reference" / "api.md").read_text(), re.MULTILINE)
    public = {
        f"{package.__name__}.{name}"
        for package in (runtime, export, zoo)
        for name in package.__all__
        if not (inspect.isclass(found := getattr(package, name)) and issubclass(found, FashionZooError))
    }

    assert set(api) == public  # the exceptions are in a table of their own, see `tools.docs`
    assert "runtime.DeviceUnavailable" in GENERATORS["errors"]()


@pytest.mark.slow
def test_the_site_is_built_strictly_and_asks_nobody_for_anything(tmp_path):
    """Lost otherwise: a dead link, and a site that needs, or tells, another server."""
    pytest.importorskip("zensical", reason="zensical is not installed: pip install -e '.[docs]'")
    pytest.importorskip("mkdocstrings_handlers.python", reason="mkdocstrings-python is not installed")
    done = python("-m", "tools.docs")
    assert done.returncode == 0, done.stdout + done.stderr
    site = ROOT / "build" / "site"

    for page in PAGES[1:]:
        html = (site / Path(page).relative_to("docs").with_suffix(".html")).read_text("utf-8")
        assert "<!-- generate" not in html
        assert "<!-- include" not in html
        assert not re.findall(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=\"?(?:https?:)?//", html), page
        for picture in re.findall(r'<img[^>]+src="([^"]+)"', html):
            assert (site / Path(page).relative_to("docs").parent / picture).is_file(), picture
    api = (site / "reference" / "api.html").read_text("utf-8")
    assert "contract-true" in api or "A model, ready to answer" in api


def test_model_cards_are_those_of_their_index_entries():
    from export.bundle.card import model_card
    from runtime.model.registry import read_index

    for name, entry in read_index(ROOT / "weights").items():
        assert (ROOT / "weights" / name / "README.md").read_text() == model_card(entry)


def test_plots_are_those_of_the_figures():
    """Lost otherwise: a plot of what was measured before."""
    from tools.plots import IMAGES, PLOTS, digest

    assert [name for name in PLOTS if digest(name) not in (IMAGES / f"{name}.svg").read_text()] == [], (
        "run `python -m tools.plots`"
    )


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "images").iterdir()), ids=lambda path: path.name)
def test_a_picture_is_small_and_asks_nobody_for_a_font(picture):
    assert picture.stat().st_size < 200_000
    assert b"@font-face" not in picture.read_bytes()


def test_a_block_that_is_not_run_says_why():
    """`tests/test_doc_commands.py` runs the others; most must be run."""
    found = [block for page in PAGES for block in blocks(page) if block.language in ("sh", "python")]

    assert len([block for block in found if block.reason]) < len(found) / 2
