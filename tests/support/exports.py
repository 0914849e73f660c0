"""A file of a network in one form, and what of a report failed."""

import os

import pytest
from torch import nn

from export import Description, Report
from export.convert.exporter import build_graph
from export.precision import Precision
from runtime.datasets.fashion_mnist import LABELS


def content_of(network: nn.Module, precision: Precision | None = None, opset: int | None = None) -> bytes:
    description = Description(name="m", labels=LABELS, precision=precision or Precision())
    return build_graph(network, description.metadata(None), opset)


def skip_where_openvino_is_held_to_less() -> None:
    """OpenVINO chooses its kernel for weights in integers by the CPU, and its oneDNN then refuses that kernel where
    ONEDNN_MAX_CPU_ISA names an older instruction set."""
    if "ONEDNN_MAX_CPU_ISA" in os.environ:
        pytest.skip("OpenVINO does not run weights in integers with ONEDNN_MAX_CPU_ISA")


def failed(report: Report) -> list[str]:
    return [check.name for check in report.failures]
