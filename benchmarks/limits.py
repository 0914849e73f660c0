"""The best FLOP/s and bytes/s of a device, measured with PyTorch by matrix products and copies. Prints JSON.

python benchmarks/limits.py cpu|cuda
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

PRECISIONS = {"cpu": ("fp32",), "cuda": ("fp32", "tf32", "fp16")}


def seconds(call: Callable[[], Any], device: str) -> float:
    """Return the seconds of a call, the best of five runs of three calls each."""
    best = float("inf")
    call()
    for _ in range(5):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(3):
            call()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, (time.perf_counter() - started) / 3)
    return best


def measure(device: str) -> dict[str, Any]:
    """Return FLOP/s of a matrix product by precision, and bytes/s of a copy, read and written."""
    size, floats = (8192, 2**29) if device == "cuda" else (1024, 2**25)
    rates = {}
    for precision in PRECISIONS[device]:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        dtype = torch.float16 if precision == "fp16" else torch.float32
        a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
        out = torch.empty_like(a)
        rates[precision] = 2 * size**3 / seconds(lambda a=a, b=b, out=out: torch.mm(a, b, out=out), device)
    source = torch.ones(floats, device=device)
    target = torch.empty_like(source)
    bandwidth = 2 * source.numel() * 4 / seconds(lambda: target.copy_(source), device)
    return {"flop_per_second": rates, "bytes_per_second": bandwidth, "matrix_side": size, "copied_bytes": 4 * floats}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
