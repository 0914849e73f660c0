"""The documentation site: the pages of docs/ with what is made from the code and the figures put in, built by Zensical.

    python -m tools.docs            writes build/docs, then builds build/site from it; a dead link is an error

Where a page says `<!-- generate: NAME -->`, the text of `GENERATORS[NAME]` takes the line's place; where it says
`<!-- include: PATH -->`, that file of the repository, as a block of code. What stands in front of it, `*so*`, is for
readers of the page as it is here.
"""

import dataclasses
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import click

from tools.readme import results_table, speed_table

ROOT = Path(__file__).resolve().parents[1]
PAGES, SOURCE = ROOT / "docs", ROOT / "build" / "docs"
MARK = re.compile(r"^(?:\*[^*]*\* )?<!-- (generate|include): (\S+) -->$", re.MULTILINE)
WIDTH = 100  # of a help text


def write_pages(folder: Path) -> None:
    """Copy docs/ to a folder, with every mark replaced."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(PAGES, folder)
    for page in folder.rglob("*.md"):
        page.write_text(expand(page.read_text("utf-8")), "utf-8")


def expand(text: str) -> str:
    """Return a page with every mark replaced.

    Raises:
        KeyError: there is no such generator.
        OSError: there is no such file.
    """

    def replacement(mark: re.Match[str]) -> str:
        kind, name = mark.groups()
        return GENERATORS[name]() if kind == "generate" else _block("python", (ROOT / name).read_text("utf-8"))

    return MARK.sub(replacement, text)


def _block(language: str, text: str) -> str:
    return f"```{language}\n{text.strip()}\n```"


def _table(head: str, rows: list[str]) -> str:
    columns = head.strip("|").count("|") + 1
    return "\n".join([head, "|" + "---|" * columns, *rows])


@cache
def _results() -> str:
    # The README's links lead to model cards, which are not part of the site.
    return re.sub(r"\[(`[^`]+`)\]\([^)]+\)", r"\1", results_table())


def _cli() -> str:
    """Every command's own help."""
    from runtime.cli import runtime
    from zoo.cli import zoo

    lines = []
    for program in (runtime, zoo):
        assert isinstance(program, click.Group)
        context = click.Context(program, info_name=program.name, terminal_width=WIDTH, max_content_width=WIDTH)
        lines += [f"## {program.name}", _block("text", program.get_help(context))]
        for name in program.list_commands(context):
            command = program.get_command(context, name)
            assert command is not None
            inner = click.Context(command, parent=context, info_name=name)
            lines += [f"### {program.name} {name}", _block("text", command.get_help(inner))]
    return "\n\n".join(lines)


def _errors() -> str:
    import export
    import runtime
    from runtime.errors import FashionZooError

    classes = {FashionZooError, export.VerificationFailed}
    classes |= {each for name in runtime.__all__ if inspect.isclass(each := getattr(runtime, name))}
    rows = [
        f"| `{each.__module__.split('.')[0]}.{each.__name__}` | {each.exit_code} | {_first_sentence(each)} |"
        for each in sorted(classes, key=lambda each: (each.__module__, each.__name__))
        if issubclass(each, FashionZooError)
    ]
    return _table("| exception | exit code | raised when |", rows)


def _first_sentence(thing: object) -> str:
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def _recipe_fields() -> str:
    from zoo.recipes import Recipe

    attributes = (inspect.getdoc(Recipe) or "").split("Attributes:\n")[1]
    said = {
        name: " ".join(text.split()) for name, text in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", attributes, re.M)
    }
    rows = [
        f"| `{field.name}` | {'' if field.default is dataclasses.MISSING else f'`{field.default!r}`'} "
        f"| {said.get(field.name, '')} |"
        for field in dataclasses.fields(Recipe)
    ]
    return _table("| field | default | meaning |", rows)


def _mutation() -> str:
    score = _figures("mutation_score")
    found, rewrites, refused = score["caught_by_the_right_check"], score["rewrites"], len(score["rewrites_refused"])
    return (
        f"`benchmarks/mutation_score.py` makes {score['mutants']} files with a mistake in them, over several networks "
        f"and precisions: {found} are caught by the check that should catch them. Of {rewrites} rewrites that change "
        f"nothing, {refused} are refused."
    )


def _other_tools() -> str:
    score = _figures("mutation_score")
    tools = score["other_tools"]
    asked = [row for row in score["rows"] if not tools.keys().isdisjoint(row)]
    rows = [
        f"| this project | {sum(row['caught'] for row in asked)} of {len(asked)} | {len(score['rewrites_refused'])} |"
    ]
    rows += [
        f"| {tool} | {row['caught']} of {row['mutants']} | {row['rewrites_refused']} |" for tool, row in tools.items()
    ]
    rewrites = max(row["rewrites"] for row in tools.values())
    return _table(f"| tool | mistakes refused | correct files refused, of {rewrites} |", rows)


def _metadata() -> str:
    props = _properties(ROOT / "weights" / "lenet" / "model.onnx")
    return _table("| key | value |", [f"| `{key}` | `{_shortened(value)}` |" for key, value in sorted(props.items())])


def _input_contract() -> str:
    contract = json.loads(_properties(ROOT / "weights" / "lenet" / "model.onnx")["input"])
    return _block("json", json.dumps(contract, indent=2))


def _photo_contract() -> str:
    from runtime import InputSpec

    return _block("json", json.dumps(InputSpec.photo(224).as_dict(), indent=2))


def _properties(path: Path) -> dict[str, str]:
    import onnxruntime

    return dict(onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map)


def _index_entry() -> str:
    from runtime.model.registry import read_index

    entry = read_index(ROOT / "weights")["lenet"]
    rows = [f"| `{key}` | `{_shortened(json.dumps(value))}` |" for key, value in entry.items()]
    return _table("| key | of `lenet` |", rows)


def _shortened(text: str) -> str:
    return text if len(text) <= 120 else f"{text[:117]}..."


def _json_examples() -> str:
    blocks = []
    for command in ("runtime predict examples/shoe.png --topk 2 --device cpu --json", "runtime list --json"):
        done = subprocess.run(
            [sys.executable, "-P", "-m", *command.split()], cwd=ROOT, capture_output=True, text=True, check=True
        )
        blocks += [_block("sh", command), _block("json", done.stdout.replace(str(ROOT), "…"))]
    return "\n\n".join(blocks)


def _container() -> str:
    figures = _figures("container")
    largest = ", ".join(f"{name} {size / 1e6:.0f} MB" for name, size in figures["largest"].items() if size > 10e6)
    return f"The packages in it take {figures['bytes'] / 1e6:.0f} MB ({largest}), beside the base image."


def _int8() -> str:
    rows: list[str] = []
    for model, found in _figures("int8")["models"].items():
        speeds = found["speed"]
        batches = list(speeds)
        for name in speeds[batches[0]]:
            megabytes = f"{found['bytes'][name] / 1e6:.1f}" if name in found["bytes"] else ""
            cells = [f"`{model}`", name, megabytes, *(f"{speeds[batch][name]['ratio']:.2f}" for batch in batches)]
            change = found["accuracy"][name]
            cells += [f"{change['top1']:.4f}", str(change["flips"]), f"{change['p_value']:.2g}"]
            rows.append(f"| {' | '.join(cells)} |")
    return _table(f"| model | file | MB | {' | '.join(batches)} | accuracy | flips | McNemar's p |", rows)


def _int8_torchvision() -> str:
    figures = _figures("int8_torchvision")
    rows = []
    for row in figures["rows"]:
        cells = [f"`{row['network']}`", str(row["steps"]), row["verdict"]]
        if row["verdict"] == "certified":
            cells += [str(len(row["float_layers"])), f"{row['flips']} of {figures['images']}", f"{row['p_value']:.2g}"]
        else:
            cells += [row["why"], "", ""]
        rows.append(f"| {' | '.join(cells)} |")
    return _table("| network | steps | verdict | layers in float32 | flips | McNemar's p |", rows)


def _tolerance() -> str:
    found = _figures("tolerance")
    correct, wrong, within = len(found["honest"]), len(found["mistakes"]), found["mistakes_below_tolerance"]
    return (
        "`benchmarks/tolerance.py` trains networks of torchvision on Fashion-MNIST and exports each as it is, and with "
        f"one mistake. Of {correct} correct files {found['honest_refused']} are refused; the largest error is "
        f"{found['honest_largest']:.2f} of the tolerance. Of {wrong} files with a mistake {found['mistakes_missed']} "
        f"pass; {within} are within the tolerance, and another check than parity refuses them."
    )


def _torchvision() -> str:
    figures = _figures("torchvision_models")
    rows = []
    for name, row in sorted(figures["models"].items()):
        if row["verdict"] != "too large":
            ratio = f"{row['error'] / row['tolerance']:.3f}" if row.get("tolerance") else ""
            parts = ", ".join(sorted({each["operator"] for each in row.get("not_proved", [])}))
            size, millions = row.get("size", ""), row["parameters"] / 1e6
            rows.append(f"| `{name}` | {millions:.1f} | {size} | {row['verdict']} | {ratio} | {parts} |")
    table = _table("| network | million parameters | side in pixels | verdict | error / tolerance | not proved |", rows)
    return f"{figures['proved']} of {figures['of']} are exported, proved and run.\n\n{table}"


def _robustness() -> str:
    return (
        f"Accuracy on the first {_figures('robustness')['images']:,} test images, corrupted, by kind and severity; the "
        "network is given them as they are. `python -m benchmarks.robustness` measures it."
    )


def _conditions() -> str:
    rows = []
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        if "conditions" in (figures := json.loads(path.read_text())):
            has = figures["conditions"]
            versions = ", ".join(f"{name} {version}" for name, version in has["versions"].items() if name != "click")
            where = f"{has['processor']}, {has['cores']} cores | {has['gpu'] or 'none'}"
            rows.append(f"| `{path.name}` | {has['date']} | {where} | {versions} |")
    return _table("| file | date | processor | GPU | versions |", rows)


def _figures(name: str) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    return figures


GENERATORS: dict[str, Callable[[], str]] = {
    "cli": _cli,
    "conditions": _conditions,
    "container": _container,
    "errors": _errors,
    "index_entry": _index_entry,
    "input_contract": _input_contract,
    "json_examples": _json_examples,
    "int8": _int8,
    "int8_torchvision": _int8_torchvision,
    "metadata": _metadata,
    "mutation": _mutation,
    "other_tools": _other_tools,
    "photo_contract": _photo_contract,
    "recipe_fields": _recipe_fields,
    "results": _results,
    "robustness": _robustness,
    "speed": speed_table,
    "tolerance": _tolerance,
    "torchvision": _torchvision,
}


def main() -> None:
    """Write the pages and build the site."""
    write_pages(SOURCE)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    done = subprocess.run(command, cwd=ROOT, check=False)
    if done.returncode:
        raise SystemExit(f"the site was not built: see above, and {SOURCE}")
    print(f"{ROOT / 'build' / 'site' / 'index.html'}")


if __name__ == "__main__":
    main()
