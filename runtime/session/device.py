"""What this machine offers: CPU threads, and why it can or cannot run a model on CUDA."""

import contextlib
import ctypes
import io
import math
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath

from runtime.errors import DeviceUnavailable, UsageError, install_line, quoted

CGROUP = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")
# What onnxruntime's CUDA provider is linked to, and the two parts of cuDNN 9 that every convolution opens: without
# libcudnn_graph the process aborts, without libcudnn_ops the run fails. The provider itself loads without cuDNN.
LINKED_LIBRARIES = (
    "libcudart.so.{cuda}",
    "libcublasLt.so.{cuda}",
    "libcublas.so.{cuda}",
    "libcurand.so.10",
    "libcudnn.so.9",
    "libcudnn_graph.so.9",
    "libcudnn_ops.so.9",
)
# Parts of cuDNN 9 that some installations lack and some networks need; loaded where they are there.
OPTIONAL_LIBRARIES = (
    "libcudnn_cnn.so.9",
    "libcudnn_heuristic.so.9",
    "libcudnn_engines_precompiled.so.9",
    "libcudnn_engines_runtime_compiled.so.9",
)
# What its TensorRT provider is linked to besides.
TENSORRT_LIBRARIES = ("libnvinfer.so.10", "libnvonnxparser.so.10")
KINDS = ("cuda", "tensorrt")
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Device:
    """A device by kind and index; `str()` gives what a user types."""

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return self.kind if self.kind == "cpu" else f"{self.kind}:{self.index}"


CPU = Device("cpu")


def parse_device(name: str) -> Device | None:
    """Return the device that `cpu`, `cuda`, `cuda:N`, `tensorrt` or `tensorrt:N` names, or None for `auto`.

    Raises:
        UsageError: not one of these. DeviceUnavailable: an Apple GPU.
    """
    if name == "auto":
        return None
    kind, _, index = name.partition(":") if isinstance(name, str) else ("", "", "")
    if kind == "mps":
        raise DeviceUnavailable(f"--device {name}: Apple's GPUs are not supported; use cpu")
    if name == "cpu" or (kind in KINDS and (index == "" or index.isdecimal()) and not name.endswith(":")):
        return Device(kind, int(index or 0))
    raise UsageError(f"{quoted(name)} is no device; use auto, cpu, cuda or cuda:N, or tensorrt where it is installed")


def installed_onnxruntimes() -> list[str]:
    """Return the onnxruntime distributions installed here; more than one overwrite each other's files."""
    import importlib.metadata  # takes longer than a prediction, and is needed only where something is wrong

    found = []
    for name in _DISTRIBUTIONS:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{name} {importlib.metadata.version(name)}")
    return found


def device_problem(device: Device) -> str | None:
    """Return why a device cannot be used, as `cause: remedy`, or None if nothing stands in the way."""
    if device.kind == "cpu":
        return None
    problem = cuda_problem(device.index)
    return tensorrt_problem() if problem is None and device.kind == "tensorrt" else problem


def tensorrt_problem() -> str | None:
    """Return what TensorRT lacks on a machine where CUDA works, as `cause: remedy`, or None."""
    import onnxruntime

    if "TensorrtExecutionProvider" not in onnxruntime.get_available_providers():
        return "the installed onnxruntime is built without TensorRT: install onnxruntime-gpu, or use --device cuda"
    if os.name == "nt":
        return None  # the session itself is the proof, as for CUDA
    with contextlib.suppress(ImportError):
        import_module("tensorrt")  # NVIDIA's package loads its libraries from where pip has put them
    if missing := [name for name in TENSORRT_LIBRARIES if not loads(name)]:
        return f"{', '.join(missing)} cannot be loaded: pip install 'tensorrt-cu13<11', or use --device cuda"
    return None


def cuda_problem(index: int = 0) -> str | None:
    """Return why CUDA device `index` cannot be used, as `cause: remedy`, or None if nothing stands in the way.

    Preloads NVIDIA's libraries, quietly, from PyTorch's or NVIDIA's packages or the system.
    """
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        installed = installed_onnxruntimes()
        if len(installed) > 1:
            return (
                f"{' and '.join(installed)} are both installed and share one folder, in which the CPU one was written "
                "last: uninstall both, then install onnxruntime-gpu alone"
            )
        return f"the installed {' '.join(installed) or 'onnxruntime'} is built without CUDA: install onnxruntime-gpu"
    if os.name == "nt":
        preload()
        return None  # Windows has no soname to look for: the session itself is the proof
    if problem := _driver_problem(index):
        return problem
    preload()
    major = str(getattr(onnxruntime, "cuda_version", "") or "13").split(".")[0]
    missing = [name for name in (template.format(cuda=major) for template in LINKED_LIBRARIES) if not loads(name)]
    for name in OPTIONAL_LIBRARIES:
        loads(name)
    if missing:
        return (
            f"{', '.join(missing)} cannot be loaded, which onnxruntime {onnxruntime.__version__} (CUDA {major}) needs: "
            f"{install_line('cuda')}, or install CUDA and cuDNN and put them on the loader's path"
        )
    return None


def _driver_problem(index: int) -> str | None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver (libcuda.so.1 cannot be loaded): install the driver, or use --device cpu"
    if status := driver.cuInit(0):
        return f"the NVIDIA driver finds no usable GPU (cuInit returned {status}): check nvidia-smi and container flags"
    count = ctypes.c_int()
    if status := driver.cuDeviceGetCount(ctypes.byref(count)):
        return f"the NVIDIA driver does not list its GPUs (cuDeviceGetCount returned {status})"
    if index >= count.value:
        return f"this machine shows {count.value} GPU(s), counted from 0 (CUDA_VISIBLE_DEVICES may hide some)"
    return None


def preload() -> None:
    """Load NVIDIA's libraries from NVIDIA's packages or the system, quietly, as far as they are there."""
    import onnxruntime

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its failures, and goes on; we look for ourselves
        onnxruntime.preload_dlls()


def loads(library: str) -> bool:
    """Load a library by its file name, and tell whether that worked.

    Asked in this order: the loader; NVIDIA's packages in every folder of `sys.path` (onnxruntime asks for those beside
    itself only, which is not where `pip --target` puts them); the folder that cuDNN was loaded from.
    """
    folders = [folder for entry in sys.path if entry for folder in Path(entry).glob("nvidia/*/lib")]
    if cudnn := mapped_libraries().get("libcudnn"):
        folders.append(Path(cudnn).parent)
    for candidate in (library, *(str(folder / library) for folder in folders)):
        with contextlib.suppress(OSError):
            ctypes.CDLL(candidate)
            return True
    return False


def mapped_libraries() -> dict[str, str]:
    """Return the paths of the libraries in this process's memory, by name up to `.so`: links have other endings."""
    mapped = {}
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/maps").read_text().splitlines():
            path = "/" + line.partition("/")[2]
            if ".so" in path:
                mapped[Path(path).name.partition(".so")[0]] = path
    return mapped


def available_cpus() -> int:
    """Return the processors this process may run on: its affinity, cut to the container's CPU quota; at least 1."""
    allowed = _affinity()
    quota = cpu_quota()
    return max(1, min(allowed, math.ceil(quota) if quota else allowed))


def explain_threads() -> str:
    """Return in words why `available_cpus` is what it is."""
    reasons = [f"the machine has {os.cpu_count() or 1} processors", f"this process may run on {_affinity()}"]
    if quota := cpu_quota():
        reasons.append(f"its control group grants the time of {quota:g}")
    return ", ".join(reasons)


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_quota(root: Path = CGROUP, own: Path = OWN_CGROUP) -> float | None:
    """Return the CPUs that the control group (version 2) may use (`docker --cpus`), or None where nothing limits it.

    A group is held to its parents' quotas too, so the smallest on the way up counts. Within a container, the path in
    `/proc/self/cgroup` may be the host's, and then only the mounted root is there to be read: it is the container's.
    """
    try:
        lines = own.read_text().splitlines()
    except (OSError, ValueError):
        lines = []
    groups = [PurePosixPath(line.removeprefix("0::").lstrip("/")) for line in lines if line.startswith("0::")]
    inside = [group for group in groups if ".." not in group.parts]  # the others are outside of this namespace
    folders = [root / folder for group in inside for folder in (group, *group.parents)]
    return min(filter(None, map(_quota, [*folders, root])), default=None)


def _quota(folder: Path) -> float | None:
    try:  # "<microseconds or max> <period>"
        limit, period = (folder / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
