"""The verifier against files that are wrong in one thing, and against files that are merely written otherwise."""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from support.mutants import EQUIVALENTS, MUTANTS, become, change, make_network, unname_nodes
from support.number_mutants import NUMBER_MUTANTS, NUMBER_REWRITES, neutral
from torch import nn

from export import Description
from export.analysis.sandbox import Examination, read_answer
from export.analysis.sandbox_child import examine
from export.bundle.artifact import expectations
from export.convert.exporter import build_graph
from export.precision import Precision
from export.verification.checks import CHECKS
from export.verification.context import CheckFailed, VerificationContext
from runtime.datasets.fashion_mnist import LABELS

pytestmark = pytest.mark.slow

IMAGES = 64
CASES = [
    (name, check, network, mutate)
    for name, check, networks, mutate in [*MUTANTS, *NUMBER_MUTANTS]
    for network in networks
]
REWRITES = [
    (name, network, mutate) for name, networks, mutate in [*EQUIVALENTS, *NUMBER_REWRITES] for network in networks
]


class InProcess(VerificationContext):
    """These files are wrong, not hostile: asking the libraries right here saves a process for each."""

    @functools.cached_property
    def examination(self) -> Examination:
        return read_answer(examine(self.content))


@functools.cache
def good(name: str) -> tuple[nn.Module, bytes, Description]:
    network = make_network(name)
    precision = Precision("fp16" if name.endswith("fp16") else "fp32", "fp16" if "half-size" in name else "fp32")
    description = Description(name=name, labels=LABELS, seed=0, epochs=1, precision=precision)
    return network, build_graph(network, description.metadata(None)), description


def context_of(
    name: str, mutate: Any, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8]
) -> VerificationContext:
    network, content, description = good(name)
    model = onnx.load_from_string(content)
    mutate(model)
    return InProcess(
        network, model.SerializeToString(), images[:IMAGES, None].copy(), labels[:IMAGES], expectations(description)
    )


def verdict(check: str, context: VerificationContext) -> str | None:
    """Return why a check refuses the context, None if it does not."""
    try:
        CHECKS[check](context)
    except CheckFailed as failure:
        return str(failure)
    except Exception as error:
        return f"could not be run: {error}"
    return None


def test_there_are_sixty_mutants_and_more_and_each_check_has_some() -> None:
    assert len(CASES) >= 60
    assert {check for _, check, _, _ in CASES} == set(CHECKS)


@pytest.mark.parametrize(("name", "check", "network", "mutate"), CASES, ids=[f"{n}-{net}" for n, _, net, _ in CASES])
def test_a_mutant_is_caught_by_the_check_that_should_catch_it(
    name: str, check: str, network: str, mutate: Any, test_images: Any, test_labels: Any
) -> None:
    assert verdict(check, context_of(network, mutate, test_images, test_labels))


@pytest.mark.parametrize(("name", "network", "mutate"), REWRITES)
def test_a_rewrite_that_changes_nothing_passes_every_check(
    name: str, network: str, mutate: Any, test_images: Any, test_labels: Any
) -> None:
    context = context_of(network, mutate, test_images, test_labels)

    assert {check: reason for check in CHECKS if (reason := verdict(check, context))} == {}


def test_a_failed_parity_names_the_layer_at_which_it_begins(test_images: Any, test_labels: Any) -> None:
    context = context_of("lenet", become("Sigmoid", "Tanh", nth=1), test_images, test_labels)

    assert "first to leave the network is node 'network.4/Sigmoid', module 'network.4'" in (
        verdict("parity", context) or ""
    )
    assert "its input, from network.3, is off by" in (verdict("parity", context) or "")


def test_it_is_named_though_nothing_in_the_file_has_its_old_name(test_images: Any, test_labels: Any) -> None:
    def mutate(model: onnx.ModelProto) -> None:
        change("Conv", 1, lambda weights: weights * 1.01, nth=1)(model)
        unname_nodes(model)

    reason = verdict("parity", context_of("lenet", mutate, test_images, test_labels)) or ""

    assert "module 'network.3'" in reason


def test_a_number_that_is_not_the_networks_is_listed_and_a_parameter_that_it_stands_in_for_is_missed(
    test_images: Any, test_labels: Any
) -> None:
    """A user who wonders what an editor put into a file reads it in the report; only a changed weight is a failure."""
    rewritten = context_of("lenet", neutral("Mul", 1.5), test_images, test_labels)
    changed = context_of("lenet", change("Div", 1, lambda std: std * 1.5), test_images, test_labels)

    assert CHECKS["weights"](rewritten).measures["unexplained"] == ["inert [], 1.5, read by node 'same'"]
    assert "preprocess.std" in (verdict("weights", changed) or "")
