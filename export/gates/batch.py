"""Gate: any number of images gives what each of them gives alone. Exporters freeze the batch without saying so.

Real pictures are run in one batch, and some of them again: alone, and in smaller batches that stand elsewhere among
the others; the dull and the extreme ones of the parity, which share nothing, together and alone. What ties rows
together as a softmax or a reshape across the batch shows in another size. A sum or a maximum over the batch may be the
same for all pictures at hand, and what adds or picks rows by their number, as Pad, Resize, Slice and Split do, could
begin to do so at the thousandth: these are refused as they stand.
"""

import numpy as np
import onnx
import onnx.helper

from export.gates.parity import RANDOM, REAL
from export.stored import Array, called, constants_in
from export.subject import Finding, GateFailure, Pixels, Subject
from export.trace import Shape
from runtime import contract

SIZES = (1, 2, 3, 7, 64, 257)
# Where the small batches begin; the first, the last and the neighbours of round numbers are run alone.
STARTS = {1: (0, 1, 2, 3, 7, 31, 63, 64, 100, 127, 128, 200, 254, 255, 256), 2: (254,), 3: (126,), 7: (29,), 64: (93,)}

# What adds rows or picks some by their number, and which of its inputs say so.
_TELLING = {"Pad": {1, 3}, "Resize": {2}, "Slice": {1, 3}, "Split": set()}


def batch(subject: Subject) -> Finding:
    _require_symbol(subject)
    _require_rows_as_they_are(subject)
    images = np.resize(subject.images, (max(SIZES), *subject.images.shape[1:]))
    alone = {start: _run(subject, images[start : start + 1]) for start in STARTS[1]}
    all_at_once = _run(subject, images)
    tolerance = subject.tolerance[contract.LOGITS]
    # The runtime's own chunks are yet another size, and cost nothing here: a later gate needs them.
    worst = _largest(all_at_once, np.resize(subject.graph_logits, all_at_once.shape))
    if not worst <= tolerance:
        raise GateFailure(_sentence(max(SIZES), "in chunks of 256", worst, tolerance))
    for start, logits in alone.items():
        difference = _largest(all_at_once[start : start + 1], logits)
        if not difference <= tolerance:
            raise GateFailure(_sentence(max(SIZES), "one by one", difference, tolerance))
        worst = max(worst, difference)
    for size in SIZES[1:-1]:
        for start in STARTS[size]:
            together = _run(subject, images[start : start + size])
            difference = _largest(all_at_once[start : start + size], together)
            if not difference <= tolerance:
                raise GateFailure(_sentence(size, f"among {max(SIZES)}", difference, tolerance))
            worst = max(worst, difference)
    worst = max(worst, _strange_company(subject, tolerance))
    return Finding(
        f"batches of {', '.join(map(str, SIZES))} give each image the same logits within {worst:.2g}",
        {"max_abs_diff": worst},
    )


def _strange_company(subject: Subject, tolerance: float) -> float:
    """Run pictures that are not like the real ones together and alone; return the largest difference.

    Real pictures are alike: all have a black pixel, say, so that what they share does not show among them.
    """
    kinds = {kind: pictures for kind, pictures in subject.parity_inputs.items() if kind not in (REAL, RANDOM)}
    images = np.concatenate(list(kinds.values()))
    together, worst = _run(subject, images), 0.0
    for index in range(len(images)):
        difference = _largest(together[index : index + 1], _run(subject, images[index : index + 1]))
        if not difference <= tolerance:
            words = _sentence(len(images), "one by one", difference, tolerance)
            raise GateFailure(f"of {' and '.join(kinds)}, {words}")
        worst = max(worst, difference)
    return worst


def _require_symbol(subject: Subject) -> None:
    graph = subject.model.graph
    symbols = {
        dim.dim_param
        for info in [*graph.input, *graph.output, *graph.value_info]
        for dim in info.type.tensor_type.shape.dim
        if dim.dim_param
    }
    if symbols != {contract.BATCH}:
        raise GateFailure(f"the only symbolic dimension should be 'batch', but the graph has {sorted(symbols)}")
    pictures = {contract.INPUT}  # and all that depends on them; a weight on its way through a Cast has no batch
    for node in graph.node:
        if pictures.intersection(node.input):
            pictures.update(node.output)
    for info in graph.value_info:
        if info.name not in pictures:
            continue
        dims = info.type.tensor_type.shape.dim
        if not dims or dims[0].dim_param != contract.BATCH:
            raise GateFailure(f"the first dimension of {info.name!r} should be 'batch', but is fixed")
    for name, shape in subject.examination.shapes.items():
        if name in pictures and 0 not in shape and not any(isinstance(size, str) for size in shape):
            raise GateFailure(f"{name!r} is {list(shape)} for any number of images: all of them have a part in it")


def _require_rows_as_they_are(subject: Subject) -> None:
    """Refuse what adds rows to a batch, or picks some, and what may: where the file does not tell."""
    telling = [node for node in subject.model.graph.node if node.op_type in _TELLING]
    stored = dict(constants_in(subject.model.graph)) if telling else {}
    for node in telling:
        if _may_change_rows(node, subject.examination.shapes.get(node.input[0], ()), stored):
            what = f"a {node.op_type} along the batch"
            raise GateFailure(f"node {called(node)} is {what}, which changes the number of images or picks some")


def _may_change_rows(node: onnx.NodeProto, shape: Shape, stored: dict[str, Array]) -> bool:
    rank = len(shape)
    given = {index: name for index, name in enumerate(node.input) if name and index in _TELLING[node.op_type]}
    if not rank or any(name not in stored for name in given.values()):
        return True
    inputs = {index: stored[name].ravel().tolist() for index, name in given.items()}
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    axes = list(range(rank))
    if node.op_type == "Pad":
        axes = inputs.get(3, axes)
        axes = [axis for axis, pads in zip(axes * 2, inputs[1], strict=True) if pads]
    elif node.op_type == "Resize":
        axes = list(attributes.get("axes", axes))
        axes = [axis for axis, scale in zip(axes, inputs.get(2, []), strict=False) if scale != 1]
    elif node.op_type == "Slice":
        axes = inputs.get(3, axes[: len(inputs[1])])
    else:
        axes = [attributes.get("axis", 0)]
    # The images may have been turned to another axis, or into one with something else.
    return any(axis % rank == 0 or not isinstance(shape[axis % rank], int) for axis in axes)


def _run(subject: Subject, images: Pixels) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    try:
        (logits,) = subject.session.run([contract.LOGITS], {contract.INPUT: images})
    except Exception as error:  # onnxruntime's errors share no base class
        raise GateFailure(f"a batch of {len(images)} fails: {' '.join(str(error).split())}") from error
    if logits.ndim != 2 or len(logits) != len(images):
        raise GateFailure(f"a batch of {len(images)} should give as many rows of logits, but gives {logits.shape}")
    return logits  # type: ignore[no-any-return]


def _largest(
    one: np.ndarray[tuple[int, ...], np.dtype[np.float32]], other: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
) -> float:
    return float(np.abs(one - other).max())


def _sentence(size: int, instead: str, difference: float, tolerance: float) -> str:
    return f"in a batch of {size} the logits differ from {instead} by {difference:.3g}, more than {tolerance:.3g}"
