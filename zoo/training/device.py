"""Choose the device that PyTorch trains on: the one that was named, or an error; `auto` takes a GPU if it can."""

import os

import torch

from runtime.errors import DeviceUnavailable, UsageError


def choose_device(name: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        UsageError: not one of these.
        DeviceUnavailable: CUDA was asked for and PyTorch cannot use it, or an Apple GPU; the sentence says why.
    """
    if name == "auto":
        return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind == "mps":
        raise DeviceUnavailable(f"--device {name}: Apple's GPUs are not supported; use --device cpu")
    if kind != "cuda" or (index and not index.isdecimal()):
        raise UsageError(f"{name!r} is no device; use auto, cpu, cuda or cuda:N")
    if torch.version.cuda is None:
        raise DeviceUnavailable(f"--device {name}: this PyTorch ({torch.__version__}) is built without CUDA")
    if not torch.cuda.is_available():
        raise DeviceUnavailable(
            f"--device {name}: PyTorch {torch.__version__} finds no usable GPU (no NVIDIA driver, no visible device, "
            f"or a driver older than CUDA {torch.version.cuda}); check `nvidia-smi`, or train with --device cpu"
        )
    if index and int(index) >= torch.cuda.device_count():
        raise DeviceUnavailable(f"--device {name}: this machine has {torch.cuda.device_count()} GPU(s), counted from 0")
    return torch.device("cuda", int(index or 0))


# The values of ONEDNN_MAX_CPU_ISA under which oneDNN has no instructions for bfloat16.
_ISA_WITHOUT_BF16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")


def computes_bf16() -> bool:
    """Return whether this CPU multiplies in bfloat16 (AVX512_BF16 or AMX), and PyTorch and oneDNN may use it."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    if limit.upper() in _ISA_WITHOUT_BF16:
        return False
    if not torch.backends.cpu.get_cpu_capability().startswith(("AVX512", "AVX10")):  # heeds ATEN_CPU_CAPABILITY
        return False
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def configure_backends(device: torch.device) -> None:
    """Make results on CUDA reproducible, and compute float32 in float32, not TF32, which is cuDNN's default.

    Call it before the first matrix product: cuBLAS reads its environment variable once.
    """
    if device.type != "cuda":
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def describe(device: torch.device) -> str:
    """Return the name of the hardware, for logs and provenance."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (cuda:{device.index})"
    return f"cpu, {torch.get_num_threads()} threads"
