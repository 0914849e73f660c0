"""The page as files: what it ships is what it says, and nothing in it comes from elsewhere."""

import re

import numpy as np
import pytest
from PIL import Image
from support.page_files import EXAMPLES, PAGE

from runtime.datasets.fashion_mnist import LABELS


def test_there_is_one_example_of_each_class():
    assert sorted(label for _, label in EXAMPLES) == sorted(LABELS)
    assert {f"{name}.png" for name, _ in EXAMPLES} == {path.name for path in (PAGE / "examples").iterdir()}


@pytest.mark.parametrize(("name", "label"), EXAMPLES)
def test_an_example_is_the_first_test_image_of_its_class(name, label, test_images, test_labels):
    first = test_images[np.flatnonzero(test_labels == LABELS.index(label))[0]]

    np.testing.assert_array_equal(np.asarray(Image.open(PAGE / "examples" / f"{name}.png")), first)


@pytest.mark.parametrize("file", ["index.html", "style.css", "page.js", "predictor.js"])
def test_the_page_refers_to_nothing_outside_itself(file):
    text = (PAGE / file).read_text()

    assert not re.findall(r"https?://|//\w+\.\w+/|@import|<script>|<style|\sstyle=|\son\w+=", text)
    for target in re.findall(r'(?:src|href)="([^"]+)"', text):
        assert (PAGE / target).is_file(), target


def test_every_element_that_the_script_asks_for_is_in_the_page():
    ids = set(re.findall(r'\bid="([\w-]+)"', (PAGE / "index.html").read_text()))

    assert set(re.findall(r'element\("([\w-]+)"\)', (PAGE / "page.js").read_text())) <= ids
