"""`runtime doctor`: what it finds on machines of every kind, each pretended, and what its exit code says."""

import ctypes
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from click.testing import Result
from support.command_line import call

from runtime.errors import DeviceUnavailable, ModelInvalid, ModelNotFound
from runtime.evaluation import doctor, self_test
from runtime.evaluation.doctor import as_lines, diagnose, examine, is_healthy
from runtime.model.registry import StoredModel
from runtime.session import cuda, device
from runtime.session.cuda import Driver, Gpu

H100 = Gpu(0, "NVIDIA H100", 80 * 2**30, "9.0")
LENET = StoredModel("lenet", Path("/weights/lenet/model.onnx"), "wheel", {"accuracy": {"top1": 0.9}})
NO_DRIVER = "there is no NVIDIA driver (libcuda.so.1 cannot be loaded): install the driver, or use --device cpu"


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a model, onnxruntime for CUDA 13, and no GPU, whatever this one is."""
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)
    monkeypatch.setattr(doctor, "installed_onnxruntimes", lambda: ["onnxruntime-gpu 1.31.1"])
    monkeypatch.setattr(doctor, "list_models", lambda: [LENET])
    monkeypatch.setattr(doctor, "find_model", lambda: LENET)
    monkeypatch.setattr(doctor, "find_driver", lambda: None)
    monkeypatch.setattr(doctor, "list_gpus", lambda: [])
    monkeypatch.setattr(doctor, "device_problem", lambda asked: None if asked == device.CPU else NO_DRIVER)
    monkeypatch.setattr(doctor, "preload", lambda: None)
    monkeypatch.setattr(doctor, "loads", lambda _library: False)


@pytest.fixture
def gpu_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with a GPU that works."""
    monkeypatch.setattr(doctor, "find_driver", lambda: Driver("580.82.07", "13.0"))
    monkeypatch.setattr(doctor, "list_gpus", lambda: [H100])
    monkeypatch.setattr(doctor, "device_problem", lambda _asked: None)
    monkeypatch.setattr(doctor, "loads", lambda _library: True)


def run(*arguments: str) -> Result:
    return call("runtime", "doctor", *arguments)


def test_the_document_has_what_other_programs_rely_on_and_is_json():
    document = json.loads(json.dumps(diagnose()))

    assert document["onnxruntime"] == onnxruntime.__version__
    assert document["providers"] == onnxruntime.get_available_providers()
    assert document["packages"]["numpy"]
    assert document["models"] == [
        {"name": "lenet", "path": str(LENET.path), "origin": "wheel", "default": True},
    ]


def test_this_very_machine_can_be_diagnosed(monkeypatch):
    monkeypatch.undo()

    document = diagnose()

    assert document["devices"][0]["device"] == "cpu"
    assert document["devices"][0]["usable"] is True
    assert all(problem["what"] and problem["remedy"] for problem in document["problems"])
    assert is_healthy(document | {"selftest": None})


def test_a_machine_without_a_gpu_is_healthy_and_told_what_cuda_would_take():
    document, unavailable = examine()

    assert (is_healthy(document), unavailable) == (True, None)
    assert document["problems"] == [
        {
            "severity": "info",
            "what": "CUDA cannot be used: there is no NVIDIA driver (libcuda.so.1 cannot be loaded)",
            "remedy": "none is needed, models run on the CPU; for CUDA, install the driver",
        }
    ]
    assert [entry["device"] for entry in document["devices"]] == ["cpu"]
    assert document["driver"] is None


@pytest.mark.usefixtures("gpu_machine")
def test_a_gpu_that_works_is_listed_with_its_memory_and_driver():
    document, unavailable = examine("cuda:0")

    assert (document["problems"], unavailable) == ([], None)
    assert document["devices"][1] == {
        "device": "cuda:0",
        "usable": True,
        "name": "NVIDIA H100",
        "memory_bytes": 80 * 2**30,
        "compute_capability": "9.0",
        "problem": None,
    }
    assert document["driver"] == {"version": "580.82.07", "cuda": "13.0"}
    text = "\n".join(as_lines(document))
    assert "cuda:0, usable: NVIDIA H100, 80 GiB" in text
    assert "580.82.07, for CUDA up to 13.0" in text


@pytest.mark.usefixtures("gpu_machine")
def test_a_gpu_that_stands_idle_is_a_warning_with_the_remedy(monkeypatch):
    monkeypatch.setattr(doctor, "device_problem", lambda _asked: "libcudnn.so.9 cannot be loaded: install cuDNN")

    document, unavailable = examine("cuda")

    assert document["problems"] == [
        {
            "severity": "warning",
            "what": "NVIDIA H100 (cuda:0) stands idle: libcudnn.so.9 cannot be loaded",
            "remedy": "install cuDNN",
        }
    ]
    assert document["devices"][1]["usable"] is False
    assert is_healthy(document)
    assert str(unavailable) == "nothing can run on cuda:0: libcudnn.so.9 cannot be loaded: install cuDNN"


def raising(error: Exception) -> Callable[[], Any]:
    def fail() -> Any:
        raise error

    return fail


@pytest.mark.parametrize(
    ("pretended", "said"),
    [
        (
            {"find_driver": lambda: Driver("550.54", "12.4"), "list_gpus": lambda: [H100]},
            "NVIDIA H100 (cuda:0) stands idle: the NVIDIA driver serves CUDA up to 12.4, this onnxruntime needs 13: "
            "update the driver",
        ),
        (
            {"installed_onnxruntimes": lambda: ["onnxruntime 1.31.1", "onnxruntime-gpu 1.31.1"]},
            "onnxruntime 1.31.1 and onnxruntime-gpu 1.31.1 are both installed and share one folder: ",
        ),
        ({"list_models": list, "find_model": raising(ModelNotFound("carries no model"))}, "carries no model: "),
        ({"find_model": raising(ModelInvalid("the index is damaged"))}, "the index is damaged: "),
        ({"list_models": raising(ModelInvalid("index.json is damaged"))}, "index.json is damaged: "),
    ],
)
def test_what_keeps_some_of_a_machine_from_its_use_is_a_warning(pretended, said, monkeypatch):
    for name, function in pretended.items():
        monkeypatch.setattr(doctor, name, function)
    document = diagnose()
    first = document["problems"][0]

    assert first["severity"] == "warning"
    assert f"{first['what']}: {first['remedy']}".startswith(said)
    assert [model["default"] for model in document["models"]] == (
        [] if "list_models" in pretended else ["find_model" not in pretended]
    )


def test_without_onnxruntime_there_is_an_error_and_no_traceback(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    done = run("--selftest", "--json")

    document = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (document["onnxruntime"], document["providers"], document["selftest"]) == (None, [], None)
    assert document["devices"][0]["usable"] is False
    assert document["problems"][0]["severity"] == "error"
    assert document["problems"][0]["what"].startswith("onnxruntime cannot be imported")


def test_an_onnxruntime_that_cannot_prove_placement_is_an_error(monkeypatch):
    monkeypatch.setattr(onnxruntime, "InferenceSession", object)

    document, _ = examine("cpu", selftest=True)

    assert document["problems"][0]["severity"] == "error"
    assert "cannot tell where it puts" in document["problems"][0]["what"]
    assert document["selftest"] is None


def test_a_damaged_index_of_the_users_own_is_to_be_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    index = tmp_path / "weights" / "index.json"
    index.parent.mkdir()
    index.write_text("{")
    (found,) = [problem for problem in diagnose()["problems"] if "damaged" in problem["what"]]

    assert found["remedy"] == f"remove {index}, then export your own models again with `zoo export`"


@pytest.mark.skipif(sys.platform == "win32", reason="libraries are asked for by soname")
def test_libraries_are_listed_by_file_name_as_found_or_missing(monkeypatch):
    monkeypatch.setattr(doctor, "loads", lambda library: library.startswith("libcu"))
    monkeypatch.setattr(doctor, "mapped_libraries", lambda: {"libcudart": "/opt/cuda/libcudart.so.13.0.48"})

    libraries = diagnose()["libraries"]

    assert libraries["libcudart.so.13"] == "/opt/cuda/libcudart.so.13.0.48"
    assert libraries["libcudnn.so.9"] == "found"
    assert libraries["libnvidia-ml.so.1"] == "missing"
    assert {template.format(cuda=13) for template in device.LINKED_LIBRARIES} < set(libraries)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc elsewhere")
def test_a_loaded_library_is_found_in_this_process():
    assert any(Path(path).is_file() for path in doctor.mapped_libraries().values())


def test_an_onnxruntime_for_the_cpu_alone_wants_no_libraries(monkeypatch):
    monkeypatch.setattr(onnxruntime, "cuda_version", "", raising=False)

    document = diagnose()

    assert (document["libraries"], document["onnxruntime_cuda"]) == ({}, None)


def test_only_variables_that_matter_are_shown(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")

    document = diagnose()

    assert document["environment"]["CUDA_VISIBLE_DEVICES"] == ""
    assert "hunter2" not in json.dumps(document)


@pytest.mark.parametrize(
    ("quota", "ending"), [(None, "may run on 8"), (1.5, "its control group grants the time of 1.5")]
)
def test_the_thread_count_is_explained(quota, ending, monkeypatch):
    monkeypatch.setattr(device, "cpu_quota", lambda: quota)
    monkeypatch.setattr(device, "_affinity", lambda: 8)

    document = diagnose()

    assert document["threads"]["count"] == (2 if quota else 8)
    assert document["threads"]["why"].endswith(ending)


class FakeDriver:
    """libcuda and libnvidia-ml in one, with two GPUs; `status` is what cuInit answers."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def __getattr__(self, name: str) -> Callable[..., int]:
        numbers: dict[str, Any] = {
            "cuDriverGetVersion": lambda out: set_number(out, 13000),
            "cuInit": lambda _flags: self.status,
            "cuDeviceGetCount": lambda out: set_number(out, 2),
            "cuDeviceGet": set_number,
            "cuDeviceTotalMem_v2": lambda out, gpu: set_number(out, (gpu.value + 1) * 2**30),
            "cuDeviceGetAttribute": lambda out, attribute, _gpu: set_number(out, {75: 9, 76: 0}[attribute]),
            "cuDeviceGetName": lambda out, _size, gpu: set_text(out, f"GPU {gpu.value}"),
            "nvmlInit_v2": lambda: self.status,
            "nvmlSystemGetDriverVersion": lambda out, _size: set_text(out, "580.82.07"),
            "nvmlShutdown": lambda: 0,
        }
        return numbers[name]


def set_number(out: Any, value: int) -> int:
    out._obj.value = value
    return 0


def set_text(out: Any, value: str) -> int:
    out.value = value.encode()
    return 0


def test_gpus_and_their_driver_are_read_from_the_driver_itself(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: FakeDriver())

    assert cuda.list_gpus() == [Gpu(0, "GPU 0", 2**30, "9.0"), Gpu(1, "GPU 1", 2**31, "9.0")]
    assert cuda.find_driver() == Driver("580.82.07", "13.0")


def test_a_driver_that_refuses_shows_no_gpu_and_no_version(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: FakeDriver(status=100))

    assert cuda.list_gpus() == []
    assert cuda.find_driver() == Driver(None, "13.0")


def test_a_machine_without_a_driver_has_neither(monkeypatch):
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)

    assert (cuda.list_gpus(), cuda.find_driver()) == ([], None)


def test_doctor_prints_one_json_document_with_the_self_test_inside():
    done = run("--selftest", "--device", "cpu", "--json")

    document = json.loads(done.stdout)
    assert (done.exit_code, done.stderr) == (0, "")
    assert {"onnxruntime", "providers", "devices", "problems", "selftest"} <= set(document)
    assert document["selftest"]["passed"] is True
    assert document["selftest"]["device"] == "cpu"
    assert document["selftest"]["n"] == len(document["selftest"]["cases"]) >= 20


def test_doctor_without_the_self_test_runs_none():
    assert json.loads(run("--json").stdout)["selftest"] is None


def test_doctor_ends_with_the_verdict_in_words():
    done = run("--selftest", "--device", "cpu")

    assert done.exit_code == 0
    assert "NVIDIA driver   none" in done.stdout
    assert "learned from input and output in ten steps" in done.stdout
    assert "known answers right on cpu, in" in done.stdout.splitlines()[-1]


def test_a_wrong_answer_is_named_and_exits_with_1(tmp_path, monkeypatch):
    path = shutil.copy(self_test.FOLDER / "7.5.1-max.onnx", tmp_path)
    Path(path).write_bytes(Path(path).read_bytes().replace(b"[[4, 5], [7, 8]]", b"[[4, 5], [7, 9]]"))
    real = self_test.run_selftest
    monkeypatch.setattr(doctor, "run_selftest", lambda asked: real(asked, tmp_path))

    done = run("--selftest", "--device", "cpu")

    assert done.exit_code == 1
    assert "WRONG" in done.stdout
    assert "7.5.1-max: expected {'Y': [[[[4, 5], [7, 9]]]]}, found {'Y': [[[[4.0, 5.0], [7.0, 8.0]]]]}" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("0 of 1 known answers right")


@pytest.mark.parametrize("arguments", [["--json"], ["--json", "--selftest"]])
def test_a_device_that_is_not_there_exits_with_4_after_the_diagnosis(arguments, monkeypatch):
    def refuse(asked: str) -> None:
        raise DeviceUnavailable(f"the self-test cannot run on {asked}: {NO_DRIVER}")

    monkeypatch.setattr(doctor, "run_selftest", refuse)

    done = run("--device", "cuda", *arguments)

    assert done.exit_code == 4
    assert json.loads(done.stdout)["selftest"] is None
    assert "there is no NVIDIA driver" in done.stderr


def test_a_device_that_does_not_exist_exits_with_2():
    done = run("--device", "tpu", "--json")

    assert (done.exit_code, done.stdout) == (2, "")


def test_why_auto_chose_the_cpu_is_said_on_stderr(monkeypatch):
    report = self_test.SelfTestReport("cpu", "no GPU here", (), 0.0)
    monkeypatch.setattr(doctor, "run_selftest", lambda _asked: report)

    assert "using the CPU: no GPU here" in run("--selftest").stderr
