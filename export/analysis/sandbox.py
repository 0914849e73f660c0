"""Ask protobuf, onnx's checker, its shape inference and onnxruntime about a file, in a child process.

All are C++ that a damaged file may crash, or feed until memory is gone. The child has limits of memory and time,
imports neither PyTorch nor this package, and tells before each stage which one it is, so that its end can be reported.
"""

import json
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.analysis.exported_program import Shape, merged

_PROGRAM = Path(__file__).with_name("sandbox_child.py")
_BASE_MEMORY = 900 << 20
_MEMORY_PER_BYTE = 8  # the file, parsed, serialised and parsed again by each of the three
_BASE_SECONDS = 10  # of processor time; a file of 6 MB takes two
_BYTES_PER_SECOND = 10 << 20
_PATIENCE = 30  # wall-clock seconds allowed per CPU second, for busy machines


@dataclass(frozen=True)
class Examination:
    """The libraries' answers.

    Attributes:
        unsafe: why the file must not be opened anywhere else: it is not self-contained, no ONNX, or crashed the child.
        problem: why the checker or strict inference refuses the file; None if they do not.
        shapes: by value name, what the graph computes, `batch` for the symbol; stored value_info is not believed.
        types: by value name, the element type that goes with it.
    """

    unsafe: str | None
    problem: str | None
    shapes: dict[str, Shape]
    types: dict[str, int]


def examine(content: bytes) -> Examination:
    """Ask in a child process, with limits on its memory and time; never raises for what the file does to it."""
    memory = _BASE_MEMORY + _MEMORY_PER_BYTE * len(content)
    seconds = _BASE_SECONDS + len(content) // _BYTES_PER_SECOND
    output, code = _ask(content, memory, seconds)
    if code is None:  # it neither worked nor died: what it waited for was not the file
        output, code = _ask(content, memory, seconds)
    lines = output.decode(errors="replace").splitlines()
    if code == 0 and lines and lines[-1].startswith("{"):
        return read_answer(json.loads(lines[-1]))
    stage = lines[-1] if lines else "starting"
    return Examination(f"the file is not safe to open: {stage} {_death(code, seconds, memory)}", None, {}, {})


def _ask(content: bytes, memory: int, seconds: int) -> tuple[bytes, int | None]:
    """Return what the child wrote and its exit code, None if it had to be ended."""
    # -P: the folder of the program holds modules of ours, whose names may be those of libraries.
    command = [sys.executable, "-P", str(_PROGRAM), str(memory), str(seconds)]
    pipes: dict[str, Any] = {"input": content, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    try:
        done = subprocess.run(command, **pipes, timeout=seconds * _PATIENCE, check=False)
    except subprocess.TimeoutExpired as late:
        return late.output or b"", None
    return done.stdout, done.returncode


def read_answer(answer: dict[str, Any]) -> Examination:
    """Turn the answer of `export.analysis.sandbox_child.examine` into an `Examination`."""
    shapes = {name: merged(tuple(one), tuple(other)) for name, (_, one, other) in answer["values"].items()}
    types = {name: kind for name, (kind, _, _) in answer["values"].items()}
    return Examination(answer["refusal"], answer["problem"], shapes, types)


def _death(code: int | None, seconds: int, memory: int) -> str:
    if code is None:
        return f"was not done after {seconds * _PATIENCE} s"
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return f"took more than {seconds} s of processor time, or all memory"
    if code >= 0:
        return f"needs more than {memory >> 20:,} MiB of memory" if code == 3 else f"ended with exit code {code}"
    return f"crashed with {signal.Signals(-code).name}"
