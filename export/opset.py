"""The lowest opset and IR version that carry a graph unchanged, so that old runtimes load it."""

import onnx
import onnx.defs
import onnx.helper

LOWEST_OPSET = 13
# Attributes that a newer version of an operator added, with the value that means what the older version always did.
_ADDED_ATTRIBUTES: dict[str, dict[str, object]] = {
    "Reshape": {"allowzero": 0},
    "Resize": {"antialias": 0, "keep_aspect_ratio_policy": "stretch"},
    "AveragePool": {"dilations": None},
}


def lower_opset(model: onnx.ModelProto) -> None:
    """Declare the lowest opset under which every node means what it means now, and the IR version of its time.

    Nothing is converted: a version counts only if all operators have the same definition in it, or one that differs
    just by attributes that the node does not use.
    """
    (current,) = (opset for opset in model.opset_import if opset.domain == "")
    lowest = current.version
    while lowest > LOWEST_OPSET and all(_same_in(node, lowest - 1, current.version) for node in model.graph.node):
        lowest -= 1
    for node in model.graph.node:
        _drop_newer_attributes(node, lowest)
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", lowest))
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import))


def _same_in(node: onnx.NodeProto, version: int, current: int) -> bool:
    now = onnx.defs.get_schema(node.op_type, current, "")
    try:
        then = onnx.defs.get_schema(node.op_type, version, "")
    except onnx.defs.SchemaError:
        return False
    if then.since_version == now.since_version:
        return True
    if node.op_type not in _ADDED_ATTRIBUTES:
        return False
    neutral = _ADDED_ATTRIBUTES[node.op_type]
    return all(
        attribute.name in then.attributes or _value(attribute) == neutral.get(attribute.name, ...)
        for attribute in node.attribute
    )


def _drop_newer_attributes(node: onnx.NodeProto, version: int) -> None:
    known = onnx.defs.get_schema(node.op_type, version, "").attributes
    kept = [attribute for attribute in node.attribute if attribute.name in known]
    del node.attribute[:]
    node.attribute.extend(kept)


def _value(attribute: onnx.AttributeProto) -> object:
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value
