"""`InputSpec`: what a file says of its input is what the runtime gives it, or is refused."""

import json

import numpy as np
import pytest

from runtime import ImageError, InputSpec, UsageError

SPECS = {
    "garment": InputSpec.fashion_mnist(),
    "normalised garment": InputSpec.fashion_mnist(mean=[0.286], std=[0.353]),
    "photo": InputSpec.photo(224, resize=256),
    "small": InputSpec.photo(32, resize=32, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bicubic"),
    "oblong grey": InputSpec.photo((48, 96), channels=1),
    "stretched": InputSpec.photo((48, 96), resize="stretch"),
    "floats": InputSpec.photo(32, datatype="FP32", range=(-1, 1)),
}


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_the_metadata_give_the_same_spec_back(spec):
    assert InputSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_its_own_images_are_what_it_accepts(spec):
    for images in (spec.zeros(2), spec.random(2), spec.structured()):
        assert spec.checked(images) is images
        assert images.shape[1:] == spec.shape
    assert len({image.tobytes() for image in spec.structured()}) == len(spec.structured())
    assert spec.from_levels(np.full((1, *spec.shape), 255, np.uint8)).max() == spec.range[1]


@pytest.mark.parametrize("name", ["photo", "floats"])
def test_arrays_of_another_type_shape_or_range_are_refused(name):
    spec = SPECS[name]
    good = spec.zeros(1)
    wrong = [good[0], good[:, :1], good[:, :, 1:], good.astype(np.float64), good.tolist()]
    if spec.datatype == "FP32":
        wrong += [good + 9, np.full_like(good, np.nan)]
    for array in wrong:
        with pytest.raises(ImageError, match="expected"):
            spec.checked(array)


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"size": (3, "a")},
        {"size": 10**6},
        {"resize": 10},
        {"resize": "fit"},
        {"mean": (1,)},
        {"std": (1, 0, 1)},
        {"std": None},
        {"interpolation": "nearest"},
        {"range": (0, 1)},
        {"datatype": "INT8"},
        {"datatype": "FP32", "range": (1, 0)},
    ],
)
def test_numbers_that_make_no_sense_are_refused_in_a_sentence(wrong):
    with pytest.raises(UsageError, match=r"InputSpec|height and a width"):
        InputSpec.photo(**({"size": 224} | wrong))


@pytest.mark.parametrize("path", [("shape", 2), ("pixel_format",), ("preprocess", "resize"), ("normalization", "std")])
def test_metadata_of_another_form_are_refused(path):
    stored = SPECS["photo"].as_dict()
    *parents, last = path
    place = stored
    for parent in parents:
        place = place[parent]
    for value in (None, True, "x", [], {}, -1):
        place[last] = value
        with pytest.raises(ValueError, match=r"\S"):
            InputSpec.from_dict(stored)
