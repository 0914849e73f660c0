"""Find the first layer of the file whose result differs from the float64 network's."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from export.analysis.layer_matching import values_of_modules
from export.analysis.references import perturbed
from export.convert.graph import with_outputs
from export.verification.context import VerificationContext
from export.verification.evidence import SUMS_SHARE, Floats, Pixels
from runtime.model.spec import INPUT
from runtime.session.session import open_session


def first_departure(context: VerificationContext, images: Pixels, noise_multiple: float) -> str | None:
    """Name the first layer that leaves its tolerance, of those that could be matched in the file; None where none does.

    The file is read as float32, and the network run on the same pictures. The tolerance of a layer is derived as that
    of the outputs is: float32's own error at this layer.
    """
    exact = _results(context.double_rounded.network, context.double_rounded, images)
    own = _results(context.rounded, context.rounded, images)
    inexact = _results(context.rounded, perturbed(context.rounded), images)
    ran = [(name, context.network.get_submodule(name)) for name in exact]
    values = values_of_modules(ran, context.network, context.plain.graph, context.provenance.places)
    merged = set(context.provenance.folded.values())  # a layer that a batch norm was folded into has no result
    order = {name: position for position, node in enumerate(context.plain.graph.node) for name in node.output}
    told = sorted((order[value], name) for name, value in values.items() if name not in merged and value in order)
    found = _values(context, images, [values[name] for _, name in told])
    before, error_before = None, 0.0
    for position, name in told:
        reference, value = exact[name], found[values[name]]
        rounding = float(np.finfo(np.float32).eps) / 2 * float(np.abs(reference).max())
        sums = SUMS_SHARE * float(np.abs(inexact[name] - reference).max())
        tolerance = noise_multiple * max(float(np.abs(own[name] - reference).max()), sums, rounding)
        same = value.size == reference.size  # an exporter may have merged a last reshape with the one behind it
        error = float(np.abs(value.reshape(reference.shape) - reference).max()) if same else float("inf")
        if not error <= tolerance:
            node = context.plain.graph.node[position]
            origin = f"its input, from {before}, is off by {error_before:.2g}" if before else "it is the first"
            return (
                f"the first to leave the network is node {node.name or values[name]!r}, module {name!r}: off by "
                f"{error:.3g}, allowed is {tolerance:.2g}; {origin}"
            )
        before, error_before = name, error
    return None


def _results(network: nn.Module, call: Callable[..., Any], images: Pixels) -> dict[str, Floats]:
    """Return the result of every leaf module of `network`, which `call` calls; of one that runs again, the last."""
    results: dict[str, Floats] = {}

    def noting(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: results.__setitem__(name, output.detach().clone().double().numpy())

    handles = [
        module.register_forward_hook(noting(name))
        for name, module in network.named_modules()
        if name and not list(module.children())
    ]
    try:
        with torch.no_grad():
            call(torch.from_numpy(images))
    finally:
        for handle in handles:
            handle.remove()
    return results


def _values(context: VerificationContext, images: Pixels, names: list[str]) -> dict[str, Floats]:
    """Run the file with these inner values as outputs too."""
    wanted = list(dict.fromkeys(names))
    content = with_outputs(context.plain, wanted).SerializeToString()
    session = open_session(content, context.device, what="the file").session
    return dict(zip(wanted, session.run(wanted, {INPUT: images}), strict=True)) if wanted else {}
