"""List the NVIDIA GPUs that this process may use, through the driver alone.

The order is CUDA's own, after CUDA_VISIBLE_DEVICES, so that GPU number N is what `--device cuda:N` means.
"""

import contextlib
import ctypes
import os
from dataclasses import dataclass
from typing import Any

DRIVER, MANAGEMENT = ("nvcuda.dll", "nvml.dll") if os.name == "nt" else ("libcuda.so.1", "libnvidia-ml.so.1")

_COMPUTE_CAPABILITY = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR


@dataclass(frozen=True)
class Gpu:
    """One GPU; `compute_capability` as NVIDIA writes it: "9.0"."""

    index: int
    name: str
    memory_bytes: int
    compute_capability: str


@dataclass(frozen=True)
class Driver:
    """NVIDIA's driver.

    Attributes:
        version: its own version, as in "580.82.07"; None where the management library does not tell.
        cuda: the newest CUDA it can serve: "13.0".
    """

    version: str | None
    cuda: str


def find_driver() -> Driver | None:
    """Return the driver of this machine, or None if there is none."""
    cuda = _load(DRIVER)
    if cuda is None:
        return None
    version = ctypes.c_int()
    cuda.cuDriverGetVersion(ctypes.byref(version))
    return Driver(_driver_version(), f"{version.value // 1000}.{version.value % 1000 // 10}")


def list_gpus() -> list[Gpu]:
    """Return the GPUs that CUDA shows this process; none where there is no driver, or where it refuses."""
    cuda = _load(DRIVER)
    count = ctypes.c_int()
    if cuda is None or cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
        return []
    return [_describe(cuda, index) for index in range(count.value)]


def memory_used(index: int) -> int | None:
    """Return the bytes in use on a GPU, by all processes, or None where the management library does not tell.

    It counts in its own order, so where CUDA_VISIBLE_DEVICES reorders the GPUs `index` may mean another.
    """
    management = _load(MANAGEMENT)
    if management is None or management.nvmlInit_v2():
        return None
    device, memory = ctypes.c_void_p(), (ctypes.c_ulonglong * 3)()  # total, free, used
    try:
        if management.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)):
            return None
        return None if management.nvmlDeviceGetMemoryInfo(device, memory) else int(memory[2])
    finally:
        management.nvmlShutdown()


def _describe(cuda: Any, index: int) -> Gpu:
    device, memory, value = ctypes.c_int(), ctypes.c_size_t(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetName(name, len(name), device)
    cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    capability = []
    for attribute in _COMPUTE_CAPABILITY:
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(str(value.value))
    return Gpu(index, name.value.decode(errors="replace"), memory.value, ".".join(capability))


def _driver_version() -> str | None:
    management = _load(MANAGEMENT)
    if management is None or management.nvmlInit_v2():
        return None
    version = ctypes.create_string_buffer(96)
    failed = management.nvmlSystemGetDriverVersion(version, len(version))
    management.nvmlShutdown()
    return None if failed else version.value.decode(errors="replace")


def _load(library: str) -> Any:
    with contextlib.suppress(OSError):
        return ctypes.CDLL(library)
    return None
