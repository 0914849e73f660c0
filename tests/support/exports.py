"""A file of a network in one form, and what of a report failed."""

from torch import nn

from export import Description, Report
from export.convert.exporter import build_graph
from export.precision import Precision
from runtime.datasets.fashion_mnist import LABELS


def content_of(network: nn.Module, precision: Precision | None = None, opset: int | None = None) -> bytes:
    description = Description(name="m", labels=LABELS, precision=precision or Precision())
    return build_graph(network, description.metadata(None), opset)


def failed(report: Report) -> list[str]:
    return [check.name for check in report.failures]
