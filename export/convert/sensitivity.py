"""Choose the layers that stay in float32 while the others compute in int8, by what each costs on validation images."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from torch import nn

from export.analysis.folding import fold_batch_norms
from export.convert.calibrate import Pixels, quantize_statically, sha256_of_images, value_ranges
from export.convert.exporter import translate
from export.convert.normalization import deployed
from export.precision import FULL, Precision
from runtime.errors import UsageError
from runtime.model.metadata import LOGITS
from runtime.model.spec import FASHION_MNIST, INPUT, InputSpec
from runtime.session.session import open_session

Floats = npt.NDArray[Any]
BATCH = 64


@dataclass(frozen=True)
class Choice:
    """The precision with the layers that stay in float32, and how they were chosen.

    Attributes:
        sensitivity: by layer, how far the logits move where it alone computes in int8: root mean square, as a share of
            theirs.
        curve: for each number of layers in float32 that was tried, the accuracy that is lost.
        images: how many validation images that was measured on.
    """

    precision: Precision
    sensitivity: dict[str, float]
    curve: list[dict[str, float]]
    images: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "float_layers": list(self.precision.float_layers),
            "sensitivity": self.sensitivity,
            "curve": self.curve,
            "validation_images": self.images,
        }


def choose_float_layers(
    network: nn.Module,
    calibration: Pixels,
    validation: tuple[Pixels, npt.NDArray[Any]] | None,
    max_drop: float,
    opset: int | None = None,
    input: InputSpec = FASHION_MNIST,
) -> Choice:
    """Leave the most sensitive layers in float32, as few as keep the accuracy on validation images within `max_drop`.

    The arguments are those of `export.export_network`.

    Raises:
        UsageError: no layer can compute in int8 within that; the sentence names the one that costs most.
    """
    folded = fold_batch_norms(deployed(network, input), input)
    base = translate(folded, FULL, opset, dataclasses.replace(input, mean=None, std=None))  # it normalises already
    described = {"images": len(calibration), "sha256": sha256_of_images(calibration)}
    tensors = {name: tensor.detach().cpu().numpy() for name, tensor in folded.named_parameters()}
    names = list(Precision("int8").integers(folded))
    ranges = value_ranges(base, calibration)
    pictures = calibration if validation is None else validation[0]
    plain = _answers(base, pictures)
    labels = plain.argmax(1) if validation is None else validation[1]

    def quantized(layers: list[str]) -> Floats:
        return _answers(quantize_statically(base, ranges, [tensors[name] for name in layers]), pictures)

    scale = float(np.sqrt(np.square(plain).mean())) or 1.0
    moved = {name: float(np.sqrt(np.square(quantized([name]) - plain).mean())) / scale for name in names}
    order = sorted(names, key=lambda name: -moved[name])
    allowed = math.ceil(max_drop * len(labels))
    right, curve = int((plain.argmax(1) == labels).sum()), []
    for count in range(len(order)):
        lost = right - int((quantized(order[count:]).argmax(1) == labels).sum())
        curve.append({"float_layers": count, "drop": lost / len(labels)})
        if lost <= allowed:
            layers = tuple(name.removesuffix(".weight") for name in order[:count])
            sensitivity = {name.removesuffix(".weight"): moved[name] for name in order}
            return Choice(Precision("int8", "int8", layers, described), sensitivity, curve, len(labels))
    if not order:
        raise UsageError("the network has no layer that computes in int8: no convolution and no linear layer")
    raise UsageError(
        f"int8 loses more than {max_drop:g} of the accuracy whichever layers stay in float32; "
        f"{order[0].removesuffix('.weight')} costs most: export it as fp16, or allow more with --max-drop"
    )


def _answers(model: onnx.ModelProto, images: Pixels) -> Floats:
    session = open_session(model.SerializeToString(), "cpu", what="the graph with layers in int8").session
    parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
    return np.concatenate([session.run([LOGITS], {INPUT: part})[0] for part in parts])
