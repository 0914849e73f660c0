"""An onnxruntime session on the device that was asked for, proved from the session's own record of its nodes."""

import contextlib
import hashlib
import os
import threading
import weakref
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.errors import DeviceUnavailable, FashionZooError, ModelInvalid
from runtime.model.metadata import LOGITS
from runtime.model.registry import StoredModel, find_model
from runtime.model.spec import InputSpec
from runtime.session.device import CPU, Device, available_cpus, device_problem, parse_device

if TYPE_CHECKING:
    from runtime.session.cuda_graphs import BoundSession


@dataclass(frozen=True)
class Tuning:
    """Settings of one session; the defaults need no measuring.

    Attributes:
        algorithms: how cuDNN chooses a convolution (onnxruntime's `cudnn_conv_algo_search`): HEURISTIC asks cuDNN in
            mode A, which NVIDIA recommends, EXHAUSTIVE in mode B, and DEFAULT takes the fallback, which may be 50 times
            slower (github.com/microsoft/onnxruntime/issues/22705).
        graphs: whether batches are captured as CUDA graphs and replayed, which saves a launch for every node.
        nhwc: whether onnxruntime lays activations out with the channels last (`prefer_nhwc`), as tensor cores read.
        spin_us: microseconds for which an idle CPU thread spins for more work before it sleeps. 100 is longer than the
            pauses between the nodes of a run: on two idle cores `lenet` is 1.3x as fast as with 0. Where processes
            contend for the cores, 0 is faster, and `threads=1` for each fastest.
    """

    algorithms: str = "HEURISTIC"
    graphs: bool = True
    nhwc: bool = False
    spin_us: int = 100

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


ALGORITHMS = ("HEURISTIC", "EXHAUSTIVE", "DEFAULT")

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
    """A session and where it really runs."""

    session: Any  # an `onnxruntime.InferenceSession`
    device: Device  # where every compute node is
    placement: dict[str, int]  # number of nodes by execution provider, as the session recorded them
    reason: str | None  # why `auto` did not choose CUDA
    tuning: Tuning = UNBOUND
    notice: str | None = None  # why it was opened without CUDA graphs although they were wanted


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
        from runtime.session.cuda_graphs import capture_lock  # what only a GPU needs does not delay a start on the CPU

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
    # TensorRT builds its engines for shapes that it is told beforehand.
    inputs = _open(model, CPU, 1, what, False, UNBOUND).session.get_inputs() if device.kind == "tensorrt" else []
    providers = _providers(device, tf32, tuning, inputs)
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


def _providers(device: Device, tf32: bool, tuning: Tuning, inputs: Sequence[Any]) -> list[Any]:
    """onnxruntime's providers and their options, the preferred one first; inputs: the model's, for TensorRT alone."""
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
        from runtime.session.cuda_graphs import BUCKETS
        from runtime.storage import home

        if not tf32:
            # onnxruntime has no option for it. NVIDIA's libraries read this when they are first loaded.
            os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
        cache = home() / "tensorrt"
        with contextlib.suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)
        caches = os.access(cache, os.W_OK)  # in a read-only home every start builds its engines anew
        batches = {"min": BUCKETS[0], "opt": 64, "max": BUCKETS[-1]}
        batched = [argument for argument in inputs if argument.shape and isinstance(argument.shape[0], str)]
        profiles = {
            f"trt_profile_{name}_shapes": ",".join(
                f"{argument.name}:{'x'.join(map(str, (batch, *argument.shape[1:])))}" for argument in batched
            )
            for name, batch in batches.items()
            if batched
        }
        tensorrt = {
            "device_id": device.index,
            "trt_engine_cache_enable": caches,  # building an engine takes from seconds to minutes
            "trt_engine_cache_path": str(cache),
            "trt_timing_cache_enable": caches,
            "trt_timing_cache_path": str(cache),
        }
        return [
            ("TensorrtExecutionProvider", tensorrt | profiles),
            ("CUDAExecutionProvider", cuda | {"enable_cuda_graph": 0}),
        ]
    return ["CPUExecutionProvider"]


def _run_once(session: Any, device: Device, what: str) -> None:
    """Run one black picture, uncaptured, or whatever else the model takes: proof that the device really computes."""
    import onnxruntime

    from runtime.session.cuda_graphs import GRAPH_ID, NO_GRAPH

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


class ReopenableSession:
    """One model file, open. `session` is None in a forked child until `reopened` is called, and once closed.

    Attributes:
        session: the `onnxruntime.InferenceSession`; None where `bound` owns it.
        stored: the file; `bytes` and `sha256` are those of its content.
        device, placement, reason, tuning, notice: as in `runtime.session.session.OpenSession`.
        bound: what to run on a GPU in place of the session, once `bind` was called; None on the CPU.
        decoders: how many threads may decode pictures for it.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None,
        device: str,
        threads: int | None,
        tf32: bool = False,
        tuning: Tuning | None = None,
    ) -> None:
        self.stored: StoredModel = find_model(model)
        # What is read again later must not depend on the folder that the process is in by then.
        self._file = replace(self.stored, path=Path(os.path.abspath(self.stored.path)))
        content = self.stored.read()
        self.bytes, self.sha256 = len(content), hashlib.sha256(content).hexdigest()
        # A name stays a name, for each process to look up.
        by_path = model is not None and self.stored.origin == "path"
        self._model = str(self._file.path) if by_path else None if model is None else os.fspath(model)
        self._asked, self._threads, self._tf32, self._asked_tuning = device, threads, tf32, tuning
        what = str(self.stored.path)
        opened = open_session(content, device, threads=threads, what=what, tf32=tf32, graphs=True, tuning=tuning)
        self.session: Any = opened.session
        self.device: Device = opened.device
        self.placement, self.reason, self.tuning = opened.placement, opened.reason, opened.tuning
        self.notice = opened.notice
        self.bound: BoundSession | None = None
        self.decoders = available_cpus()
        self._closed = False
        _open_sessions.add(self)

    def bind(self, spec: InputSpec, classes: int) -> None:
        """On a GPU, set up `bound` for a model of this input and K = `classes`, which was found to keep the contract.

        Whether batches are replayed as CUDA graphs is decided here, by capturing and running one.

        Raises:
            DeviceUnavailable: the device runs the model neither with nor without graphs.
        """
        if self.device.kind == "cpu":
            return
        from runtime.session.cuda_graphs import BoundSession

        what = str(self.stored.path)
        self.bound = BoundSession(self.session, self.device, spec, classes, graphs=self.tuning.graphs, what=what)
        self.session = None  # `bound` owns it, and frees it when nothing is being captured
        if not self.tuning.graphs:
            return
        try:
            self.bound.run([LOGITS], spec.zeros(1), 1)
        except DeviceUnavailable as error:
            self.bound.close()  # the stream of a session whose capture failed stays unusable
            self.notice = f"without CUDA graphs: {error.cause}"
            self.tuning = replace(self.tuning, graphs=False)
            self.bound = BoundSession(self._open_again(), self.device, spec, classes, graphs=False, what=what)

    def close(self) -> None:
        """Let the session go, for good."""
        self._closed, self.session = True, None
        if self.bound is not None:
            self.bound.close()

    def request(self) -> dict[str, Any]:
        """Return the arguments with which another process opens the same."""
        self._refuse_closed()
        request = {"model": self._model, "device": self._asked, "threads": self._threads}
        return request | {"tf32": self._tf32, "tuning": self._asked_tuning}

    def reopened(self) -> Any:
        """Return the session, opened again if this process was forked from the one that opened it.

        Raises:
            FashionZooError: it has been closed.
            DeviceUnavailable: it is on CUDA, which no forked process can use.
            ModelInvalid: the file has changed since.
        """
        with _reopening:
            self._refuse_closed()
            if self.session is None:
                if self.device.kind != "cpu":
                    raise DeviceUnavailable(
                        f"{self.stored.path} was opened on {self.device} before this process was forked, and CUDA does "
                        "not survive a fork: start processes with the 'spawn' method, or open the model in the child"
                    )
                self.session = self._open_again()
            return self.session

    def _open_again(self) -> Any:
        content = self._file.read()
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise ModelInvalid(
                f"{self.stored.path} has changed since it was opened: its sha256 is {found}, not {self.sha256}"
            )
        return open_session(
            content,
            str(self.device),
            threads=self._threads,
            what=str(self.stored.path),
            tf32=self._tf32,
            graphs=self.tuning.graphs,
            tuning=self.tuning,
        ).session

    def _refuse_closed(self) -> None:
        if self._closed:
            raise FashionZooError(f"this classifier of {self.stored.name!r} has been closed")


_open_sessions: weakref.WeakSet[ReopenableSession] = weakref.WeakSet()
_reopening = threading.Lock()


_inherited: list[Any] = []


def _keep_inherited() -> None:
    """In a forked child, neither run nor free the parent's sessions: their threads are missing, and both would hang."""
    global _reopening
    _reopening = threading.Lock()  # another thread of the parent may have held it
    for live in list(_open_sessions):
        _inherited.append((live.session, live.bound))
        live.session = live.bound = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_keep_inherited)
