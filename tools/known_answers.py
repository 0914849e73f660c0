"""Write D2L's worked examples as tiny ONNX graphs, each with its inputs and the right answers inside.

    python -m tools.known_answers        writes runtime/evaluation/known_answers/*.onnx

`runtime doctor --selftest` runs them.

The examples are those of Dive into Deep Learning 7.2 to 7.5. The answers stand here as literals, D2L's own where
it prints them; no engine that they judge has computed them. They are whole numbers or multiples of 1/16, small enough
that float32 holds every intermediate result: multiplying and adding in any order gives them to the last bit.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx.helper
from onnx import NodeProto

from runtime.evaluation.self_test import FOLDER, SUFFIX
from runtime.storage import write_bytes
from tools.worked_example import Array, WorkedExample

# Gradient descent as in D2L. In float32, ten steps end within TOLERANCE of the exact kernel, in whatever order an
# engine adds; tests/runtime/evaluation/test_self_test.py redoes the sum. A step more or less would miss by 2^-9.
STEPS, RATE, TOLERANCE = 10, Fraction(3, 100), 2.0**-19
TOLERANCE_REASON = (
    "a step rounds 19 times between its errors and the change they cause (17 sums, since a weight sees 18 pixels that "
    "are 1; the rate; the product) and 3 times beside that (prediction, error, new kernel), each time by at most 2^-24 "
    "of the number at hand; it shrinks what earlier steps left to 0.8; over ten steps that stays below 2^-19"
)

Size = tuple[int, int]


def known_answers() -> list[WorkedExample]:
    """Return every worked example."""
    return [*_kernels(), _learned_kernel(), *_paddings(), *_channels(), *_poolings()]


def write_known_answers(folder: Path = FOLDER) -> list[Path]:
    """Write one file an example, and remove the files of examples that are no more."""
    files = {folder / f"{case.name}{SUFFIX}": case.serialize() for case in known_answers()}
    for stale in set(folder.glob(f"*{SUFFIX}")) - set(files):
        stale.unlink()
    for path, content in files.items():
        write_bytes(path, content)
    return list(files)


def _kernels() -> list[WorkedExample]:
    stripe, edges = np.ones((1, 1, 6, 8)), np.zeros((1, 1, 6, 7))
    stripe[..., 2:6] = 0
    edges[..., 1], edges[..., 5] = 1, -1
    picture = _image("32 0 0 16 16 16" + 4 * "/ 0 0 0 16 16 16")  # a bright dot and an edge
    blur, sharpen = _image("1 2 1/ 2 4 2/ 1 2 1") / 16, _image("0 -1 0/ -1 5 -1/ 0 -1 0")
    return [
        _conv("7.2.1-cross-correlation", "cross-correlation", _count(3, 3), _count(2, 2), "19 25/ 37 43"),
        WorkedExample(
            "7.2.2-bias",
            "convolutional layer: cross-correlation plus bias",
            [_node("Conv", "X K B", "Y")],
            {"X": _count(3, 3)},
            {"Y": _image("19.5 25.5/ 37.5 43.5")},
            {"K": _count(2, 2), "B": np.array([0.5])},
        ),
        WorkedExample(
            "7.2.3-edges",
            "a 1x2 kernel finds vertical edges, and none in the transposed image",
            [_node("Conv", "X K", "edges"), _node("Conv", "transposed K", "nothing")],
            {"X": stripe, "transposed": stripe.swapaxes(2, 3)},
            {"edges": edges, "nothing": np.zeros((1, 1, 8, 5))},
            {"K": _image("1 -1")},
        ),
        _conv("7.2.8-blur", "blur", picture, blur, "2 4 12 16" + 2 * "/ 0 4 12 16"),
        _conv("7.2.8-sharpen", "sharpen", picture, sharpen, "0 -16 32 16" + 2 * "/ 0 -16 32 16"),
    ]


def _learned_kernel() -> WorkedExample:
    """Ten steps of gradient descent on the squared error, unrolled; the gradient is itself a cross-correlation."""
    nodes, kernel = [], "start"
    for step in range(1, STEPS + 1):
        following = "kernel" if step == STEPS else f"kernel_{step}"
        nodes += [
            _node("Conv", f"X {kernel}", f"prediction_{step}"),
            _node("Sub", f"prediction_{step} Y", f"error_{step}"),
            _node("Conv", f"X error_{step}", f"gradient_{step}"),
            _node("Mul", f"gradient_{step} twice_the_rate", f"change_{step}"),
            _node("Sub", f"{kernel} change_{step}", following),
        ]
        kernel = following
    edges = next(case for case in _kernels() if case.name == "7.2.3-edges")
    # The squared error's second derivative on this image has the eigenvalues 60 and 12: in a step, the sum of the two
    # weights nears 0 by the factor 1 - 60 RATE, and their difference nears 2 by 1 - 12 RATE. So the end is exact.
    start = Fraction(1, 4), Fraction(0)
    total = (start[0] + start[1]) * (1 - 60 * RATE) ** STEPS
    apart = (start[0] - start[1] - 2) * (1 - 12 * RATE) ** STEPS + 2
    return WorkedExample(
        "7.2.4-learned-kernel",
        "a kernel learned from input and output in ten steps",
        nodes,
        {"X": edges.inputs["X"], "Y": edges.expected["edges"], "start": _image("0.25 0")},
        {"kernel": np.array([[[[float((total + apart) / 2), float((total - apart) / 2)]]]])},
        {"twice_the_rate": np.array(float(2 * RATE))},
        TOLERANCE,
        TOLERANCE_REASON,
    )


def _paddings() -> list[WorkedExample]:
    small, kernel, large = _count(3, 3), _count(2, 2), _count(8, 8)
    padded = "0 3 8 4/ 9 19 25 10/ 21 37 43 16/ 6 7 8 0"
    same = (
        "133 205 238 271 304 337 370 235/ 327 474 510 546 582 618 654 402/ 543 762 798 834 870 906 942 570/"
        "759 1050 1086 1122 1158 1194 1230 738/ 975 1338 1374 1410 1446 1482 1518 906/"
        "1191 1626 1662 1698 1734 1770 1806 1074/ 1407 1914 1950 1986 2022 2058 2094 1242/"
        "655 835 850 865 880 895 910 493"
    )
    tall = (
        "633 960 1050 1140 1230 1320 1410 924/ 1142 1694 1796 1898 2000 2102 2204 1426/"
        "1720 2515 2620 2725 2830 2935 3040 1945/ 2320 3355 3460 3565 3670 3775 3880 2465/"
        "2920 4195 4300 4405 4510 4615 4720 2985/ 3520 5035 5140 5245 5350 5455 5560 3505/"
        "2378 3338 3404 3470 3536 3602 3668 2262/ 1407 1914 1950 1986 2022 2058 2094 1242"
    )
    half = "133 238 304 370/ 543 798 870 942/ 975 1374 1446 1518/ 1407 1950 2022 2094"
    wide = "1190 1795/ 3350 4315"
    mirrored = "4 3 4 5 4/ 1 0 1 2 1/ 4 3 4 5 4/ 7 6 7 8 7/ 4 3 4 5 4"
    repeated = "0 0 1 2 2/ 0 0 1 2 2/ 3 3 4 5 5/ 6 6 7 8 8/ 6 6 7 8 8"
    return [
        _conv("7.3.1-padding", "convolution, padding 1", small, kernel, padded, pad=(1, 1)),
        _conv("7.3.1-same-square", "8x8 to 8x8 by 3x3, padding 1", large, _count(3, 3), same, pad=(1, 1)),
        _conv("7.3.1-same-tall", "8x8 to 8x8 by 5x3, padding (2, 1)", large, _count(5, 3), tall, pad=(2, 1)),
        _conv(
            "7.3.2-stride",
            "convolution, padding 1, stride (3, 2)",
            small,
            kernel,
            "0 8/ 6 8",
            pad=(1, 1),
            stride=(3, 2),
        ),
        _conv("7.3.2-stride-half", "8x8 to 4x4 by 3x3, padding 1, stride 2", large, _count(3, 3), half, (1, 1), (2, 2)),
        _conv(
            "7.3.2-stride-wide",
            "8x8 to 2x2 by 3x5, padding (0, 1), stride (3, 4)",
            large,
            _count(3, 5),
            wide,
            (0, 1),
            (3, 4),
        ),
        _border("7.3.4-reflect", "reflect", mirrored, "5 7 13 11/ 17 19 25 23/ 35 37 43 41/ 23 25 31 29"),
        _border("7.3.4-replicate", "edge", repeated, "0 4 10 12/ 15 19 25 27/ 33 37 43 45/ 36 40 46 48"),
    ]


def _channels() -> list[WorkedExample]:
    image, kernel = _and_one_more(_count(3, 3)), _and_one_more(_count(2, 2))
    kernels = np.concatenate([kernel, kernel + 1, kernel + 2])
    three = "56 72/ 104 120// 76 100/ 148 172// 96 128/ 192 224"
    product = _image("72 78 84/ 90 96 102/ 108 114 120// 36 37 38/ 39 40 41/ 42 43 44")
    return [
        _conv("7.4.1-input-channels", "two input channels", image, kernel, "56 72/ 104 120"),
        _conv("7.4.2-output-channels", "three output channels", image, kernels, three),
        WorkedExample(
            "7.4.3-one-by-one",
            "a 1x1 convolution is a matrix product",
            [
                _node("Conv", "X K", "convolution"),
                _node("Reshape", "X columns", "X_matrix"),
                _node("Reshape", "K rows", "K_matrix"),
                _node("MatMul", "K_matrix X_matrix", "product_matrix"),
                _node("Reshape", "product_matrix image", "product"),
            ],
            {"X": np.arange(27).reshape(1, 3, 3, 3)},
            {"convolution": product, "product": product},
            {
                "K": np.array([[1.0, 2, 3], [-1, 0, 2]])[:, :, None, None],
                "columns": np.array([3, 9]),
                "rows": np.array([2, 3]),
                "image": np.array(product.shape),
            },
        ),
        _conv(  # Not in D2L. TF32 and half precision keep 11 bits, bfloat16 8: of these odd numbers they miss all.
            "7.4.3-one-by-one-full-precision",
            "a 1x1 convolution in full float32, which TF32 and half precision get wrong",
            _image("4097 4099/ 8191 -4101// 2 4/ -2 6"),
            np.array([[1, 4097], [3, -4099]])[:, :, None, None],
            "12291 20487/ -3 20481// 4093 -4099/ 32771 -36897",
        ),
    ]


def _poolings() -> list[WorkedExample]:
    three, four, stride = _count(3, 3), _count(4, 4), (2, 2)
    halved, rectangular = "5 7/ 13 15", "maximum pooling, window (2, 3), padding (0, 1), stride (2, 3)"
    negative, channels = four - 16, _and_one_more(four)
    counted, left_out = "0 0.75 0.75/ 3 7.5 4.5/ 3 6.75 3.75", "0 1.5 3/ 6 7.5 9/ 12 13.5 15"
    return [
        _pool("7.5.1-max", "maximum pooling", three, "4 5/ 7 8", (2, 2)),
        _pool("7.5.1-average", "average pooling", three, "2 3/ 5 6", (2, 2), padding_counts=True),
        _pool("7.5.2-window", "maximum pooling, window and stride 3", four, "10", (3, 3), stride=(3, 3)),
        _pool("7.5.2-padding", "maximum pooling, padding 1, stride 2", four, halved, (3, 3), (1, 1), stride),
        _pool("7.5.2-rectangular", rectangular, four, halved, (2, 3), (0, 1), (2, 3)),
        _pool(
            "7.5.2-negative", "maximum pooling, padding never wins", negative, "-11 -9/ -3 -1", (3, 3), (1, 1), stride
        ),
        _pool("7.5.2-padding-counts", "average pooling, padding counts", four, counted, (2, 2), (1, 1), stride, True),
        _pool(
            "7.5.2-padding-left-out", "average pooling, padding left out", four, left_out, (2, 2), (1, 1), stride, False
        ),
        _pool(
            "7.5.3-channels",
            "maximum pooling, each channel for itself",
            channels,
            halved + "// 6 8/ 14 16",
            (3, 3),
            (1, 1),
            stride,
        ),
    ]


def _conv(
    name: str, title: str, image: Array, kernel: Array, expected: str, pad: Size = (0, 0), stride: Size = (1, 1)
) -> WorkedExample:
    node = _node("Conv", "X K", "Y", pads=pad * 2, strides=stride)
    return WorkedExample(name, title, [node], {"X": image}, {"Y": _image(expected)}, {"K": kernel.astype(np.float32)})


def _border(name: str, mode: str, padded: str, expected: str) -> WorkedExample:
    title = f"{name.rpartition('-')[2]} padding, then cross-correlation"
    nodes = [_node("Pad", "X pads", "padded", mode=mode), _node("Conv", "padded K", "Y")]
    answers = {"padded": _image(padded), "Y": _image(expected)}
    constants = {"K": _count(2, 2), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1])}
    return WorkedExample(name, title, nodes, {"X": _count(3, 3)}, answers, constants)


def _pool(
    name: str,
    title: str,
    image: Array,
    expected: str,
    window: Size,
    pad: Size = (0, 0),
    stride: Size = (1, 1),
    padding_counts: bool | None = None,
) -> WorkedExample:
    """Maximum pooling, or average pooling where it is said whether the padding counts."""
    operator = "MaxPool" if padding_counts is None else "AveragePool"
    average = {} if padding_counts is None else {"count_include_pad": int(padding_counts)}
    node = _node(operator, "X", "Y", kernel_shape=window, pads=pad * 2, strides=stride, **average)
    return WorkedExample(name, title, [node], {"X": image}, {"Y": _image(expected)})


def _node(operator: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    return onnx.helper.make_node(operator, inputs.split(), [output], name=output, **attributes)


def _image(text: str) -> Array:
    """Read an image (1, C, H, W): / between rows, // between channels."""
    channels = [[row.split() for row in channel.split("/")] for channel in text.split("//")]
    return np.array([channels], np.float64)


def _count(height: int, width: int) -> Array:
    """0, 1, 2, ... row by row, as D2L fills its images: (1, 1, height, width)."""
    return np.arange(float(height * width)).reshape(1, 1, height, width)


def _and_one_more(image: Array) -> Array:
    """D2L's second channel: the first, plus one."""
    return np.concatenate([image, image + 1], axis=1)


if __name__ == "__main__":
    written = write_known_answers()
    print(f"{len(written)} known answers, {sum(path.stat().st_size for path in written):,} bytes, in {FOLDER}")
