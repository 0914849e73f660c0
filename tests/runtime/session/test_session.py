"""What a GPU's session is asked for, and what is decided where it cannot be had; the GPU itself is a stand-in."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime
import pytest

from runtime import Classifier, DeviceUnavailable, ModelInvalid, UsageError
from runtime.session import device, session
from runtime.session.device import TENSORRT_LIBRARIES, Device, device_problem
from runtime.session.session import Tuning, open_session

MODEL = (Path(__file__).resolve().parents[3] / "weights" / "lenet" / "model.onnx").read_bytes()


class Machine:
    """Stands in for `onnxruntime.InferenceSession` on GPUs: writes down what is asked for, and fails as it is told."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, dict[str, Any]]] = []
        self.runs: list[str] = []
        self.stray: str | None = None
        self.cannot_capture = self.cannot_run = False
        self.metadata: dict[str, str] = {}
        self._cpu = onnxruntime.InferenceSession

    def __call__(self, model: bytes, options: Any, *, providers: list[Any], enable_fallback: int) -> Any:
        if providers == ["CPUExecutionProvider"]:
            return self._cpu(model, options, providers=providers)
        names = [name for name, _ in providers]
        self.opened.append((names[0], providers[0][1]))
        if self.cannot_capture and providers[0][1].get("enable_cuda_graph"):
            raise RuntimeError("This session cannot use the graph capture feature")
        node = SimpleNamespace(op_type="Resize", name="resize_1")
        parts = [
            SimpleNamespace(ep_name=name, get_nodes=lambda: [node]) for name in filter(None, (names[0], self.stray))
        ]
        pixels = SimpleNamespace(name="image", type="tensor(uint8)", shape=["batch", 1, 28, 28])
        return SimpleNamespace(
            get_provider_graph_assignment_info=lambda: parts,
            get_inputs=lambda: [pixels],
            get_modelmeta=lambda: SimpleNamespace(custom_metadata_map=self.metadata),
            run=self._run,
        )

    def _run(self, _outputs: None, feed: dict[str, Any], options: Any) -> None:
        self.runs.append(f"{feed['image'].shape[0]} picture, graph {options.get_run_config_entry('gpu_graph_id')}")
        if self.cannot_run:
            raise RuntimeError("CUDNN failure 1001:\n CUDNN_STATUS_NOT_INITIALIZED")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    machine = Machine()
    monkeypatch.setattr(onnxruntime, "InferenceSession", machine)
    monkeypatch.setattr(session, "device_problem", lambda _device: None)
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    return machine


def test_a_gpu_is_asked_for_float32_for_graphs_and_for_cudnns_heuristics(machine):
    opened = open_session(MODEL, "cuda:1", graphs=True)

    assert machine.opened == [
        (
            "CUDAExecutionProvider",
            {
                "device_id": 1,
                "use_tf32": 0,
                "cudnn_conv_algo_search": "HEURISTIC",
                "enable_cuda_graph": 1,
                "prefer_nhwc": 0,
                "arena_extend_strategy": "kSameAsRequested",
            },
        )
    ]
    assert (opened.device, opened.tuning, opened.notice) == (Device("cuda", 1), Tuning(), None)
    assert machine.runs == ["1 picture, graph -1"]


def test_tf32_and_graphs_are_off_unless_they_are_asked_for(machine):
    open_session(MODEL, "cuda")
    open_session(MODEL, "cuda", tf32=True)

    assert [(asked["use_tf32"], asked["enable_cuda_graph"]) for _, asked in machine.opened] == [(0, 0), (1, 0)]


def test_a_session_that_cannot_capture_is_opened_again_on_the_same_device_and_says_so(machine):
    machine.cannot_capture = True
    opened = open_session(MODEL, "cuda", graphs=True)

    assert [asked["enable_cuda_graph"] for _, asked in machine.opened] == [1, 0]
    assert (str(opened.device), opened.tuning.graphs) == ("cuda:0", False)
    assert opened.notice == "without CUDA graphs: This session cannot use the graph capture feature"


def test_a_gpu_whose_first_run_fails_is_refused_by_name_and_left_by_auto_with_the_reason(machine):
    machine.cannot_run = True

    with pytest.raises(
        DeviceUnavailable, match=r"lenet cannot run on cuda:0: its first run failed: CUDNN failure 1001: "
    ):
        open_session(MODEL, "cuda", what="lenet", graphs=True)
    opened = open_session(MODEL, "auto", graphs=True)
    assert (str(opened.device), opened.reason) == ("cpu", "CUDNN failure 1001: CUDNN_STATUS_NOT_INITIALIZED")


def test_a_file_that_is_no_model_is_not_blamed_on_the_gpu(machine):
    machine.cannot_run = True

    with pytest.raises(ModelInvalid, match="is not a model that onnxruntime can open"):
        open_session(b"junk", "cuda", graphs=True)


def test_a_node_that_is_not_on_the_gpu_is_named(machine):
    machine.stray = "CPUExecutionProvider"

    with pytest.raises(
        DeviceUnavailable, match=r"put 1 of 2 nodes elsewhere: Resize 'resize_1' \(CPUExecutionProvider\)"
    ):
        open_session(MODEL, "cuda")


def test_tensorrt_may_leave_nodes_to_cuda_but_not_to_the_cpu(machine):
    machine.stray = "CUDAExecutionProvider"
    opened = open_session(MODEL, "tensorrt", graphs=True)

    assert (str(opened.device), opened.tuning.graphs) == ("tensorrt:0", False)
    assert machine.opened[0][0] == "TensorrtExecutionProvider"
    assert machine.opened[0][1]["trt_profile_max_shapes"] == "image:1024x1x28x28"
    machine.stray = "CPUExecutionProvider"
    with pytest.raises(DeviceUnavailable, match="nodes elsewhere"):
        open_session(MODEL, "tensorrt")


TENSORRT = [("tensorrt", name, " cannot be loaded: pip install 'tensorrt-cu13<11'") for name in TENSORRT_LIBRARIES]
LINKED = [("cuda", name.format(cuda=13), " cannot be loaded, which onnxruntime") for name in device.LINKED_LIBRARIES]


@pytest.mark.parametrize(("kind", "missing", "sentence"), [*TENSORRT, *LINKED])
def test_a_library_that_is_missing_is_named_before_the_provider_is_loaded(kind, missing, sentence, monkeypatch):
    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    monkeypatch.setattr(device, "_driver_problem", lambda _index: None)
    monkeypatch.setattr(device, "preload", lambda: None)
    monkeypatch.setattr(device, "loads", lambda name: name != missing)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)

    assert str(device_problem(Device(kind))).startswith(f"{missing}{sentence}")


def test_an_onnxruntime_without_tensorrt_is_named(monkeypatch):
    monkeypatch.setattr(device, "cuda_problem", lambda _index: None)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])

    assert str(device_problem(Device("tensorrt"))).startswith("the installed onnxruntime is built without TensorRT: ")


def test_a_float16_file_may_use_tensor_cores_which_onnxruntime_ties_to_tf32(machine):
    machine.metadata = {"dtype": '"fp16"'}
    open_session(MODEL, "cuda", graphs=True)

    assert [asked["use_tf32"] for _, asked in machine.opened] == [0, 1]


def test_a_library_is_found_in_nvidias_packages_wherever_sys_path_has_them(tmp_path, monkeypatch):
    folder = tmp_path / "target" / "nvidia" / "cudnn" / "lib"
    folder.mkdir(parents=True)
    shutil.copy(find_library_file(), folder / "libcudnn_of_a_test.so.9")

    assert not device.loads("libcudnn_of_a_test.so.9")
    monkeypatch.syspath_prepend(str(tmp_path / "target"))
    assert device.loads("libcudnn_of_a_test.so.9")


def find_library_file() -> str:
    """The path of a shared library that this process has loaded."""
    return next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libz" in line)


def test_tf32_on_the_cpu_is_a_usage_error_and_auto_says_it_has_none():
    with pytest.raises(UsageError, match="the CPU has none"):
        Classifier("lenet", device="cpu", tf32=True)
    classifier = Classifier("lenet", tf32=True)
    if classifier.device == "cpu":
        assert not classifier.tf32


def test_on_the_cpu_there_are_no_settings_of_a_gpu_to_show():
    assert Classifier("lenet", device="cpu").info()["gpu"] is None
