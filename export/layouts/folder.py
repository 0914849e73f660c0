"""A folder of files that is there whole or not at all."""

import contextlib
import shutil
import tempfile
from pathlib import Path

from export.layouts import LayoutRefused
from runtime.atomic import sync_folder, write_synced


def replace_folder(folder: Path, files: dict[str, bytes], *, known_by: str) -> None:
    """Write a folder under another name and swap it in; an interruption leaves the old one.

    Args:
        folder: its place; what is there is replaced if it is empty or has a file `known_by`, and refused otherwise.
        files: contents by relative path.
        known_by: the file by which a folder of the same kind is recognised.

    Raises:
        LayoutRefused: something else is there.
        OSError: nothing can be written; what was there is as it was.
    """
    folder = folder.absolute()
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise LayoutRefused(f"{folder} is not a folder of its own; name another with -o")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / known_by).is_file():
        raise LayoutRefused(f"{folder} holds other files, which would be lost; name a new or empty folder with -o")
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new, old = work / "new", work / "old"
        new.mkdir()
        for name, content in files.items():
            write_synced(new / name, content)
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
