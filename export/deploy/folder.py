"""A folder of files that is there whole or not at all, and that is replaced only while it holds nothing else.

One of its files, the description, is a JSON object that lists them all under `files`. Only a folder whose every file is
in that list may be replaced: what anybody added to it, a `.git` or a `CNAME`, would be lost.
"""

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from export.deploy import LayoutRefused
from runtime.storage import new_folder_beside, sync_folder, write_synced

FILES = "files"


def require_replaceable(folder: Path, *, description: str, key: str) -> None:
    """Refuse a `folder` that is not absent, nor empty, nor just as `replace_folder` wrote it.

    Args:
        folder: the place.
        description: the JSON file by which such a folder is recognised.
        key: what the description of this kind of folder has beside the list, and others have not.

    Raises:
        LayoutRefused: something else is there.
        OSError: what is there cannot be read.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise LayoutRefused(f"{folder} is not a folder of its own; name another with -o")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    listed = _listed(folder / description, key)
    foreign = next((entry for entry in _entries(folder) if entry not in listed), None)
    if foreign is not None:
        raise LayoutRefused(
            f"{folder} holds other files, which would be lost, {foreign} among them; name a new or empty folder with -o"
        )


def replace_folder(folder: Path, files: dict[str, bytes], description: dict[str, Any], *, name: str, key: str) -> None:
    """Write a folder under another name and swap it in; an interruption leaves the old one.

    Args:
        folder: its place; see `require_replaceable` for what may be there.
        files: contents by relative path.
        description: what the file `name` says, `key` among it; the list of files is added here.

    Raises:
        LayoutRefused: something else is there.
        OSError: nothing can be written; what was there is as it was.
    """
    folder = folder.absolute()
    document = description | {FILES: sorted([*files, name])}
    files = files | {name: (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()}
    require_replaceable(folder, description=name, key=key)
    work = new_folder_beside(folder)
    try:
        new, old = work / "new", work / "old"
        new.mkdir()
        for path, content in files.items():
            write_synced(new / path, content)
        require_replaceable(folder, description=name, key=key)  # again: writing takes time
        try:
            with contextlib.suppress(FileNotFoundError):
                folder.rename(old)
            new.rename(folder)
        except BaseException:
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _listed(path: Path, key: str) -> set[str]:
    """Return the paths that a description lists; none where it is not one of ours."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return set()
    files = found.get(FILES) if isinstance(found, dict) and key in found else None
    return {name for name in files if isinstance(name, str)} if isinstance(files, list) else set()


def _entries(folder: Path) -> list[str]:
    """Return everything below a folder that is no folder, and every empty folder, by relative path; follows no link.

    Raises:
        OSError: a folder cannot be read, so that nobody knows what it holds.
    """

    def unreadable(error: OSError) -> None:
        raise error

    found = []
    for parent, folders, files in os.walk(folder, onerror=unreadable):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        leaves = [*files, *links] or ([] if folders else [""])
        found += [(Path(parent) / name).relative_to(folder).as_posix() for name in leaves]
    return sorted(found)
