"""How many files with one mistake are refused, and by which check; how many correct files are refused.

    pip install polygraphy                         # one of the tools that are measured beside
    python benchmarks/mutation_score.py            # writes results/mutation_score.json

Each mutant goes through every check, and counts as caught only if the check that should refuse it does. Those in
float32 whose mistake is in the numbers, not in labels or the like, are also given to other tools, with their limits as
they are by default and two pictures of random pixels: `torch.onnx.verification.verify_onnx_program`, as
`torch.onnx.export(verify=True)` does, and polygraphy, as `polygraphy run --onnxrt --load-outputs` does. There, a file
that cannot be run counts as refused.
"""

import argparse
import functools
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnx_ir  # noqa: E402
import torch.onnx.verification  # noqa: E402
from conditions import save  # noqa: E402
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx  # noqa: E402
from polygraphy.comparator import Comparator  # noqa: E402
from polygraphy.logger import G_LOGGER  # noqa: E402
from support.mutant_checks import context_of, good, verdict  # noqa: E402
from support.mutants import MUTANTS  # noqa: E402
from support.rewrites import EQUIVALENTS  # noqa: E402

from export.verification.checks import CHECKS  # noqa: E402
from runtime.datasets import fashion_mnist  # noqa: E402

NUMBERS = ("batch", "shapes", "weights", "parity", "decisions")  # checks of what other tools compare, too


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    G_LOGGER.severity = G_LOGGER.CRITICAL
    images, labels = fashion_mnist.load("test")
    rows, alarms, rewrites = [], [], []
    started = time.perf_counter()
    for name, check, networks, mutate in MUTANTS:
        for network in networks:
            context = context_of(network, mutate, images[:, 0], labels)
            refusals = all_refusals(context)
            row = {"mutant": name, "network": network, "check": check, "caught": check in refusals}
            others = by_other_tools(network, context.content) if check in NUMBERS else {}
            rows.append(row | others | {"by": list(refusals), "detail": refusals.get(check)})
    for name, networks, mutate in EQUIVALENTS:
        for network in networks:
            context = context_of(network, mutate, images[:, 0], labels)
            rewrites.append(by_other_tools(network, context.content))
            if refusals := all_refusals(context):
                alarms.append({"rewrite": name, "network": network, "refusals": refusals})
    caught = sum(row["caught"] for row in rows)
    figures: dict[str, Any] = {
        "mutants": len(rows),
        "caught_by_the_right_check": caught,
        "score": caught / len(rows),
        "rewrites": len(rewrites),
        "rewrites_refused": alarms,
        "other_tools": {
            tool: {
                "mutants": len(found := [row[tool] for row in rows if tool in row]),
                "caught": sum(found),
                "rewrites": len(rewritten := [row[tool] for row in rewrites if tool in row]),
                "rewrites_refused": sum(rewritten),
            }
            for tool in TOOLS
        },
        "seconds": round(time.perf_counter() - started, 1),
        "rows": rows,
    }
    print(save("mutation_score", figures))
    print(f"{caught} of {len(rows)} mutants caught by the right check; {len(alarms)} rewrites refused")
    print(figures["other_tools"])


def all_refusals(context: Any) -> dict[str, str]:
    """Run every check; after `self-contained` fails no other is run, as in `verify`."""
    refusals: dict[str, str] = {}
    for check in CHECKS:
        reason = verdict(check, context)
        if reason:
            refusals[check] = reason
            if check == "self-contained":
                break
    return refusals


def by_other_tools(network: str, content: bytes) -> dict[str, bool]:
    """Whether each tool refuses the file, or cannot run it; {} of float16, for which their limits are not meant."""
    if "half" in network or network.endswith("fp16"):
        return {}
    found = {}
    for tool, is_refused in TOOLS.items():
        try:
            found[tool] = is_refused(network, content)
        except Exception:
            found[tool] = True
    return found


@functools.cache
def asked(network: str) -> tuple[Any, torch.Tensor]:
    """PyTorch's program of a network, and the two pictures."""
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 1, 28, 28), np.uint8))
    dynamic = ({0: torch.export.Dim.DYNAMIC},)
    return torch.export.export(good(network)[0], (pixels,), dynamic_shapes=dynamic), pixels


def torch_refuses(network: str, content: bytes) -> bool:
    model = onnx_ir.serde.deserialize_model(onnx.load_from_string(content))
    compared = torch.onnx.verification.verify_onnx_program(torch.onnx.ONNXProgram(model, asked(network)[0]))
    return any(output.max_abs_diff >= 5e-3 or output.max_rel_diff >= 1e-1 for output in compared)


def polygraphy_refuses(network: str, content: bytes) -> bool:
    program, pixels = asked(network)
    runner = OnnxrtRunner(SessionFromOnnx(content), name="file")
    found = Comparator.run([runner], data_loader=[{"image": pixels.numpy()}])
    with torch.no_grad():
        found.add([{"logits": program.module()(pixels).numpy()}], runner_name="PyTorch")
    return not bool(Comparator.compare_accuracy(found))


TOOLS = {"torch.onnx verify": torch_refuses, "polygraphy": polygraphy_refuses}


if __name__ == "__main__":
    main()
