"""`POST /predict`: the answer of `runtime predict`, for any way in which a picture arrives."""

import json

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.pictures import encoded
from support.running_server import RunningServer, many_connections, predict_request, read_answer

from runtime import Classifier, prediction
from runtime.imaging.preprocess import to_pixels

Images = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def photo(test_images: Images) -> bytes:
    """A boot as a camera sees one: large, in colour, dark on light."""
    large = Image.fromarray(255 - test_images[0]).resize((700, 700)).convert("RGB")
    page = Image.new("RGB", (1000, 900), "white")
    page.paste(large, (150, 100))
    return encoded(page, format="JPEG")


def test_the_answer_is_that_of_the_command_line(server, boot):
    answer = server.ask("POST", "/predict?topk=3", boot)
    document = answer.json()
    expected = prediction.as_dict("picture", Classifier("lenet", device="cpu").predict(boot, topk=3))

    assert answer.status == 200
    assert {key: document[key] for key in expected if key not in ("top", "warnings")} == pytest.approx(
        {key: value for key, value in expected.items() if key not in ("top", "warnings")}, abs=1e-6
    )
    assert document["warnings"] == expected["warnings"] == []
    assert [row["label"] for row in document["top"]] == [row["label"] for row in expected["top"]]
    assert (document["model"], document["device"]) == ("lenet", "cpu")
    assert 0 < document["milliseconds"] < 60_000
    assert "pixels" not in document


def test_a_photo_is_answered_with_what_the_network_saw(server, photo):
    document = server.ask("POST", "/predict?model=lenet-modern&pixels=true&topk=99", photo).json()

    assert (document["label"], document["model"], document["inverted"]) == ("Ankle boot", "lenet-modern", True)
    np.testing.assert_array_equal(document["pixels"], to_pixels(photo).array)
    assert len(document["top"]) == 10
    assert sum(row["probability"] for row in document["top"]) == pytest.approx(1, abs=1e-5)


def test_a_form_with_a_file_is_taken_by_its_name(server, boot, photo):
    for name, picture in (("boot.png", boot), ("photo.jpg", photo)):
        body = (
            b'--edge\r\nContent-Disposition: form-data; name="note"\r\n\r\nmine\r\n--edge\r\n'
            b'Content-Disposition: form-data; name="file"; filename="' + name.encode() + b'"\r\n'
            b"Content-Type: image/png\r\n\r\n" + picture + b"\r\n--edge--\r\n"
        )
        answer = server.ask("POST", "/predict", body, {"Content-Type": "multipart/form-data; boundary=edge"})

        assert (answer.status, answer.json()["source"], answer.json()["label"]) == (200, name, "Ankle boot")


@pytest.mark.parametrize(
    ("content_type", "body", "sentence"),
    [
        ("multipart/form-data", b"", "Missing boundary"),
        ("multipart/form-data; boundary=edge", b"", "it holds no file"),
        ("multipart/form-data; boundary=edge", b"hello", "cannot be read"),
        (
            "multipart/form-data; boundary=edge",
            b'--edge\r\nContent-Disposition: form-data; name="a"; fi',
            "it holds no file",
        ),
        (
            "multipart/form-data; boundary=edge",
            b'--edge\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--edge--\r\n',
            "it holds no file; expected one file",
        ),
        (
            "multipart/form-data; boundary=edge",
            b'--edge\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nc\r\n' * 2 + b"--edge--\r\n",
            "Maximum number of files is 1",
        ),
        ("multipart/form-data; boundary=" + "x" * 300, b"--" + b"x" * 300, "cannot be read"),
    ],
)
def test_a_broken_form_gets_400_and_a_sentence(server, content_type, body, sentence):
    answer = server.ask("POST", "/predict", body, {"Content-Type": content_type})

    assert answer.status == 400
    assert sentence in answer.json()["error"]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("colour=red", "'colour' is not known; expected one of model, topk, invert, fit, pixels"),
        ("topk=0", "topk cannot be '0'; expected a whole number from 1"),
        ("topk=1e3", "expected a whole number from 1"),
        ("topk=" + "9" * 5000, "expected a whole number from 1"),
        ("invert=maybe", "expected one of auto, yes, no"),
        ("fit=tight", "expected one of auto, exact, catalogue"),
        ("pixels=perhaps", "expected one of true, 1, false, 0"),
        ("topk=1&topk=2", "given twice"),
        ("topk", "the query cannot be read"),
        ("model=%ff", "the query cannot be read"),
    ],
)
def test_a_wrong_query_gets_400_and_a_sentence(server, boot, query, sentence):
    answer = server.ask("POST", f"/predict?{query}", boot)

    assert answer.status == 400
    assert sentence in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 400, "empty"),
        (b"hello", 415, "not_an_image"),
        (b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94\x8c\x06system\x94\x93\x94.", 415, "not_an_image"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), 400, "corrupt"),
    ],
)
def test_what_is_no_picture_is_4xx_with_its_kind(server, body, status, kind):
    answer = server.ask("POST", "/predict", body)

    assert (answer.status, answer.json()["kind"]) == (status, kind)


def test_a_small_file_of_too_many_pixels_is_413_before_it_is_decoded(server):
    bomb = encoded(Image.new("1", (9000, 9000)))
    answer = server.ask("POST", "/predict", bomb)

    assert len(bomb) < 20_000
    assert (answer.status, answer.json()["kind"]) == (413, "too_large")
    assert "9000x9000; at most 67108864 pixels" in answer.json()["error"]


def test_pictures_of_many_clients_at_once_are_not_mixed_up(server, test_images, photo):
    classifier = Classifier("lenet", device="cpu")
    pictures = [encoded(Image.fromarray(image)) for image in test_images[:63]]
    expected = [prediction.index for prediction in classifier.predict_batch(pictures)]
    pictures.insert(20, photo)  # another way through the server: decoded in a thread of its own
    expected.insert(20, 9)
    with many_connections(server, len(pictures)) as connections:
        for connection, picture in zip(connections, pictures, strict=True):
            connection.sendall(predict_request(picture))
        found = [read_answer(connection).json()["index"] for connection in connections]

    assert found == expected


def test_the_polarity_may_be_overruled(server, boot):
    document = server.ask("POST", "/predict?pixels=1&invert=yes", boot).json()

    assert document["inverted"]
    np.testing.assert_array_equal(document["pixels"], to_pixels(boot, invert="yes").array)


def test_requests_sent_without_waiting_are_answered_in_order(server, test_images):
    pictures = [encoded(Image.fromarray(image)) for image in test_images[:20]]
    expected = [prediction.index for prediction in Classifier("lenet", device="cpu").predict_batch(pictures)]
    with server.connect() as connection:
        connection.sendall(b"".join(predict_request(picture) for picture in pictures))
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        received = b""
        while more := connection.recv(65536):
            received += more
    bodies = [part.split(b"\r\n\r\n", 1)[1] for part in received.split(b"HTTP/1.1 200 OK")[1:]]

    assert [json.loads(body)["index"] for body in bodies[:-1]] == expected
    assert json.loads(bodies[-1]) == {"live": True}


def test_the_page_comes_with_a_policy_that_lets_nothing_else_in(server):
    for path, kind in (("/", "text/html"), ("/page.js", "javascript"), ("/examples/bag.png", "image/png")):
        answer = server.ask("GET", path)

        assert answer.status == 200
        assert kind in answer.headers["content-type"]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_metrics_are_prometheus_text_and_count(server, boot):
    before = server.metric("fashion_zoo_requests_total", endpoint="predict", status="200")
    batches = server.metric("fashion_zoo_batch_pictures_sum", model="lenet")
    for _ in range(3):
        server.ask("POST", "/predict", boot)
    answer = server.ask("GET", "/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert server.metric("fashion_zoo_requests_total", endpoint="predict", status="200") == before + 3
    assert server.metric("fashion_zoo_batch_pictures_sum", model="lenet") == batches + 3
    assert server.metric("fashion_zoo_queue_pictures") == 0
    assert server.metric("process_resident_memory_bytes") > 1e6
    names = {line.split()[2] for line in answer.body.decode().splitlines() if line.startswith("# TYPE")}
    assert {"fashion_zoo_requests_total", "fashion_zoo_batch_pictures", "fashion_zoo_dropped_requests_total"} <= names


def test_a_user_file_is_served_by_its_own_name(tmp_path, boot, own_home):
    from support.running_server import require_serve

    from runtime.model.registry import find_model

    require_serve()
    with RunningServer("-m", str(find_model("lenet-modern").path)) as running:
        assert running.ask("POST", "/predict", boot).json()["model"] == "lenet-modern"
