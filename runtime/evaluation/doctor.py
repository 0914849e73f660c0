"""What this machine can run models on, what is missing, and the remedy."""

import contextlib
import importlib.metadata
import os
import platform
from dataclasses import asdict, dataclass
from typing import Any

from runtime.errors import DeviceUnavailable, FashionZooError, UsageError
from runtime.evaluation.self_test import run_selftest
from runtime.evaluation.timing import processor
from runtime.model.registry import INDEX, Origin, find_model, folders, list_models, read_index
from runtime.session.cuda import DRIVER, MANAGEMENT, Driver, Gpu, find_driver, list_gpus
from runtime.session.device import (
    CPU,
    LINKED_LIBRARIES,
    Device,
    available_cpus,
    device_problem,
    explain_threads,
    installed_onnxruntimes,
    loads,
    mapped_libraries,
    parse_device,
    preload,
)

ERROR, WARNING, INFO = "error", "warning", "info"

_PACKAGES = ("fashion-zoo", "numpy", "pillow", "click", "rich")
_VARIABLES = ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "ZOO_HOME")

# What to do about a damaged index, by the folder it is in.
_REPAIRS: dict[Origin, str] = {
    "user": "remove {index}, then export your own models again with `zoo export`",
    "repository": "restore {index} with git",
    "wheel": "install this package again (`pip install -e .` in a clone), or export a model with `zoo export`",
}


@dataclass(frozen=True)
class Problem:
    """`error`: no model can run; `warning`: some model or GPU cannot be used; `info`: everything works."""

    severity: str
    what: str
    remedy: str


def diagnose() -> dict[str, Any]:
    """Look at the machine and return one document for JSON; `problems` lists the worst first.

    Loads onnxruntime and, where there are any, NVIDIA's libraries; opens no session: that is `run_selftest`.
    """
    runtime, problems = _onnxruntime()
    driver = find_driver()
    devices, device_problems = _devices(runtime, driver)
    models, model_problems = _models()
    problems += device_problems + model_problems
    return {
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
        **runtime,
        "devices": devices,
        "driver": driver and asdict(driver),
        "libraries": _libraries(runtime),
        "threads": {"count": available_cpus(), "why": explain_threads()},
        "models": models,
        "problems": [
            asdict(problem)
            for severity in (ERROR, WARNING, INFO)
            for problem in problems
            if problem.severity == severity
        ],
    }


def examine(device: str = "auto", *, selftest: bool = False) -> tuple[dict[str, Any], DeviceUnavailable | None]:
    """Diagnose, and see whether `device` keeps its promise: by running the known answers on it, or by the signs alone.

    Returns:
        The diagnosis with the report of the self-test under `selftest`, or None there; and why the device cannot be
        used. That error is not raised, since the diagnosis is what one needs then.

    Raises:
        UsageError: no such device.
    """
    asked = parse_device(device) or CPU
    document = diagnose()
    report, unavailable = None, None
    if _can_run(document):
        try:
            if selftest:
                report = run_selftest(device).as_dict()
            elif problem := device_problem(asked):
                raise DeviceUnavailable(f"nothing can run on {asked}: {problem}")
        except DeviceUnavailable as error:
            unavailable = error
    return document | {"selftest": report}, unavailable


def is_healthy(document: dict[str, Any]) -> bool:
    """Whether models can run, and gave the right answers if they were asked."""
    return _can_run(document) and (document["selftest"] is None or document["selftest"]["passed"])


def as_lines(document: dict[str, Any]) -> list[str]:
    """Return the document as text for people."""
    facts = {
        "python": document["python"],
        "platform": document["platform"],
        "packages": _joined(document["packages"]),
        "onnxruntime": ", ".join(document["distributions"]) or "none",
        "built for CUDA": document["onnxruntime_cuda"] or "no",
        "providers": ", ".join(document["providers"]),
        "NVIDIA driver": _driver_line(document["driver"]),
        "threads": f"{document['threads']['count']}: {document['threads']['why']}",
        "environment": _joined(document["environment"]),
    }
    lines = [f"{name:<15} {value or '-'}" for name, value in facts.items()]
    lines += [f"{'library':<15} {name}: {where}" for name, where in document["libraries"].items()]
    for device in document["devices"]:
        usable = "usable" if device["usable"] else "not usable"
        memory = f", {device['memory_bytes'] / 2**30:.0f} GiB" if device.get("memory_bytes") else ""
        lines.append(f"{'device':<15} {device['device']}, {usable}: {device['name']}{memory}")
    lines += [f"{'model':<15} {model['name']}: {model['path']}" for model in document["models"]]
    lines += [
        f"{problem['severity']:<15} {problem['what']}. Remedy: {problem['remedy']}" for problem in document["problems"]
    ]
    return lines


def _can_run(document: dict[str, Any]) -> bool:
    return all(problem["severity"] != ERROR for problem in document["problems"])


def _onnxruntime() -> tuple[dict[str, Any], list[Problem]]:
    installed = installed_onnxruntimes()
    facts: dict[str, Any] = {"onnxruntime": None, "onnxruntime_cuda": None, "distributions": installed, "providers": []}
    package = installed[0] if installed else "onnxruntime"
    problems = []
    if len(installed) > 1:
        problems.append(
            Problem(
                WARNING,
                f"{' and '.join(installed)} are both installed and share one folder",
                "uninstall both, then install the one you want",
            )
        )
    try:
        import onnxruntime
        from onnxruntime import InferenceSession
    except Exception as error:  # a package half there fails with more than ImportError
        what = f"onnxruntime cannot be imported: {' '.join(str(error).split())}"
        return facts, [*problems, Problem(ERROR, what, f"install it again: pip install --force-reinstall {package}")]
    facts["onnxruntime"] = onnxruntime.__version__
    facts["onnxruntime_cuda"] = str(getattr(onnxruntime, "cuda_version", "") or "") or None
    facts["providers"] = list(onnxruntime.get_available_providers())
    if not hasattr(InferenceSession, "get_provider_graph_assignment_info"):
        what = f"onnxruntime {onnxruntime.__version__} cannot tell where it puts a model's nodes"
        problems.append(Problem(ERROR, what, f"upgrade it: pip install --upgrade {package}"))
    return facts, problems


def _devices(runtime: dict[str, Any], driver: Driver | None) -> tuple[list[dict[str, Any]], list[Problem]]:
    """The CPU, and every GPU that the driver shows, with whether anything known keeps it from being used."""
    works = runtime["onnxruntime"] is not None
    devices: list[dict[str, Any]] = [{"device": "cpu", "usable": works, "name": processor()}]
    problems = []
    gpus = list_gpus()
    for gpu in gpus:
        cause = _idle_because(gpu, runtime, driver) if works else "onnxruntime cannot be imported"
        facts = {key: value for key, value in asdict(gpu).items() if key != "index"}
        devices.append({"device": f"cuda:{gpu.index}", "usable": cause is None, **facts, "problem": cause})
        if works and cause:
            what, _, remedy = cause.partition(": ")
            problems.append(Problem(WARNING, f"{gpu.name} (cuda:{gpu.index}) stands idle: {what}", remedy))
    if works and not gpus and (cause := device_problem(Device("cuda"))):
        what, _, remedy = cause.partition(": ")
        remedy = f"none is needed, models run on the CPU; for CUDA, {remedy.removesuffix(', or use --device cpu')}"
        problems.append(Problem(INFO, f"CUDA cannot be used: {what}", remedy))
    return devices, problems


def _idle_because(gpu: Gpu, runtime: dict[str, Any], driver: Driver | None) -> str | None:
    wanted = (runtime["onnxruntime_cuda"] or "0").partition(".")[0]
    if driver is not None and int(driver.cuda.partition(".")[0]) < int(wanted):
        return f"the NVIDIA driver serves CUDA up to {driver.cuda}, this onnxruntime needs {wanted}: update the driver"
    return device_problem(Device("cuda", gpu.index))


def _libraries(runtime: dict[str, Any]) -> dict[str, str]:
    """Say of each of NVIDIA's libraries that this onnxruntime wants whether it was found, and where if that shows."""
    if runtime["onnxruntime_cuda"] is None or os.name == "nt":
        return {}
    preload()
    major = runtime["onnxruntime_cuda"].split(".")[0]
    names = [DRIVER, MANAGEMENT, *(template.format(cuda=major) for template in LINKED_LIBRARIES)]
    found = {name: loads(name) for name in names}
    mapped = mapped_libraries()
    return {name: mapped.get(name.partition(".so")[0], "found") if found[name] else "missing" for name in names}


def _models() -> tuple[list[dict[str, Any]], list[Problem]]:
    """Every model that a name can reach, and which of them is meant where none is named."""
    try:
        for origin, folder in folders():
            repair = _REPAIRS[origin].format(index=folder / INDEX)
            read_index(folder)
        models = list_models()
    except UsageError as error:
        return [], [Problem(WARNING, str(error), "correct that variable, or unset it")]
    except FashionZooError as error:
        return [], [Problem(WARNING, str(error), repair)]
    try:
        default: str | None = find_model().name
        problems = []
    except FashionZooError as error:
        default = None
        problems = [Problem(WARNING, str(error), _REPAIRS["wheel"])]
    return [
        {"name": model.name, "path": str(model.path), "origin": model.origin, "default": model.name == default}
        for model in models
    ], problems


def _version(distribution: str) -> str | None:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(distribution)
    return None


def _driver_line(driver: dict[str, Any] | None) -> str:
    return f"{driver['version'] or 'unknown'}, for CUDA up to {driver['cuda']}" if driver else "none"


def _joined(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value or 'missing'}" for name, value in values.items())
