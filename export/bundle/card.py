"""The model card: `README.md` beside the file, generated from its index entry."""

from typing import Any

from export.precision import FULL, Precision
from export.verification.accuracy_change import AccuracyChange
from runtime.model.registry import MODEL_FILE
from runtime.model.spec import InputSpec

FASHION_MNIST_DATA = "Fashion-MNIST"
LISTED = 20  # labels
_COLOURS = {"Gray8": "grey", "Rgb8": "RGB"}


def model_card(entry: dict[str, Any]) -> str:
    """Return the card of an index entry as Markdown."""
    name, file = entry["name"], entry.get("file", MODEL_FILE).rpartition("/")[2]
    labels = entry["labels"]
    spec = InputSpec.from_dict(entry["input"])
    lines = [
        f"# {name}",
        "",
        f"Classifies {spec.height}x{spec.width} {_COLOURS[spec.pixel_format]} pictures"
        f"{' of garments' if spec.preprocess == 'garment' else ''} into {len(labels):,} classes:",
        f"{', '.join(labels[:LISTED])}{f' and {len(labels) - LISTED:,} more' if len(labels) > LISTED else ''}.",
        "One self-contained ONNX file, which scales and normalises inside. This card is generated from `index.json`.",
        "",
        "| | |",
        "|---|---|",
    ]
    rows = {"made by": f"`{entry['rebuild']}`; the file is too large for the repository"} if "rebuild" in entry else {}
    rows |= {
        "file": f"`{file}`, {entry['bytes']:,} bytes, opset {entry['opset']}, IR version {entry['ir_version']}",
        "sha256": f"`{entry['sha256']}`",
        "parameters": f"{entry['parameters']:,}",
        "work per image": f"{entry['flops']:,} floating-point operations",
        "inputs": "; ".join(map(_tensor, entry["inputs"])),
        "outputs": "; ".join(map(_tensor, entry["outputs"])),
        "test accuracy": _accuracy(entry["accuracy"]),
    }
    if entry["recipe"] and entry["trained_on"]:
        rows["training"] = _training(entry)
    rows["weights from"] = _checkpoint(entry["checkpoint"])
    rows["verified"] = f"{entry['verified']['date']}: {', '.join(entry['verified']['checks'])}"
    if entry["license"]:
        rows["license"] = entry["license"]
    if Precision.of(entry) != FULL:
        rows["precision"] = _precision(entry)
    if entry["confidence"]:
        rows["confidence"] = _confidence(entry["confidence"])
    lines += [f"| {label} | {value} |" for label, value in rows.items()]
    lines += [
        "",
        "## Use",
        "",
        *_input(spec),
        "",
        "```python",
        "import json, numpy, onnxruntime",
        "",
        f'session = onnxruntime.InferenceSession("{file}")',
        'labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])',
        f"images = numpy.zeros({(1, *spec.shape)}, numpy.{spec.dtype})",
        'logits, probabilities = session.run(["logits", "probabilities"], {"image": images})',
        "print(labels[logits[0].argmax()])",
        "```",
        "",
        "`test_data_set_0/` holds pictures and the PyTorch network's answers to them, in ONNX's own test format.",
        "",
    ]
    return "\n".join([*lines, *_limits(entry)])


def _limits(entry: dict[str, Any]) -> list[str]:
    """Say what it was trained on, where that is known."""
    dataset = entry["dataset"]
    if dataset is None:
        return []
    if dataset != FASHION_MNIST_DATA:
        return ["## Limits", "", f"Trained on {dataset}. Of any other picture it also names one of its classes.", ""]
    score = (entry["confidence"] or {}).get("score")
    doubt = "though the score tells many such pictures apart" if score else "and confidently"
    return [
        "## Limits",
        "",
        "Trained on Fashion-MNIST: catalogue pictures of single garments. Of anything else it also names one of its",
        f"classes, {doubt}. Shirts, coats, pullovers and T-shirts are what it confuses most.",
        "",
    ]


def _input(spec: InputSpec) -> list[str]:
    """Say what the input is, and how a picture becomes one."""
    tensor = f"`{spec.dtype} [batch, {', '.join(map(str, spec.shape))}]`"
    if spec.preprocess == "garment":
        return [
            f"The input is {tensor}: grey, 0 to 255, a light garment on black. A photograph must",
            "be cropped to the garment and, with a light background, inverted; `runtime predict` does that by itself.",
        ]
    low, high = spec.range
    return [
        f"The input is {tensor}: {_COLOURS[spec.pixel_format]}, {low:g} to {high:g}. Of a picture:",
        f"{spec.framing} ({spec.interpolation}, with antialias);",
        f"`runtime predict` does that by itself.{' The graph normalises.' if spec.mean else ''}",
    ]


def _tensor(spec: dict[str, Any]) -> str:
    return f"`{spec['name']}` {spec['datatype']} [{', '.join(map(str, spec['shape']))}]"


def _precision(entry: dict[str, Any]) -> str:
    precision, rounding = Precision.of(entry), entry.get("rounding")
    parts = [str(precision), *([str(AccuracyChange(**rounding))] if rounding else [])]
    quantization = entry.get("quantization") or {}
    if calibration := quantization.get("calibration"):
        parts.append(f"activations calibrated on {calibration['images']:,} training images")
    if layers := quantization.get("float_layers"):
        parts.append(f"in float32: {', '.join(f'`{layer}`' for layer in layers)}")
    parts += [
        f"at batch {speed['batch']} {speed['ratio']:.2f} times as fast as float32, on the machine that exported it"
        for speed in quantization.get("speed", [])
    ]
    return "; ".join(parts)


def _confidence(confidence: dict[str, Any]) -> str:
    fitted, ece, score = confidence["fitted_on"], confidence["ece"], confidence["score"]
    parts = [f"`probabilities` are softmax(logits / {confidence['temperature']:g})"]
    if fitted:
        parts[0] += f", fitted on {fitted['n']:,} images ({fitted['split']})"
    if ece:
        parts.append(
            f"expected calibration error on {ece['n']:,} test images {ece['before']:.4f} without the temperature, "
            f"{ece['after']:.4f} with it"
        )
    if score:
        parts.append(f"a score of the logits with a threshold, above which {score['kept']:.0%} of such images are")
    return "; ".join(parts)


def _accuracy(accuracy: dict[str, Any] | None) -> str:
    if accuracy is None:
        return "not declared"
    return f"{accuracy['top1']:.4f} ({accuracy['correct']:,} of {accuracy['n']:,})"


def _training(entry: dict[str, Any]) -> str:
    recipe, trained_on = entry["recipe"], entry["trained_on"]
    return (
        f"recipe `{recipe['name']}`, {entry['epochs']} epochs, seed {entry['seed']}, {trained_on['seconds']:.0f} s on "
        f"{trained_on['device']}, PyTorch {trained_on['torch']}"
    )


def _checkpoint(checkpoint: dict[str, str] | None) -> str:
    return f"`{checkpoint['file']}`, sha256 `{checkpoint['sha256']}`" if checkpoint else "not published"
