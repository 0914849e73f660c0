"""A static folder that predicts inside the browser: the page, the model, and onnxruntime-web; nothing from outside.

    index.html, page.js, ...   the page of `runtime serve`, with another predictor behind it
    predictor.js, model.js     that predictor: the model of this folder, run by onnxruntime-web
    decoding.js, images.js     any picture -> what a garment network takes, a part of `runtime.imaging.preprocess`
    photo.js                   any picture -> what another network takes, as `runtime.imaging.photo` does it
    model.onnx, model.json     the model, and what its metadata says, for JavaScript
    golden.json, parity.html   the network's own answers, and a page that compares this browser's with them
    onnxruntime/               onnxruntime-web, as npm installed it

onnxruntime-web is looked for as Node does: in `node_modules` of the current folder and of each folder above it, and at
last in the checkout that this package was imported from. It is never fetched.
"""

import base64
import contextlib
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import runtime
from export.deploy import LayoutRefused
from export.metadata import metadata_of
from runtime.errors import ModelNotFound
from runtime.evaluation import golden, parity
from runtime.model.registry import MODEL_FILE, StoredModel, repository_weights
from runtime.storage import new_folder_beside, sync_folder, write_synced
from runtime.strict_json import json_bytes

ONNXRUNTIME_WEB = "1.30.0"  # package.json pins the same, and a test compares them
_PACKAGE = Path("node_modules") / "onnxruntime-web"
_ONNXRUNTIME = {  # what the CPU engine consists of; .js, since older servers do not know .mjs for a script
    "onnxruntime/ort.js": "dist/ort.wasm.bundle.min.mjs",
    "onnxruntime/ort.wasm": "dist/ort-wasm-simd-threaded.wasm",
}
_PAGE = Path(runtime.__file__).parent / "serving" / "static"
_BROWSER = Path(__file__).parent / "browser"
DESCRIPTION = "model.json"
KEY = "onnxruntime_web"  # what no other model.json has
GOLDEN = "golden.json"
FILES = "files"  # of the description: every file of the folder


def write_web(stored: StoredModel, folder: Path, start: Path | None = None) -> Path:
    """Write the static folder of a model, whole or not at all; an older one is replaced.

    Args:
        stored: the model; with its golden answers and verification report beside it, the folder carries them too.
        folder: where to write: absent, empty, or a folder that this function wrote and to which nothing was added.
        start: where the search for onnxruntime-web begins; by default the current folder.

    Raises:
        LayoutRefused: onnxruntime-web is not there, or is another version; or something else is in `folder`.
        ModelInvalid: the model, or what is beside it, is damaged.
        OSError: nothing can be written.
    """
    engine = require_web(folder, start)
    content = stored.read()
    sha256 = hashlib.sha256(content).hexdigest()
    answers = _golden(stored.path.parent, sha256)
    description = {
        "file": MODEL_FILE,
        "sha256": sha256,
        "metadata": metadata_of(content, str(stored.path)).fields,
        "golden": None if answers is None else GOLDEN,
        KEY: ONNXRUNTIME_WEB,
    }
    files = _assets(_PAGE) | _assets(_BROWSER)
    files |= {name: (engine / source).read_bytes() for name, source in _ONNXRUNTIME.items()}
    files[MODEL_FILE] = content
    if answers is not None:
        files[GOLDEN] = json_bytes(answers)
    replace_folder(folder, files, description)
    return folder


def require_web(folder: Path, start: Path | None = None) -> Path:
    """Return the folder of onnxruntime-web, if `folder` may be written; raises what `write_web` does."""
    engine = find_onnxruntime_web(start or Path.cwd())
    _require_replaceable(folder.absolute())
    return engine


def find_onnxruntime_web(start: Path) -> Path:
    """Return the folder of the installed npm package.

    Raises:
        LayoutRefused: there is none from `start` upwards or in the checkout, or it is not the version that was tested.
    """
    repository = repository_weights()
    places = [start.resolve(), *start.resolve().parents, *([repository.parent] if repository else [])]
    package = next((place / _PACKAGE for place in places if (place / _PACKAGE / "package.json").is_file()), None)
    install = f"`npm install --ignore-scripts onnxruntime-web@{ONNXRUNTIME_WEB}` here (or `npm ci` in the checkout)"
    if package is None:
        raise LayoutRefused(
            f"the web layout needs onnxruntime-web, and no node_modules from {start.resolve()} upwards has it: run "
            f"{install}"
        )
    try:
        version = json.loads((package / "package.json").read_bytes())["version"]
    except (ValueError, KeyError, TypeError) as error:
        raise LayoutRefused(f"{package} is damaged: its package.json names no version; run {install}") from error
    if version != ONNXRUNTIME_WEB:
        raise LayoutRefused(f"{package} is version {version}, and {ONNXRUNTIME_WEB} is the one tested: run {install}")
    missing = [source for source in _ONNXRUNTIME.values() if not (package / source).is_file()]
    if missing:
        raise LayoutRefused(f"{package} is damaged: it lacks {', '.join(missing)}; run {install}")
    return package


def _assets(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder by their path in it."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def _golden(folder: Path, sha256: str) -> dict[str, Any] | None:
    """Return what a browser compares its answers with, or None for a file that travels alone."""
    try:
        tolerances = parity.read_tolerances(folder, sha256)
        _, pixels = golden.read_tensor(folder / parity.INPUT_FILE)
        answers = {name: golden.read_tensor(folder / file)[1] for name, file in parity.OUTPUT_FILES.items()}
    except ModelNotFound:
        return None
    return {
        "pixels": _base64(pixels.tobytes()),
        "outputs": {
            name: {"values": _base64(values.astype("<f4").tobytes()), "tolerance": tolerances[name]}
            for name, values in answers.items()
        },
    }


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def replace_folder(folder: Path, files: dict[str, bytes], description: dict[str, Any]) -> None:
    """Write a folder under another name and swap it in; an interruption leaves the old one.

    `files` are contents by relative path; what `model.json` says is `description` with the list of these.

    Raises:
        LayoutRefused: something else is there.
        OSError: nothing can be written; what was there is as it was.
    """
    folder = folder.absolute()
    files = files | {DESCRIPTION: json_bytes(description | {FILES: sorted([*files, DESCRIPTION])})}
    work = new_folder_beside(folder)
    try:
        new, old = work / "new", work / "old"
        new.mkdir()
        for path, content in files.items():
            write_synced(new / path, content)
        _require_replaceable(folder)  # only now, since writing takes time
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


def _require_replaceable(folder: Path) -> None:
    """Refuse a `folder` that is not absent, nor empty, nor just as `replace_folder` wrote it.

    Only a folder whose every file is listed in its description may be replaced: what anybody added to it, a `.git` or a
    `CNAME`, would be lost.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise LayoutRefused(f"{folder} is not a folder of its own; name another with -o")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    listed = _listed(folder / DESCRIPTION)
    foreign = next((entry for entry in _entries(folder) if entry not in listed), None)
    if foreign is not None:
        raise LayoutRefused(
            f"{folder} holds other files, which would be lost, {foreign} among them; name a new or empty folder with -o"
        )


def _listed(path: Path) -> set[str]:
    """Return the paths that a description lists; none where it is not one of ours."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return set()
    files = found.get(FILES) if isinstance(found, dict) and KEY in found else None
    return {name for name in files if isinstance(name, str)} if isinstance(files, list) else set()


def _entries(folder: Path) -> list[str]:
    """Return everything below a folder that is no folder, and every empty folder, by relative path; follows no link."""

    def unreadable(error: OSError) -> None:
        raise error

    found = []
    for parent, folders, files in os.walk(folder, onerror=unreadable):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        leaves = [*files, *links] or ([] if folders else [""])
        found += [(Path(parent) / name).relative_to(folder).as_posix() for name in leaves]
    return sorted(found)
