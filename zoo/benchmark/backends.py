"""The backends that `zoo bench` compares: this runtime, onnxruntime, PyTorch, OpenVINO.

Each takes numpy pixels and returns numpy logits, as an app does, so that copies to a GPU and back are part of the time.
Libraries are imported only by the backend that needs them.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Run = Callable[[Pixels], Any]
Request = dict[str, Any]


def open_runtime(request: Request, **settings: Any) -> Run:
    """This runtime, with `settings` of `runtime.session.session.Tuning` in place of its defaults."""
    from runtime import Classifier
    from runtime.session.session import Tuning

    classifier = Classifier(
        request["file"],
        device=request["device"],
        threads=request["threads"],
        tf32=request["precision"] == "tf32",
        tuning=Tuning(**settings) if settings else None,
    )
    return lambda pixels: classifier.logits(pixels, len(pixels))


def open_onnxruntime(request: Request) -> Run:
    """onnxruntime with its defaults, but with TF32 as the precision says, and without the fallback to the CPU."""
    import onnxruntime

    kind, _, index = request["device"].partition(":")
    providers: list[Any] = ["CPUExecutionProvider"]
    if kind == "cuda":
        onnxruntime.preload_dlls()
        options = {"device_id": int(index or 0), "use_tf32": int(request["precision"] != "fp32")}
        providers = [("CUDAExecutionProvider", options)]
    session = onnxruntime.InferenceSession(request["file"], providers=providers, enable_fallback=0)
    if session.get_providers()[0] != (providers[0] if kind != "cuda" else "CUDAExecutionProvider"):
        raise RuntimeError(f"onnxruntime did not open the model on {request['device']}")
    return lambda pixels: session.run(["logits"], {"image": pixels})[0]


def open_openvino(request: Request) -> Run:
    """OpenVINO, compiled for each batch size, which is faster than a dynamic batch."""
    import openvino

    if request["device"] != "cpu":
        raise RuntimeError("OpenVINO does not run on NVIDIA's GPUs")
    core, compiled = openvino.Core(), {}
    content = Path(request["file"]).read_bytes()
    settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if request["threads"]:
        settings["INFERENCE_NUM_THREADS"] = request["threads"]

    def run(pixels: Pixels) -> Any:
        if len(pixels) not in compiled:
            model = core.read_model(content, b"")
            model.reshape([len(pixels), *pixels.shape[1:]])
            compiled[len(pixels)] = core.compile_model(model, "CPU", settings).create_infer_request()
        return compiled[len(pixels)].infer([pixels], share_inputs=True)["logits"]

    return run


def _torch_network(request: Request) -> tuple[Any, Any]:
    """Return the network, on the device and in the precision of the request, and the device."""
    import torch

    from zoo.models import create_model
    from zoo.runs.checkpoint import load

    device = torch.device(request["device"])
    if request["threads"]:
        torch.set_num_threads(request["threads"])
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = request["precision"] == "tf32"
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(0)
    network = create_model(request["network"])
    if request["checkpoint"]:
        load(Path(request["checkpoint"]), model=request["network"]).load_into(network)
    network = network.eval().to(device)
    if request["precision"] == "fp16":
        network = network.half()
    if device.type == "cuda":
        network = network.to(memory_format=torch.channels_last)  # as NVIDIA advises for tensor cores
    return network, device


def open_torch(request: Request, *, compiled: bool = False) -> Run:
    import torch

    network, device = _torch_network(request)
    if compiled:  # for each batch size, which is faster
        network = torch.compile(network, mode="max-autotune" if device.type == "cuda" else None, dynamic=False)

    def run(pixels: Pixels) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(pixels).to(device)).float().cpu().numpy()

    return run


def open_torch_graph(request: Request, *, bare: bool = False) -> Run:
    """PyTorch's eager kernels, replayed as one CUDA graph, without the time that Python and kernel launches take.

    `bare` also leaves out the copies to and from the GPU: a lower bound on latency, whose logits are those of the first
    pixels at each batch size.
    """
    import torch

    network, device = _torch_network(request)
    if device.type != "cuda":
        raise RuntimeError("only a GPU replays graphs")
    graphs: dict[int, tuple[Any, Any, Any]] = {}

    def capture(count: int) -> tuple[Any, Any, Any]:
        image = torch.zeros((count, 1, 28, 28), dtype=torch.uint8, device=device)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                network(image)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            logits = network(image).float()
        return graph, image, logits

    def run(pixels: Pixels) -> Any:
        with torch.inference_mode():
            first = len(pixels) not in graphs
            if first:
                graphs[len(pixels)] = capture(len(pixels))
            graph, image, logits = graphs[len(pixels)]
            if first or not bare:
                image.copy_(torch.from_numpy(pixels))
            graph.replay()
            if not bare:
                return logits.cpu().numpy()
            torch.cuda.synchronize()
            return logits

    return run


BACKENDS: dict[str, tuple[str, str, Callable[[Request], Run]]] = {  # name: module, distribution, how it is opened
    "runtime": ("onnxruntime", "fashion-zoo", open_runtime),
    "runtime-no-graph": ("onnxruntime", "fashion-zoo", partial(open_runtime, graphs=False)),
    "runtime-nhwc": ("onnxruntime", "fashion-zoo", partial(open_runtime, nhwc=True)),
    "runtime-exhaustive": ("onnxruntime", "fashion-zoo", partial(open_runtime, algorithms="EXHAUSTIVE")),
    "runtime-sleeping": ("onnxruntime", "fashion-zoo", partial(open_runtime, spin_us=0)),
    "onnxruntime": ("onnxruntime", "onnxruntime", open_onnxruntime),
    "torch": ("torch", "torch", open_torch),
    "torch-compile": ("torch", "torch", partial(open_torch, compiled=True)),
    "torch-graph": ("torch", "torch", open_torch_graph),
    "torch-graph-bare": ("torch", "torch", partial(open_torch_graph, bare=True)),
    "openvino": ("openvino", "openvino", open_openvino),
}
