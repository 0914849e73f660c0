"""A static folder that predicts inside the browser: the page, the model, and onnxruntime-web; nothing from outside.

    index.html, page.js, ...   the page of `runtime serve`, with another predictor behind it
    predictor.js, model.js     that predictor: the model of this folder, run by onnxruntime-web
    decoding.js, images.js     any picture -> what a garment network takes, as `runtime.imaging.preprocess` does it
    photo.js                   any picture -> what another network takes, as `runtime.imaging.photo` does it
    model.onnx, model.json     the model, and what its metadata says, for JavaScript
    golden.json, parity.html   the network's own answers, and a page that compares this browser's with them
    onnxruntime/               onnxruntime-web, as npm installed it

onnxruntime-web is looked for as Node does: in `node_modules` of the current folder and of each folder above it, and at
last in the checkout that this package was imported from. It is never fetched.
"""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import runtime
from export.deploy import LayoutRefused
from export.deploy.folder import replace_folder, require_replaceable
from export.metadata import metadata_of
from runtime.errors import ModelNotFound
from runtime.evaluation import golden, parity
from runtime.model.registry import MODEL_FILE, StoredModel, repository_weights

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


def write_web(stored: StoredModel, folder: Path, start: Path | None = None) -> Path:
    """Write the static folder of a model, whole or not at all; an older one is replaced.

    Args:
        stored: the model; with its golden answers and verification report beside it, the folder carries them too.
        folder: where to write; it must not exist, be empty, or be such a folder to which nothing was added.
        start: where the search for onnxruntime-web begins; by default the current folder.

    Raises:
        LayoutRefused: onnxruntime-web is not there, or is another version; or something else is in `folder`.
        ModelInvalid: the model, or what is beside it, is damaged.
        OSError: nothing can be written.
    """
    engine = require_web(folder, start)
    content = stored.read()
    answers = _golden(stored)
    description = {
        "file": MODEL_FILE,
        "sha256": _sha256(content),
        "metadata": metadata_of(content, str(stored.path)).fields,
        "golden": None if answers is None else GOLDEN,
        KEY: ONNXRUNTIME_WEB,
    }
    files = _assets(_PAGE) | _assets(_BROWSER)
    files |= {name: (engine / source).read_bytes() for name, source in _ONNXRUNTIME.items()}
    files[MODEL_FILE] = content
    if answers is not None:
        files[GOLDEN] = _json(answers)
    replace_folder(folder, files, description, name=DESCRIPTION, key=KEY)
    return folder


def require_web(folder: Path, start: Path | None = None) -> Path:
    """Return the folder of onnxruntime-web, if `folder` may be written; raises what `write_web` does."""
    engine = find_onnxruntime_web(start or Path.cwd())
    require_replaceable(folder.absolute(), description=DESCRIPTION, key=KEY)
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


def _golden(stored: StoredModel) -> dict[str, Any] | None:
    """Return what a browser compares its answers with, or None for a file that travels alone.

    Raises:
        ModelInvalid: the golden answers or the report are damaged, or belong to another file.
    """
    folder = stored.path.parent
    try:
        tolerances = parity.read_tolerances(folder, _sha256(stored.read()))
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


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
