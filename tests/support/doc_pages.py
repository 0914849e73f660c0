"""The README and the pages of docs/, and the blocks of code in them."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"(?:<!-- not run: (?P<reason>[^\n]+) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code; `reason` says why it is not run, and `output` is the block of text right behind it."""

    language: str
    text: str
    reason: str | None
    output: str | None


def pages() -> list[str]:
    """Their paths in the repository: the README first, then in the order of the site."""

    def files(entries: list[dict[str, Any]]) -> list[str]:
        found: list[str] = []
        for value in (value for entry in entries for value in entry.values()):
            found += [f"docs/{value}"] if isinstance(value, str) else files(value)
        return found

    return ["README.md", *files(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"])]


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page."""
    text = (ROOT / page).read_text("utf-8")
    found = []
    for match in BLOCK.finditer(text):
        follows = BLOCK.match(text, match.end() + 2)
        output = follows["text"] if follows and follows["language"] == "text" else None
        found.append(Block(match["language"], match["text"], match["reason"], output))
    return found
