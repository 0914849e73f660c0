"""Pictures and tensors of one batch: each is answered as if it were alone."""

import io
import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="the extra serve is not installed")

from runtime import Classifier
from runtime.contract import LOGITS
from runtime.images import to_pixels
from runtime.serving.inference import TensorJob, WantedOutput
from runtime.serving.limits import Limits
from runtime.serving.pictures import PictureJob, Wish
from runtime.serving.reply import Reply
from runtime.serving.served import ServedModel


@pytest.fixture
def model() -> Any:
    with Classifier("lenet", device="cpu") as classifier:
        served = ServedModel(classifier, Limits(), on_batch=lambda rows, dropped: None)
        yield served
        served.close()


def png(image: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def job(picture: bytes, max_pixels: int = 2**20, **wishes: Any) -> PictureJob:
    labels = tuple("0123456789")
    wish = Wish(pixels=True, **wishes)
    return PictureJob(picture, "picture", wish, {}, labels, max_pixels, gone=lambda: False, arrived=0.0)


def test_each_of_a_batch_of_every_kind_is_answered_as_if_alone(
    model: ServedModel, test_images: npt.NDArray[np.uint8]
) -> None:
    plain = [job(png(image)) for image in test_images[:20]]
    light = [job(png(255 - image)) for image in test_images[20:24]]
    others = [
        job(png(test_images[24]), invert="yes"),
        job(png(test_images[25]), fit="catalogue"),
        job(png(np.pad(test_images[26], 9))),
    ]
    pictures = [plain[0], light[0], *others, *plain[1:], *light[1:]]
    expected = [to_pixels(one.picture, invert=one.wish.invert, fit=one.wish.fit) for one in pictures]  # type: ignore[arg-type]  # files as yet
    tensors = TensorJob(
        test_images[:3, None], [WantedOutput(LOGITS, False, 0)], None, "lenet", plain[0].labels, lambda: False
    )

    first, *answers = model._run([tensors, *pictures])

    assert isinstance(first, Reply)
    assert json.loads(first.body)["outputs"][0]["shape"] == [3, 10]
    alone = model.classifier.logits(np.stack([pixels.array for pixels in expected])[:, None]).argmax(axis=1)
    for answer, pixels, index in zip(answers, expected, alone.tolist(), strict=True):
        assert isinstance(answer, Reply)
        document = json.loads(answer.body)
        assert document["pixels"] == pixels.array.tolist()
        assert (document["inverted"], document["index"]) == (pixels.inverted, index)


def test_a_single_picture_is_answered_too(model: ServedModel, test_images: npt.NDArray[np.uint8]) -> None:
    for image in (test_images[0], 255 - test_images[1]):
        one = job(png(image))
        (answer,) = model._run([one])

        assert isinstance(answer, Reply)
        assert json.loads(answer.body)["pixels"] == to_pixels(png(image)).array.tolist()


def test_a_limit_below_a_picture_holds_before_it_is_inflated(test_images: npt.NDArray[np.uint8]) -> None:
    one = job(png(test_images[0]), max_pixels=783)
    with pytest.raises(ValueError, match="783 pixels"):
        one.decode()
