"""A model repository for NVIDIA Triton Inference Server, which KServe serves as well.

    <folder>/<model>/
      config.pbtxt       inputs, outputs, batching, instances, warm-up
      labels.txt         one a line: a client that asks for classes (`class_count`) gets names
      <version>/model.onnx

The rules are those of Triton's "Model Configuration" and "Model Repository" guides and of `model_config.proto`. A model
is exported as version 1; another file under the same name becomes the next version, which Triton then serves, and
removing that folder goes back. `config.pbtxt` is written once: from then on it is the operator's to tune.
"""

import contextlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from export.deploy import LayoutRefused
from export.metadata import metadata_of
from runtime.model.metadata import PROBABILITIES, TensorSpec, input_specs, output_specs
from runtime.model.registry import MODEL_FILE, StoredModel
from runtime.model.spec import InputSpec
from runtime.storage import new_folder_beside, sync_folder, write_bytes, write_synced

CONFIG = "config.pbtxt"
LABELS = "labels.txt"
PREFERRED = (16, 64, 256)  # what the batcher waits for; also warmed up, since a GPU prepares kernels by size
MAX_DELAY_US = 500  # how long it waits
_TYPES = {"UINT8": "TYPE_UINT8", "FP32": "TYPE_FP32"}


@dataclass(frozen=True)
class Version:
    """What was written: the folder of the model's version; `new` is False where that very file was there already."""

    folder: Path
    number: int
    new: bool


def write_triton(stored: StoredModel, repository: Path) -> Version:
    """Add a model, or a new version of it, to a model repository.

    Raises:
        LayoutRefused: the folder of the model's name is something else.
        ModelInvalid: the model is damaged.
        OSError: nothing can be written.
    """
    content = stored.read()
    metadata = metadata_of(content, str(stored.path))
    folder = repository / metadata.model
    require_model_folder(folder)
    labels = "".join(f"{label}\n" for label in metadata.labels).encode()
    if (folder / LABELS).is_file() and (folder / LABELS).read_bytes() != labels:
        raise LayoutRefused(
            f"{folder} serves a model with other labels, and a model's versions share theirs; export to another model "
            "repository with -o"
        )
    # The config comes last: an interruption leaves what the next export completes, never a config without the rest.
    version = _add_version(folder, content)
    if not (folder / LABELS).exists():
        write_bytes(folder / LABELS, labels)
    if not (folder / CONFIG).exists():
        write_bytes(folder / CONFIG, config(metadata.model, metadata.input, len(metadata.labels)).encode())
    return version


def require_model_folder(folder: Path) -> None:
    """Refuse a `folder` that is neither absent, nor empty, nor a model of a repository, be it a half-written one.

    Raises:
        LayoutRefused: something else is there.
    """
    if not folder.exists() or (folder / CONFIG).is_file():
        return
    if not folder.is_dir() or any(
        not (path.name == LABELS or path.name.startswith(".") or _is_version(path)) for path in folder.iterdir()
    ):
        raise LayoutRefused(f"{folder} holds other files and no {CONFIG}; name another model repository with -o")


def _is_version(path: Path) -> bool:
    return path.name.isdecimal() and path.is_dir()


def _add_version(folder: Path, content: bytes) -> Version:
    """Put the file in as the newest version, unless it is that already; Triton passes over folders without a number."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [int(path.name) for path in folder.iterdir() if _is_version(path)]
    newest = max(numbers, default=0)
    model = folder / str(newest) / MODEL_FILE
    if model.is_file() and model.read_bytes() == content:
        return Version(model.parent, newest, new=False)
    target = folder / str(newest + 1)
    work = new_folder_beside(target)
    try:
        write_synced(work / MODEL_FILE, content)
        work.rename(target)
        sync_folder(folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        with contextlib.suppress(OSError):
            folder.rmdir()  # if this was to be the first
        raise
    return Version(target, newest + 1, new=True)


def config(model: str, input: InputSpec, classes: int) -> str:
    """Return `config.pbtxt` of a model of K = `classes`: a `ModelConfig` in protobuf's text format."""
    largest = input.batch_size
    sizes = [*(size for size in PREFERRED if size < largest), largest]
    preferred = ", ".join(map(str, sizes))
    inputs = "".join(_tensor("input", spec) for spec in input_specs(input))
    outputs = "".join(_tensor("output", spec, labels=spec.name == PROBABILITIES) for spec in output_specs(classes))
    return f"""\
# With max_batch_size above 0, Triton puts the batch dimension in front of every dims below.
name: {json.dumps(model, ensure_ascii=False)}
backend: "onnxruntime"
max_batch_size: {largest}
{inputs}{outputs}
# Requests that come within the delay are answered as one batch.
dynamic_batching {{
  preferred_batch_size: [ {preferred} ]
  max_queue_delay_microseconds: {MAX_DELAY_US}
}}

# One instance on each GPU; on the CPU where there is none.
instance_group [ {{ kind: KIND_AUTO, count: 1 }} ]

# The newest version is served. A new one is loaded beside the old one, which answers until then.
version_policy {{ latest {{ num_versions: 1 }} }}

# Ready means warm: every batch size that the batcher prefers has been run once.
{"".join(_warm_up(input, size) for size in sorted({1, *sizes}))}"""


def _tensor(kind: str, spec: TensorSpec, *, labels: bool = False) -> str:
    dims = ", ".join(str(size) for size in spec.shape[1:])  # the first is the batch
    fields = f'name: "{spec.name}", data_type: {_TYPES[spec.datatype]}, dims: [ {dims} ]'
    if labels:
        fields += f', label_filename: "{LABELS}"'
    return f"{kind} [ {{ {fields} }} ]\n"


def _warm_up(input: InputSpec, batch_size: int) -> str:
    (spec,) = input_specs(input)
    dims = ", ".join(str(size) for size in spec.shape[1:])
    return (
        f'model_warmup [ {{ name: "batch of {batch_size}", batch_size: {batch_size}, inputs {{ key: "{spec.name}", '
        f"value: {{ data_type: {_TYPES[spec.datatype]}, dims: [ {dims} ], zero_data: true }} }} }} ]\n"
    )
