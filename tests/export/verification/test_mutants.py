"""The checks against files that are wrong in one thing, and against files that are merely written otherwise."""

from typing import Any

import onnx
import pytest
from support.graph_edits import become, change
from support.mutant_checks import context_of, verdict
from support.mutants import MUTANTS
from support.rewrites import EQUIVALENTS, neutral, unname_nodes

from export.verification.checks import CHECKS


def of_each(network: str, *values: Any) -> Any:
    """A case of every run if it is of the smallest network, else of `make test-all` alone."""
    return pytest.param(
        network, *values, id=f"{values[0]}-{network}", marks=() if network == "lenet" else pytest.mark.slow
    )


CASES = [of_each(network, name, check, mutate) for name, check, networks, mutate in MUTANTS for network in networks]
REWRITES = [of_each(network, name, mutate) for name, networks, mutate in EQUIVALENTS for network in networks]


def test_there_are_sixty_mutants_and_more_and_each_check_has_some():
    assert len(CASES) >= 60
    assert {case.values[2] for case in CASES} == set(CHECKS)


@pytest.mark.parametrize(("network", "name", "check", "mutate"), CASES)
def test_a_mutant_is_caught_by_the_check_that_should_catch_it(network, name, check, mutate, test_images, test_labels):
    assert verdict(check, context_of(network, mutate, test_images, test_labels))


@pytest.mark.parametrize(("network", "name", "mutate"), REWRITES)
def test_a_rewrite_that_changes_nothing_passes_every_check(network, name, mutate, test_images, test_labels):
    context = context_of(network, mutate, test_images, test_labels)

    assert {check: reason for check in CHECKS if (reason := verdict(check, context))} == {}


def test_a_failed_parity_names_the_layer_at_which_it_begins(test_images, test_labels):
    context = context_of("lenet", become("Sigmoid", "Tanh", nth=1), test_images, test_labels)

    assert "first to leave the network is node 'network.4/Sigmoid', module 'network.4'" in (
        verdict("parity", context) or ""
    )
    assert "its input, from network.3, is off by" in (verdict("parity", context) or "")


def test_it_is_named_though_nothing_in_the_file_has_its_old_name(test_images, test_labels):
    def mutate(model: onnx.ModelProto) -> None:
        change("Conv", 1, lambda weights: weights * 1.01, nth=1)(model)
        unname_nodes(model)

    reason = verdict("parity", context_of("lenet", mutate, test_images, test_labels)) or ""

    assert "module 'network.3'" in reason


def test_a_number_that_is_not_the_networks_is_listed_and_a_parameter_that_it_stands_in_for_is_missed(
    test_images, test_labels
):
    """A user who wonders what an editor put into a file reads it in the report; only a changed weight is a failure."""
    rewritten = context_of("lenet", neutral("Mul", 1.5), test_images, test_labels)
    changed = context_of("lenet", change("Div", 1, lambda std: std * 1.5), test_images, test_labels)

    assert CHECKS["weights"](rewritten).measures["unexplained"] == ["inert [], 1.5, read by node 'same'"]
    assert "preprocess.std" in (verdict("weights", changed) or "")
