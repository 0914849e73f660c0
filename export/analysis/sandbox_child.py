"""The program of the process that `export.analysis.sandbox` starts: an ONNX file on stdin, limits as arguments, and on
stdout a line for each stage and one JSON document. It imports nothing of this project."""

import json
import math
import os
import sys
from collections.abc import Iterator
from typing import Any

import onnx
import onnx.checker
import onnx.helper
import onnx.shape_inference

# Stand for the symbol: with a number, inference resolves every shape, whoever wrote the graph; with two, what grows
# with the batch is told from what does not.
BATCHES = (3, 5)
LARGE = 1_024  # elements; a tensor of so many is no shape, and inference need not read it
MAX_ACTIVATION = 1 << 26  # elements of one value, for one image

# What a self-contained classifier has no use for.
_ABSENT = {
    "functions": "functions are not allowed, but the file defines some",
    "training_info": "training graphs are not allowed, but the file has one",
    "configuration": "device configurations are not allowed, but the file has some",
    "sparse_initializer": "sparse tensors are not allowed, but the file has some",
    "quantization_annotation": "quantization annotations are not allowed, but the file has some",
}
_FORBIDDEN = {
    "control flow": {"If", "Loop", "Scan"},
    "a random operator": {
        "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
    },
    "a string operator": {
        "RegexFullMatch", "StringConcat", "StringNormalizer", "StringSplit", "TfIdfVectorizer",
    },
    "a sequence operator": {
        "ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceInsert",
        "SequenceLength", "SequenceMap", "SplitToSequence",
    },
    "an optional operator": {"Optional", "OptionalGetElement", "OptionalHasElement"},
    "an image decoder": {"ImageDecoder"},
}  # fmt: skip


def examine(content: bytes, tell: Any = lambda stage: None) -> dict[str, Any]:
    """Return `{"refusal": str | None, "problem": str | None, "values": {name: [elem_type, shape, shape of a larger
    batch]}}`; may crash, which is what it is for."""
    tell("protobuf")
    model, refusal = _parsed(content)
    refusal = refusal or next(_refusals(model), None)
    if refusal:
        return {"refusal": refusal, "problem": None, "values": {}}
    tell("onnx's strict shape inference")
    problem = None
    try:
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        tell("onnx's checker")
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # the checker's and the inference's errors share no base class
        problem = " ".join(str(error).split())[:1000]
    tell("onnx's shape inference")
    light = _without_weights(model)
    values, larger = (_values(light, batch) for batch in BATCHES)
    for name, (_, shape) in values.items():
        size = math.prod(shape[1:])
        if size > MAX_ACTIVATION:
            return {"refusal": f"{name!r} would hold {size:,} numbers for one image", "problem": problem, "values": {}}
    tell("onnxruntime")
    _run(content, model)
    return {
        "refusal": None,
        "problem": problem,
        "values": {name: [*value, larger[name][1]] for name, value in values.items() if name in larger},
    }


def _parsed(content: bytes) -> tuple[Any, str | None]:
    """Parse a file; say why it is refused if it is no ONNX, or if another parser might read another model in it."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception as error:  # protobuf's own kind, which it keeps in a private module
        return model, f"the file is no ONNX, or a damaged one: {' '.join(str(error).split())[:200]}"
    if not model.HasField("graph"):
        return model, "the file has no graph: it is empty, cut off, or no ONNX"
    model.DiscardUnknownFields()
    if model.SerializeToString(deterministic=True) != content:
        return model, (
            "the bytes are not what onnx writes for this model: a field is unknown, stands twice, or is written in "
            "another form; load it with onnx.load and write it with onnx.save"
        )
    return model, None


def _refusals(model: Any) -> Iterator[str]:
    """Yield what makes a model depend on more than its file, in sentences."""
    for part in (model, model.graph):
        yield from (sentence for field, sentence in _ABSENT.items() if len(getattr(part, field, ())))
    domains = sorted({opset.domain for opset in model.opset_import if opset.domain not in ("", "ai.onnx")})
    used = {node.domain for node in model.graph.node}.intersection(domains)
    if domains:
        advice = "" if used else "; no node is of them: delete them from its opset_import"  # onnxruntime writes them so
        yield f"only the ai.onnx domain is allowed, but the file imports {', '.join(domains)[:200]}{advice}"
    tensors = list(model.graph.initializer)
    for node in model.graph.node:
        name = repr(node.name[:200])
        if node.domain not in ("", "ai.onnx"):
            yield f"only the ai.onnx domain is allowed, but node {name} is of {node.domain[:200]!r}"
        for kind, operators in _FORBIDDEN.items():
            if node.op_type in operators:
                yield f"node {name} is a {node.op_type}: {kind}, which a classifier has no use for"
        if getattr(node, "overload", ""):
            yield f"functions are not allowed, but node {name} names an overload of one, {node.overload[:40]!r}"
        for attribute in node.attribute:
            tensors += [attribute.t, *attribute.tensors]
            if attribute.HasField("g") or attribute.graphs:
                yield f"subgraphs are not allowed, but node {name} has one"
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                yield f"sparse tensors are not allowed, but node {name} has one"
            if attribute.ref_attr_name:
                yield f"functions are not allowed, but {attribute.name[:40]} of node {name} refers to one's attribute"
            if any(size < 1 for size in attribute.ints) and attribute.name in ("strides", "dilations", "kernel_shape"):
                yield f"{attribute.name} of node {name} should be 1 or more, but is {list(attribute.ints[:8])}"
    for tensor in tensors:
        if tensor.data_location == onnx.TensorProto.EXTERNAL or len(tensor.external_data):
            yield (
                f"external data is not allowed, but tensor {tensor.name[:200]!r} lies outside the file: load it with "
                "onnx.load beside its data, and write it with onnx.save"
            )


def _without_weights(model: Any) -> Any:
    """Return a copy in which large tensors have kept their types and sizes alone."""
    copy = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = copy.graph
    graph.name = model.graph.name
    for part in ("node", "input", "output"):
        getattr(graph, part).extend(getattr(model.graph, part))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) >= LARGE:
            graph.initializer.add(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
        else:
            graph.initializer.add().CopyFrom(tensor)
    return copy


def _values(model: Any, batch: int) -> dict[str, Any]:
    """Infer every shape from the inputs and the weights alone, for so many images."""
    for info in model.graph.input:
        for dim in info.type.tensor_type.shape.dim[:1]:
            dim.dim_value = batch
    for info in model.graph.output:
        info.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    except Exception:  # the strict run before this one has said why
        return {}
    return {
        info.name: [info.type.tensor_type.elem_type, [dim.dim_value for dim in info.type.tensor_type.shape.dim]]
        for info in [*inferred.input, *inferred.value_info, *inferred.output]
        if info.type.tensor_type.HasField("shape")
    }


def _run(content: bytes, model: Any) -> None:
    """Open a session and run one image. What onnxruntime raises is left to the checks, which say it in their words."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        feeds = {}
        for info in model.graph.input:
            shape = [dim.dim_value or 1 for dim in info.type.tensor_type.shape.dim]
            feeds[info.name] = np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type))
        session.run(None, feeds)
    except Exception as error:
        if "bad_alloc" in str(error) or "allocate" in str(error).lower():
            raise MemoryError from error


def _limit(memory: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: only the parent's timeout applies
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))


def main() -> int:
    _limit(int(sys.argv[1]), int(sys.argv[2]))
    try:
        answer = examine(sys.stdin.buffer.read(), lambda stage: print(stage, flush=True))
    except MemoryError:
        return 3
    print(json.dumps(answer), flush=True)
    return 0


if __name__ == "__main__":
    os._exit(main())  # skip finalisation: library teardown can hang
