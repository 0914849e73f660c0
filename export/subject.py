"""What the gates look at: a network, a file, pictures to try them on, and what is worked out from these only once."""

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import nn

from export.double import InDouble
from runtime import contract
from runtime.session import open_session

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[Any]
CHUNK = 500  # images at once through PyTorch


@dataclass(frozen=True)
class Finding:
    """What a passed gate saw: a sentence for people and the figures behind it."""

    detail: str
    measures: dict[str, Any] = field(default_factory=dict)


class GateFailure(Exception):
    """A gate's refusal: its sentence says what was expected, what was found, and where."""

    def __init__(self, detail: str, **measures: Any) -> None:
        super().__init__(detail)
        self.measures = measures


class Subject:
    """A network and the file that claims to be it.

    Args:
        network: images: uint8 (N, 1, 28, 28) -> logits (N, K), with its weights.
        content: the bytes of the ONNX file.
        images: uint8 (N, 1, 28, 28), real pictures; labels: int (N,), their classes.
        expected: metadata fields that the file must declare with these very values.
        device: where the graph is run.
    """

    def __init__(
        self,
        network: nn.Module,
        content: bytes,
        images: Pixels,
        labels: npt.NDArray[Any],
        expected: dict[str, Any],
        device: str = "cpu",
    ) -> None:
        self.network = copy.deepcopy(network).to("cpu").float().eval()
        self.content = content
        self.images = images
        self.labels = labels
        self.expected = expected
        self.device = device

    @functools.cached_property
    def model(self) -> onnx.ModelProto:
        return onnx.load_from_string(self.content)

    @functools.cached_property
    def opened(self) -> Any:
        return open_session(self.content, self.device, what="the file")

    @functools.cached_property
    def metadata(self) -> contract.Metadata:
        props = {prop.key: prop.value for prop in self.model.metadata_props}
        return contract.parse_metadata(props, "the file")

    def run_graph(self, images: Pixels, outputs: Sequence[str] = (contract.LOGITS,)) -> list[Floats]:
        """Return the graph's outputs on `images`, run in chunks as the runtime does."""
        parts = [
            self.opened.session.run(list(outputs), {contract.INPUT: images[start : start + 256]})
            for start in range(0, len(images), 256)
        ]
        return [np.concatenate(values) for values in zip(*parts, strict=True)]

    def run_network(self, images: Pixels, dtype: torch.dtype = torch.float32) -> tuple[Floats, Floats]:
        """Return the network's logits and probabilities in the precision asked for."""
        network = self.network if dtype == torch.float32 else self._double
        with torch.inference_mode():
            logits = torch.cat(
                [network(torch.from_numpy(part)) for part in np.array_split(images, self._parts(images))]
            )
            return logits.numpy(), logits.softmax(1).numpy()

    @functools.cached_property
    def graph_logits(self) -> Floats:
        """The graph's logits on all images: float32 (N, K)."""
        return self.run_graph(self.images)[0]

    @functools.cached_property
    def network_logits(self) -> Floats:
        """The network's own logits on all images: float32 (N, K)."""
        return self.run_network(self.images)[0]

    @functools.cached_property
    def tolerance(self) -> dict[str, float]:
        """The largest error that parity allows, by output."""
        from export.gates.parity import measure

        return {name: row["tolerance"] for name, row in measure(self).items()}

    @functools.cached_property
    def _double(self) -> InDouble:
        return InDouble(self.network)

    @staticmethod
    def _parts(images: Pixels) -> int:
        return max(1, -(-len(images) // CHUNK))
