"""An onnxruntime session on the device that was asked for, proved from the session's own record of its nodes."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from runtime.device import CPU, Device, device_problem, parse_device
from runtime.errors import DeviceUnavailable, ModelInvalid
from runtime.threads import available_cpus
from runtime.tuning import Tuning

# Where each kind of device may have a node: TensorRT leaves to CUDA what it has no engine for, on the same GPU.
_PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider",),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider"),
}
UNBOUND = Tuning(graphs=False)
_DTYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(float16)": np.float16}


@dataclass(frozen=True)
class OpenSession:
    """A session and where it really runs.

    Attributes:
        session: the `onnxruntime.InferenceSession`.
        device: where every compute node is.
        placement: number of nodes by execution provider, as the session recorded them.
        reason: why `auto` did not choose CUDA; None otherwise.
        tuning: the settings it was opened with.
        notice: why it was opened without CUDA graphs although they were wanted; None otherwise.
    """

    session: Any
    device: Device
    placement: dict[str, int]
    reason: str | None
    tuning: Tuning = UNBOUND
    notice: str | None = None


def open_session(
    model: bytes,
    device: str = "auto",
    *,
    threads: int | None = None,
    what: str = "model",
    tf32: bool = False,
    graphs: bool = False,
    tuning: Tuning | None = None,
) -> OpenSession:
    """Open a session on `auto`, `cpu`, `cuda` or `cuda:N`, or `tensorrt`.

    Args:
        model: the file's bytes.
        device: a device by name is a promise; `auto` takes CUDA where the whole model runs there, else the CPU.
        threads: CPU threads; by default all that affinity and the container's quota allow.
        what: what the model is called in errors.
        tf32: on a GPU, multiply with 10 bits of mantissa: fast, and no longer the network that was verified.
        graphs: whether the caller will only run it on buffers that it has bound, as capturing CUDA graphs asks.
        tuning: settings that change the speed alone.

    Raises:
        UsageError: no such device.
        DeviceUnavailable: the device asked for cannot run every node; the sentence names the cause.
        ModelInvalid: onnxruntime takes the file on no device.
    """
    asked = parse_device(device)
    if asked == CPU:
        return _open(model, CPU, threads, what, tf32, tuning or Tuning())
    wanted = asked or Device("cuda")
    try:
        if problem := device_problem(wanted):
            raise DeviceUnavailable(f"{what} cannot run on {wanted}: {problem}", cause=problem.partition(": ")[0])
        from runtime.bound import capture_lock  # what only a GPU needs does not delay a start on the CPU

        tuning = tuning or Tuning()
        tuning = replace(tuning, graphs=graphs and tuning.graphs and wanted.kind == "cuda")
        with capture_lock:
            return _open_on_gpu(model, wanted, threads, what, tf32, tuning)
    except DeviceUnavailable as error:
        if asked is not None:
            raise
        return replace(_open(model, CPU, threads, what, tf32, tuning or Tuning()), reason=error.cause)


def _open_on_gpu(
    model: bytes, device: Device, threads: int | None, what: str, tf32: bool, tuning: Tuning
) -> OpenSession:
    """Open, and run once: a provider that loads may still lack a library or a kernel. Without graphs, if need be."""
    try:
        opened = _open(model, device, threads, what, tf32, tuning)
        if not tf32 and opened.session.get_modelmeta().custom_metadata_map.get("dtype") == '"fp16"':
            # With TF32 off, onnxruntime also keeps float16 convolutions from tensor cores.
            opened = _open(model, device, threads, what, True, tuning)
        _run_once(opened.session, device, what)
        return opened
    except DeviceUnavailable as error:
        _open(model, CPU, threads, what, False, UNBOUND)  # a file that is no model is refused as such
        if not tuning.graphs:
            raise
        opened = _open(model, device, threads, what, tf32, replace(tuning, graphs=False))
        _run_once(opened.session, device, what)
        return replace(opened, notice=f"without CUDA graphs: {error.cause}")


def _open(model: bytes, device: Device, threads: int | None, what: str, tf32: bool, tuning: Tuning) -> OpenSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it logs as errors, it also raises; we pass that on in one sentence
    # By default idle threads would spin on after the run, on cores that decoding, and the rest of the app, need.
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(tuning.spin_us > 0)))
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(tuning.spin_us))
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    providers = _providers(device, tf32, tuning)
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's errors share no base class
        reason = " ".join(str(error).split())
        if device != CPU:
            raise DeviceUnavailable(f"{what} cannot run on {device}: {reason}", cause=reason) from error
        raise ModelInvalid(f"{what} is not a model that onnxruntime can open: {reason}") from error
    placement, strays = _placement(session, device)
    if strays:
        cause = f"onnxruntime put {len(strays)} of {sum(placement.values())} nodes elsewhere: {', '.join(strays[:5])}"
        raise DeviceUnavailable(f"{what} cannot run on {device}: {cause}", cause=cause)
    return OpenSession(session, device, placement, None, tuning)


def _providers(device: Device, tf32: bool, tuning: Tuning) -> list[Any]:
    """onnxruntime's providers and their options, the preferred one first."""
    cuda = {
        "device_id": device.index,
        "use_tf32": int(tf32),
        "cudnn_conv_algo_search": tuning.algorithms,
        "enable_cuda_graph": int(tuning.graphs),
        "prefer_nhwc": int(tuning.nhwc),
        # Doubling at each need would hold up to twice what the largest batch takes.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if device.kind == "cuda":
        return [("CUDAExecutionProvider", cuda)]
    if device.kind == "tensorrt":
        from runtime.bound import BUCKETS
        from runtime.storage import home

        if not tf32:
            # onnxruntime has no option for it. NVIDIA's libraries read this when they are first loaded.
            os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        cache = home() / "tensorrt"
        with contextlib.suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
        caches = os.access(cache, os.W_OK)  # in a read-only home every start builds its engines anew
        shapes = {"min": BUCKETS[0], "opt": 64, "max": BUCKETS[-1]}
        tensorrt = {
            "device_id": device.index,
            "trt_engine_cache_enable": caches,  # building an engine takes from seconds to minutes
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": caches,
            "trt_timing_cache_path": str(cache),
        } | {f"trt_profile_{name}_shapes": f"image:{batch}x1x28x28" for name, batch in shapes.items()}
        return [("TensorrtExecutionProvider", tensorrt), ("CUDAExecutionProvider", cuda | {"enable_cuda_graph": 0})]
    return ["CPUExecutionProvider"]


def _run_once(session: Any, device: Device, what: str) -> None:
    """Run one black picture, uncaptured, or whatever else the model takes: proof that the device really computes."""
    import onnxruntime

    from runtime.bound import GRAPH_ID, NO_GRAPH

    feed = {}
    for argument in session.get_inputs():
        if argument.type not in _DTYPES:
            return
        shape = [size if isinstance(size, int) else 1 for size in argument.shape]
        feed[argument.name] = np.zeros(shape, _DTYPES[argument.type])
    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    options.add_run_config_entry(GRAPH_ID, NO_GRAPH)
    try:
        session.run(None, feed, options)
    except Exception as error:  # onnxruntime's errors share no base class
        reason = " ".join(str(error).split())
        raise DeviceUnavailable(
            f"{what} cannot run on {device}: its first run failed: {reason}", cause=reason
        ) from error


def _placement(session: Any, device: Device) -> tuple[dict[str, int], list[str]]:
    """Number of nodes by provider, and those that are not on the device, each as operator, name and provider."""
    counts: dict[str, int] = {}
    strays = []
    for part in session.get_provider_graph_assignment_info():
        nodes = part.get_nodes()
        counts[part.ep_name] = counts.get(part.ep_name, 0) + len(nodes)
        if part.ep_name not in _PROVIDERS[device.kind]:
            strays += [f"{node.op_type} {node.name!r} ({part.ep_name})" for node in nodes]
    return counts, strays
