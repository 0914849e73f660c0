"""The names that other people's code may rely on."""

import importlib

import pytest

PUBLIC = {
    "runtime": [
        "Candidate",
        "Classifier",
        "DatasetError",
        "DeviceUnavailable",
        "FashionZooError",
        "ImageError",
        "InputSpec",
        "ModelInvalid",
        "ModelNotFound",
        "Prediction",
        "UsageError",
        "list_models",
    ],
    "export": ["Description", "Report", "VerificationFailed", "export_network", "fit_confidence", "verify"],
    "zoo": ["create_model", "list_models"],
}


@pytest.mark.parametrize("package", PUBLIC)
def test_a_package_advertises_exactly_its_public_names_and_has_them(package):
    module = importlib.import_module(package)

    assert module.__all__ == PUBLIC[package]
    for name in module.__all__:
        assert getattr(module, name).__doc__, f"{package}.{name} has no docstring"


@pytest.mark.parametrize("package", PUBLIC)
def test_a_name_that_is_not_there_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        importlib.import_module(package).nonsense  # noqa: B018 - the access is the test


def test_every_error_of_the_project_has_one_root_and_a_documented_exit_code():
    from export.verification.report import VerificationFailed
    from runtime import errors
    from zoo.runs.checkpoint import CheckpointError

    leaves = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.FashionZooError)
    ]

    assert {leaf.exit_code for leaf in leaves} == {1, 2, 4}
    assert VerificationFailed.exit_code == 3
    assert issubclass(CheckpointError, errors.FashionZooError)
