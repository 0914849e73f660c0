"""An onnxruntime session on the device that was asked for, proved from the session's own record of its nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from runtime.device import CPU, Device, cuda_problem, parse_device
from runtime.errors import DeviceUnavailable, ModelInvalid
from runtime.threads import available_cpus

_PROVIDERS = {"CPUExecutionProvider": "cpu", "CUDAExecutionProvider": "cuda"}


@dataclass(frozen=True)
class OpenSession:
    """A session and where it really runs.

    Attributes:
        session: the `onnxruntime.InferenceSession`.
        device: where every compute node is.
        placement: number of nodes by execution provider, as the session recorded them.
        reason: why `auto` did not choose CUDA; None otherwise.
    """

    session: Any
    device: Device
    placement: dict[str, int]
    reason: str | None


def open_session(model: bytes, device: str = "auto", *, threads: int | None = None, what: str = "model") -> OpenSession:
    """Open a session on `auto`, `cpu`, `cuda` or `cuda:N`.

    Args:
        model: the file's bytes.
        device: a device by name is a promise; `auto` takes CUDA where the whole model runs there, else the CPU.
        threads: CPU threads; by default all that affinity and the container's quota allow.
        what: what the model is called in errors.

    Raises:
        UsageError: no such device.
        DeviceUnavailable: the device asked for cannot run every node; the sentence names the cause.
        ModelInvalid: onnxruntime does not take the file.
    """
    asked = parse_device(device)
    if asked == CPU:
        return _open(model, CPU, threads, what)
    wanted = asked or Device("cuda")
    try:
        if problem := cuda_problem(wanted.index):
            raise DeviceUnavailable(f"{what} cannot run on {wanted}: {problem}", cause=problem.partition(": ")[0])
        return _open(model, wanted, threads, what)
    except DeviceUnavailable as error:
        if asked is not None:
            raise
        opened = _open(model, CPU, threads, what)
        return OpenSession(opened.session, CPU, opened.placement, error.cause)


def _open(model: bytes, device: Device, threads: int | None, what: str) -> OpenSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or available_cpus()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what it logs as errors, it also raises; we pass that on in one sentence
    # Idle threads would spin for the next run, on cores that decoding, and the rest of the app, need. On two cores with
    # other work on them, sleeping made `lenet` 1.3x as fast at 256, 1.5x at 1, and `predict_batch` 1.6x.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.kind == "cuda":
        # TF32 would keep 10 bits of every product's mantissa: fast, and no longer the network that was verified.
        providers = [("CUDAExecutionProvider", {"device_id": device.index, "use_tf32": 0})]
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except Exception as error:  # onnxruntime's errors share no base class
        reason = " ".join(str(error).split())
        if device.kind == "cuda":
            raise DeviceUnavailable(f"{what} cannot run on {device}: {reason}") from error
        raise ModelInvalid(f"{what} is not a model that onnxruntime can open: {reason}") from error
    placement = _placement(session)
    strays = {provider: count for provider, count in placement.items() if _PROVIDERS.get(provider) != device.kind}
    if strays:
        raise DeviceUnavailable(
            f"{what} cannot run on {device}: onnxruntime put {sum(strays.values())} of {sum(placement.values())} nodes "
            f"on {', '.join(strays)}"
        )
    return OpenSession(session, device, placement, None)


def _placement(session: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
    return counts
