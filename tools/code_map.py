"""The map of the code in docs/architecture.md: each file with the first sentence of its docstring.

python -m tools.code_map        writes it
"""

import ast
from pathlib import Path

from runtime.storage import write_bytes

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "architecture.md"
PACKAGES = ("runtime", "export", "zoo", "tools")
BEGIN, END = "<!-- map: made by `python -m tools.code_map` -->\n", "<!-- end of map -->\n"
COLUMN = 30


def code_map() -> str:
    """Return the map as indented text: folders, then files, in alphabetical order."""
    lines: list[str] = []
    for package in PACKAGES:
        _add(ROOT / package, 0, lines)
    return "".join(f"    {line}\n" for line in lines)


def with_map(page: str) -> str:
    """Return the page with today's map between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + code_map() + END + after


def _add(folder: Path, depth: int, lines: list[str]) -> None:
    lines.append(_line(depth, folder.name + "/", folder / "__init__.py"))
    for path in sorted(folder.iterdir()):
        if path.is_dir() and (path / "__init__.py").exists():
            _add(path, depth + 1, lines)
    files = [path for path in sorted(folder.glob("*.py")) if not path.name.startswith("__")]
    lines += [_line(depth + 1, path.name, path) for path in files]


def _line(depth: int, name: str, source: Path) -> str:
    first = (ast.get_docstring(ast.parse(source.read_text())) or "").split("\n\n")[0]
    sentence = " ".join(first.split()).split(". ")[0].rstrip(".")
    return f"{'  ' * depth + name:<{COLUMN}} {sentence}"


if __name__ == "__main__":
    write_bytes(PAGE, with_map(PAGE.read_text()).encode())
