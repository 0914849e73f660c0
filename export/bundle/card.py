"""The model card: `README.md` beside the file, generated from its index entry."""

from typing import Any

from export.precision import FULL, Precision
from export.verification.accuracy_change import AccuracyChange
from runtime.model.registry import MODEL_FILE


def model_card(entry: dict[str, Any]) -> str:
    """Return the card of an index entry as Markdown."""
    name, file = entry["name"], entry.get("file", MODEL_FILE).rpartition("/")[2]
    lines = [
        f"# {name}",
        "",
        f"Classifies 28x28 grey pictures of garments into {len(entry['labels'])} classes:",
        f"{', '.join(entry['labels'])}.",
        "One self-contained ONNX file; preprocessing is inside. This card is generated from `index.json`.",
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
        "inputs": "; ".join(_tensor(spec) for spec in entry["inputs"]),
        "outputs": "; ".join(_tensor(spec) for spec in entry["outputs"]),
        "test accuracy": _accuracy(entry["accuracy"]),
        "training": _training(entry),
        "weights from": _checkpoint(entry["checkpoint"]),
        "verified": f"{entry['verified']['date']}: {', '.join(entry['verified']['checks'])}",
        "license": entry["license"],
    }
    if Precision.of(entry) != FULL:
        rows["precision"] = _precision(entry)
    lines += [f"| {label} | {value} |" for label, value in rows.items()]
    lines += [
        "",
        "## Use",
        "",
        "The input is `uint8 [batch, 1, 28, 28]`: grey, 0 to 255, a light garment on black. A photograph with a light",
        "background must be inverted first; `runtime predict` does that by itself.",
        "",
        "```python",
        "import json, numpy, onnxruntime",
        "",
        f'session = onnxruntime.InferenceSession("{file}")',
        'labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])',
        "images = numpy.zeros((1, 1, 28, 28), numpy.uint8)",
        'logits, probabilities = session.run(["logits", "probabilities"], {"image": images})',
        "print(labels[logits[0].argmax()])",
        "```",
        "",
        "`test_data_set_0/` holds pictures and the PyTorch network's answers to them, in ONNX's own test format.",
        "",
        "## Limits",
        "",
        "Trained on Fashion-MNIST: catalogue pictures of single garments. Of anything else it also names one of its",
        "classes, and confidently. Shirts, coats, pullovers and T-shirts are what it confuses most.",
        "",
    ]
    return "\n".join(lines)


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
        f"{speed['ratio']:.2f}x as fast as float32 at batch {speed['batch']} where it was exported"
        for speed in quantization.get("speed", [])
    ]
    return "; ".join(parts)


def _accuracy(accuracy: dict[str, Any] | None) -> str:
    if accuracy is None:
        return "not declared"
    return f"{accuracy['top1']:.4f} ({accuracy['correct']:,} of {accuracy['n']:,})"


def _training(entry: dict[str, Any]) -> str:
    recipe, trained_on = entry["recipe"], entry["trained_on"]
    if not recipe or not trained_on:
        return "not described"
    return (
        f"recipe `{recipe['name']}`, {entry['epochs']} epochs, seed {entry['seed']}, {trained_on['seconds']:.0f} s on "
        f"{trained_on['device']}, PyTorch {trained_on['torch']}"
    )


def _checkpoint(checkpoint: dict[str, str] | None) -> str:
    return f"`{checkpoint['file']}`, sha256 `{checkpoint['sha256']}`" if checkpoint else "not published"
