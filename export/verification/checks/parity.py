"""Check: the graph's numbers are the network's, within a measured tolerance, see `export.verification.evidence`.

A file with rounded weights is asked twice: read as float32 it must be the network with these weights as exactly as any
other file, and as it is it must be within the multiple of what the same rounding costs PyTorch. One with integers is
besides held to what rounding their factors costs PyTorch: that does not hide behind the larger error of the weights,
and shows saturation. docs/how-to/precision.md says what follows.
"""

import os
from typing import Any

import numpy as np

from export.verification.context import CheckFailed, CheckResult, VerificationContext
from export.verification.evidence import NOISE_MULTIPLE, OUTPUTS
from export.verification.first_divergence import first_departure
from export.verification.speed import adds_products_in_32_bits
from runtime.evaluation.parity import AS_QUANTIZED, READ_AS_FLOAT
from runtime.model.metadata import LOGITS

_NO_VNNI = ("SSE41", "AVX", "AVX2", "AVX512_CORE")  # instruction sets, as oneDNN calls them


def parity(context: VerificationContext) -> CheckResult:
    found = context.parity
    plain = found.get(READ_AS_FLOAT, {})
    for output, row in plain.items():
        if not row["max_abs_diff"] <= row["tolerance"]:
            raise CheckFailed(
                f"read as float32, {output} differ from the float64 network with rounded weights by up to "
                f"{_excess(row)}{_where(context, row['worst_image'])}",
                found,
            )
    for output, row in found.get(AS_QUANTIZED, {}).items():
        if not row["max_abs_diff"] <= row["tolerance"]:
            raise CheckFailed(
                f"{output} differ from the float64 network with rounded weights by up to {_excess(row)}; read as "
                f"float32 they are right{_saturation(context)}",
                found,
            )
    for output in OUTPUTS:
        row = found[output]
        if not np.isfinite(row["noise_floor"]):
            remedy = "export it as fp32" if context.precision.rounds else "a weight is not finite, or a sum overflows"
            raise CheckFailed(f"{output} are beyond {context.precision} already in PyTorch: {remedy}", found)
        if not row["max_abs_diff"] <= row["tolerance"]:
            where = "; read as float32 they are right" if plain else _where(context, row["worst_image"])
            raise CheckFailed(f"{output} differ from the float64 network by up to {_excess(row)}{where}", found)
    row = found[LOGITS]
    told = f"; read as float32 within {plain[LOGITS]['max_abs_diff']:.2g}" if plain else ""
    return CheckResult(
        f"logits within {row['max_abs_diff']:.2g} of the float64 network on {row['images']} images{told}; "
        f"{row['floor_of']} is {row['noise_floor']:.2g}, allowed is {NOISE_MULTIPLE} x that",
        found,
    )


def _saturation(context: VerificationContext) -> str:
    """Name the likely cause where sums of two products of uint8 and int8 have 16 bits: on a CPU without VNNI, and where
    oneDNN, on which OpenVINO runs, is told not to use it."""
    if context.precision.dtype != "int8":
        return ""
    if not adds_products_in_32_bits():
        cause = "this CPU has no VNNI"
    elif context.engine == "openvino" and (allowed := os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()) in _NO_VNNI:
        cause = f"ONEDNN_MAX_CPU_ISA={allowed} allows no VNNI"
    else:
        return ""
    return f"; {cause}, and sums saturate at 16 bits there: export as fp16, or where the CPU has VNNI"


def _excess(row: dict[str, Any]) -> str:
    return (
        f"{row['max_abs_diff']:.3g} ({row['worst_on']}), but at most {row['tolerance']:.3g} is allowed: "
        f"{row['multiple']} x {row['floor_of']}"
    )


def _where(context: VerificationContext, worst: int) -> str:
    """Say at which layer it begins, on the picture that shows it best and a few more."""
    images = np.concatenate(list(context.parity_inputs.values()))[[worst, 0, 1, -1][: max(2, context.at_once // 4)]]
    try:
        departure = first_departure(context, images, NOISE_MULTIPLE)
    except Exception as error:  # the verdict stands without it
        return f"; where it begins could not be found: {' '.join(str(error).split())}"
    return (
        f"; {departure}" if departure else "; every layer that could be matched in the file is within its own tolerance"
    )
