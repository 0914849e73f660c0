"""The README's table of results, made from `weights/index.json` and the benchmark of accuracy over seeds.

python -m zoo.readme        rewrite the table
"""

import json
from pathlib import Path

from runtime.store import read_index

ROOT = Path(__file__).resolve().parents[1]
START, END = "<!-- results: made by `python -m zoo.readme` -->", "<!-- end of results -->"
# D2L's own networks on clean data, as its continuous integration printed them: median of all committed runs.
BOOK = {"lenet": 0.807, "alexnet": 0.880, "vgg11": 0.919, "nin": 0.844, "googlenet": 0.888, "resnet18": 0.913}


def results_table(root: Path = ROOT) -> str:
    """Return the table as Markdown."""
    rows = [
        "| model | parameters | MFLOP an image | file | test accuracy | over seeds | the book |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, entry in read_index(root / "weights").items():
        book = f"{BOOK[name]:.3f}" if name in BOOK else ""
        rows.append(
            f"| [`{name}`](weights/{name}/README.md) | {entry['parameters']:,} | {entry['flops'] / 1e6:,.1f} "
            f"| {entry['bytes'] / 1e6:.2f} MB | {entry['accuracy']['top1']:.4f} | {_over_seeds(root, name)} | {book} |"
        )
    return "\n".join(rows)


def _over_seeds(root: Path, name: str) -> str:
    path = root / "benchmarks" / "results" / f"accuracy_{name}_best.json"
    if not path.exists():
        return ""
    figures = json.loads(path.read_text())
    return f"{figures['mean']:.4f} ± {figures['standard_deviation']:.4f} (n = {len(figures['seeds'])})"


def with_table(text: str, root: Path = ROOT) -> str:
    """Return a README's text with its table renewed."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{results_table(root)}\n{END}{after}"


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text()))
