"""The opset and IR version that a file states: the lowest that carry the graph unchanged, or one that was asked for."""

import onnx
import onnx.defs
import onnx.helper

from runtime.errors import UsageError

OPSETS = range(13, 24)  # what a file may state
# Attributes that a newer version of an operator added, with the value that means what the older version always did.
_ADDED_ATTRIBUTES: dict[str, dict[str, object]] = {
    "Reshape": {"allowzero": 0},
    "Resize": {"antialias": 0, "keep_aspect_ratio_policy": "stretch"},
    "AveragePool": {"dilations": None},
}


def require_opset(opset: int | None) -> None:
    """Raise UsageError unless a file may state this opset."""
    if opset is not None and opset not in OPSETS:
        raise UsageError(f"the opset should be from {OPSETS.start} to {OPSETS.stop - 1}, not {opset}")


def settle_opset(model: onnx.ModelProto, wanted: int | None = None) -> None:
    """Declare the lowest opset under which every node means what it means now, or the one `wanted`, and the IR version
    of its time.

    Nothing is converted: a version counts only if all operators have the same definition in it, or one that differs
    just by attributes that the node does not use.

    Raises:
        UsageError: the opset wanted does not carry the graph.
    """
    (current,) = (opset for opset in model.opset_import if opset.domain == "")
    lowest = current.version
    while lowest > OPSETS.start and all(_same_in(node, lowest - 1, current.version) for node in model.graph.node):
        lowest -= 1
    stated = lowest if wanted is None else wanted
    for node in model.graph.node:
        if stated < lowest and not _same_in(node, lowest - 1, current.version):
            raise UsageError(f"opset {stated} cannot carry the graph: node {node.name!r} needs {lowest} or later")
        if stated > current.version and not _widened_in(node, stated, current.version):
            raise UsageError(f"opset {stated} cannot carry the graph: node {node.name!r} means something else there")
        _drop_newer_attributes(node, stated)
    del model.opset_import[:]
    model.opset_import.append(onnx.helper.make_opsetid("", stated))
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


def _widened_in(node: onnx.NodeProto, version: int, current: int) -> bool:
    """Whether a newer version of an operator only takes more: types, or attributes that may be left out."""
    now, then = (onnx.defs.get_schema(node.op_type, opset, "") for opset in (current, version))
    added = [attribute for name, attribute in then.attributes.items() if name not in now.attributes]
    arity = [(s.min_input, s.max_input, s.min_output, s.max_output) for s in (now, then)]
    kept = {attribute.name for attribute in node.attribute} <= set(then.attributes)
    return not then.deprecated and arity[0] == arity[1] and kept and not any(attribute.required for attribute in added)


def _drop_newer_attributes(node: onnx.NodeProto, version: int) -> None:
    known = onnx.defs.get_schema(node.op_type, version, "").attributes
    kept = [attribute for attribute in node.attribute if attribute.name in known]
    del node.attribute[:]
    node.attribute.extend(kept)


def _value(attribute: onnx.AttributeProto) -> object:
    value = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value
