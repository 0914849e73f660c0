"""The Open Inference Protocol, spoken by NVIDIA's own client and by hand, against `Classifier.logits`."""

import gzip
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.running_server import RunningServer

from runtime import Classifier

pytest.importorskip("starlette", reason="the extra serve is not installed")
from runtime.serving.open_inference import InferRequest, WantedOutput, infer_response

MODELS = ("lenet", "lenet-modern")
Images = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def triton() -> Any:
    return pytest.importorskip("tritonclient.http", reason="tritonclient[http] is not installed")


@pytest.fixture
def client(triton: Any, server: RunningServer) -> Iterator[Any]:
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield client
    client.close()


@pytest.fixture(scope="module")
def classifiers() -> dict[str, Classifier]:
    return {name: Classifier(name, device="cpu") for name in MODELS}


def tensor_of(triton: Any, images: Images, binary: bool = True) -> Any:
    tensor = triton.InferInput("image", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images, binary_data=binary)
    return tensor


def request(images: Images, **more: Any) -> dict[str, Any]:
    """An infer request as JSON."""
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(images.shape), "data": images.ravel().tolist()}
    return {"inputs": [tensor], **more}


def infer(server: RunningServer, document: Any, model: str = "lenet", **headers: str) -> tuple[int, Any]:
    answer = server.ask("POST", f"/v2/models/{model}/infer", json.dumps(document).encode(), headers)
    return answer.status, answer.json()


def test_tritons_client_finds_the_server_live_ready_and_described(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    metadata = client.get_server_metadata()
    assert metadata["name"] == "fashion-zoo"
    assert metadata["extensions"] == [
        "binary_tensor_data",
        "classification",
        "model_configuration",
        "statistics",
    ]
    assert [(row["name"], row["state"]) for row in client.get_model_repository_index()] == [
        (model, "READY") for model in MODELS
    ]


@pytest.mark.parametrize("model", MODELS)
def test_tritons_client_finds_the_models_described(client, model):
    assert client.is_model_ready(model)
    assert client.is_model_ready(model, "1")
    assert client.get_model_metadata(model, "1") == {
        "name": model,
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 1, 28, 28]}],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, 10]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
        ],
    }


@pytest.mark.parametrize("version", ["", "1"])
def test_tritons_client_gets_the_configuration(client, version):
    """Lost otherwise: perf_analyzer and clients that read the batch size and the shapes before they ask."""
    config = client.get_model_config("lenet", version)

    assert (config["name"], config["max_batch_size"]) == ("lenet", 64)
    assert config["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "dims": [1, 28, 28]}]
    assert [(row["name"], row["data_type"], row["dims"]) for row in config["output"]] == [
        ("logits", "TYPE_FP32", [10]),
        ("probabilities", "TYPE_FP32", [10]),
    ]


def test_tritons_client_gets_statistics_that_grow_with_what_is_answered(triton, client, test_images):
    """Lost otherwise: the share of time that requests wait and not compute, by which a server is sized."""

    def statistics() -> dict[str, Any]:
        (row,) = client.get_inference_statistics("lenet-modern", "1")["model_stats"]
        return dict(row)

    def infer(images: Images) -> None:
        client.infer("lenet-modern", [tensor_of(triton, images)])

    before = statistics()
    infer(test_images[:5, None].copy())
    infer(test_images[:2, None].copy())
    after = statistics()
    grown = {
        name: {key: row[key] - before["inference_stats"][name][key] for key in row}
        for name, row in after["inference_stats"].items()
    }

    assert after["inference_count"] - before["inference_count"] == 7
    assert after["execution_count"] - before["execution_count"] == 2
    assert after["last_inference"] >= before["last_inference"]
    assert [grown[name]["count"] for name in ("success", "queue", "compute_infer", "fail")] == [2, 2, 2, 0]
    assert grown["success"]["ns"] == grown["queue"]["ns"] + grown["compute_infer"]["ns"]
    assert min(grown["queue"]["ns"], grown["compute_infer"]["ns"]) > 0
    sizes = {row["batch_size"]: row["compute_infer"]["count"] for row in after["batch_stats"]}
    assert sum(sizes.values()) == after["execution_count"]
    assert {5, 2} <= set(sizes)
    assert {row["name"] for row in client.get_inference_statistics()["model_stats"]} == set(MODELS)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize(("binary_in", "binary_out"), [(True, True), (False, False), (True, False), (False, True)])
def test_tritons_client_gets_what_the_classifier_gives(
    triton, client, classifiers, test_images, model, batch, binary_in, binary_out
):
    images = test_images[:batch, None].copy()
    tensor = tensor_of(triton, images, binary_in)
    outputs = [triton.InferRequestedOutput(name, binary_data=binary_out) for name in ("probabilities", "logits")]
    result = client.infer(model, [tensor], outputs=outputs, request_id="a-7")

    np.testing.assert_array_equal(result.as_numpy("logits"), classifiers[model].logits(images))
    np.testing.assert_array_equal(result.as_numpy("probabilities"), classifiers[model].probabilities(images))
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("a-7", model, "1")
    assert [output["name"] for output in response["outputs"]] == ["probabilities", "logits"]


def test_without_named_outputs_tritons_client_gets_all_as_bytes(triton, client, classifiers, test_images):
    images = test_images[:3, None].copy()
    tensor = tensor_of(triton, images)
    result = client.infer("lenet", [tensor], request_compression_algorithm="gzip")

    np.testing.assert_array_equal(result.as_numpy("logits"), classifiers["lenet"].logits(images))
    assert [output["parameters"] for output in result.get_response()["outputs"]] == [{"binary_data_size": 120}] * 2


@pytest.mark.parametrize("binary", [True, False])
def test_the_classification_extension_names_the_highest_classes(triton, client, classifiers, test_images, binary):
    images = test_images[:2, None].copy()
    tensor = tensor_of(triton, images)
    wanted = triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)
    found = client.infer("lenet", [tensor], outputs=[wanted]).as_numpy("probabilities").astype(str)
    expected = [
        [f"{row[k]:f}:{k}:{classifiers['lenet'].labels[k]}" for k in np.argsort(-row)[:2]]
        for row in classifiers["lenet"].probabilities(images)
    ]

    assert found.tolist() == expected


def test_tritons_client_passes_our_sentence_on(triton, client, test_images):
    from tritonclient.utils import InferenceServerException

    tensor = tensor_of(triton, test_images[:1, None].copy())
    with pytest.raises(InferenceServerException, match="'vgg99' is not served here; served are lenet, lenet-modern"):
        client.infer("vgg99", [tensor])
    assert not client.is_model_ready("vgg99")
    assert not client.is_model_ready("lenet", "2")


def test_plain_json_gets_plain_json_nested_or_flat(server, classifiers, test_images):
    images = test_images[:2, None]
    flat = request(images, outputs=[{"name": "logits"}])
    nested = request(images, outputs=[{"name": "logits"}])
    nested["inputs"][0]["data"] = images.tolist()
    expected = classifiers["lenet"].logits(images)
    for document in (flat, nested):
        status, answer = infer(server, document)
        assert status == 200
        assert set(answer) == {"model_name", "model_version", "outputs"}
        (output,) = answer["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("logits", "FP32", [2, 10])
        np.testing.assert_array_equal(np.array(output["data"], np.float32).reshape(2, 10), expected)


def test_more_images_than_a_batch_are_answered_in_order(server, classifiers, test_images):
    images = test_images[:300, None]
    status, answer = infer(server, request(images, outputs=[{"name": "logits"}]))

    assert status == 200
    logits = np.array(answer["outputs"][0]["data"], np.float32).reshape(300, 10)
    np.testing.assert_allclose(logits, classifiers["lenet"].logits(images, 64), atol=1e-5)


def changed(**tensor: Any) -> dict[str, Any]:
    """A right request for one picture, but for these fields of its tensor; None leaves one out."""
    document = request(np.zeros((1, 1, 28, 28), np.uint8))
    document["inputs"][0] |= tensor
    document["inputs"] = [{key: value for key, value in document["inputs"][0].items() if value is not None}]
    return document


WRONG: list[tuple[str, Any, str]] = [
    ("a list", [], "should be a JSON object, not a list"),
    ("nothing", None, "should be a JSON object, not null"),
    ("no inputs", {}, "inputs should be a list of one object"),
    ("two inputs", {"inputs": [{}, {}]}, "found 2 of them"),
    ("id", {"id": 3} | changed(), "the id should be a string, not a number"),
    ("another name", changed(name="picture"), "there is no input 'picture'; expected 'image'"),
    ("another type", changed(datatype="FP32"), "is UINT8, not 'FP32'"),
    ("another side", changed(shape=[1, 1, 32, 32]), "[N, 1, 28, 28] with N from 1, not [1, 1, 32, 32]"),
    ("no images", changed(shape=[0, 1, 28, 28]), "with N from 1"),
    ("less than none", changed(shape=[-1, 1, 28, 28]), "with N from 1"),
    ("true is no number", changed(shape=[True, 1, 28, 28]), "with N from 1"),
    ("a huge number", changed(shape=[10**30, 1, 28, 28]), "at most 512 images are taken at once"),
    ("too few", changed(data=[0] * 783), "784 whole numbers from 0 to 255"),
    ("too many", changed(data=[0] * 785), "784 whole numbers from 0 to 255"),
    ("too large", changed(data=[256] * 784), "784 whole numbers from 0 to 255"),
    ("negative", changed(data=[-1] * 784), "784 whole numbers from 0 to 255"),
    ("enormous", changed(data=[10**40] * 784), "784 whole numbers from 0 to 255"),
    ("fractions", changed(data=[0.5] * 784), "784 whole numbers from 0 to 255"),
    ("words", changed(data=["0"] * 784), "784 whole numbers from 0 to 255"),
    ("ragged", changed(data=[[0] * 783, [0]]), "784 whole numbers from 0 to 255"),
    ("nested otherwise", changed(data=[[0] * 392] * 2), "784 whole numbers from 0 to 255"),
    ("no data", changed(data=None), "784 whole numbers from 0 to 255"),
    ("both kinds", changed(parameters={"binary_data_size": 784}), "both data and binary_data_size"),
    ("shared memory", changed(parameters={"shared_memory_region": "x"}), "shared memory"),
    ("parameters", changed(parameters=[]), "should be an object, not a list"),
    ("unknown output", {"outputs": [{"name": "scores"}]} | changed(), "'logits' and 'probabilities', each once"),
    ("an output twice", {"outputs": [{"name": "logits"}] * 2} | changed(), "each once"),
    ("outputs", {"outputs": 1} | changed(), "outputs should be a list of objects, not a number"),
    (
        "binary flag",
        {"outputs": [{"name": "logits", "parameters": {"binary_data": 1}}]} | changed(),
        "should be true or false",
    ),
    (
        "class count",
        {"outputs": [{"name": "logits", "parameters": {"classification": -1}}]} | changed(),
        "should be a number of classes",
    ),
]


@pytest.mark.parametrize(("document", "sentence"), [pytest.param(d, s, id=name) for name, d, s in WRONG])
def test_a_wrong_request_gets_400_and_the_sentence_that_says_what_is_wrong(server, document, sentence):
    status, answer = infer(server, document)

    assert status == 400
    assert list(answer) == ["error"]
    assert sentence in answer["error"]


@pytest.mark.parametrize(
    ("body", "header_length", "sentence"),
    [
        (b"{", None, "the request is not JSON"),
        (b"\xff\xfe", None, "the request is not JSON"),
        (b"[" * 200_000, None, "nested too deeply"),
        (b'{"id": ' + b"9" * 10_000 + b"}", None, "the request is not JSON"),
        (b"{}", "3", "says 3 bytes of JSON, in a body of 2"),
        (b"{}", "0", "says 0 bytes of JSON"),
        (b"{}", "+2", "should be a number of bytes"),
        (b"{}", "9" * 30, "should be a number of bytes"),
        (json.dumps(changed()).encode() + b"xx", None, "the request is not JSON"),
        (json.dumps(changed()).encode() + b"xx", str(len(json.dumps(changed()))), "2 bytes follow the JSON"),
    ],
)
def test_a_broken_body_gets_400_and_a_sentence(server, body, header_length, sentence):
    headers = {} if header_length is None else {"Inference-Header-Content-Length": header_length}
    answer = server.ask("POST", "/v2/models/lenet/infer", body, headers)

    assert answer.status == 400
    assert sentence in answer.json()["error"]


@pytest.mark.parametrize(("stated", "sent"), [(784, 783), (784, 785), (783, 783), (2**70, 784), (-784, 784)])
def test_bytes_that_are_not_as_many_as_stated_get_400(server, stated, sent):
    header = json.dumps(changed(data=None, parameters={"binary_data_size": stated})).encode()
    headers = {"Inference-Header-Content-Length": str(len(header))}
    answer = server.ask("POST", "/v2/models/lenet/infer", header + bytes(sent), headers)

    assert answer.status == 400
    assert f"takes 784 bytes; binary_data_size says {stated}, and {sent} bytes follow" in answer.json()["error"]


WRITING = ("POST", "PUT", "DELETE", "PATCH")


@pytest.mark.parametrize(
    ("path", "methods", "status", "says"),
    [
        ("/v2/models/nothing", ["GET"], 404, "is not served here"),
        ("/v2/models/lenet/versions/2", ["GET"], 404, ""),
        ("/v2/models/lenet/versions/2/ready", ["GET"], 404, ""),
        ("/v2/models/%2e%2e%2f", ["GET"], 404, ""),
        ("/v2/models/nothing/stats", ["GET"], 404, ""),
        ("/v2/models/lenet/versions/2/config", ["GET"], 404, ""),
        ("/../pyproject.toml", ["GET"], 404, ""),
        ("/examples/", ["GET"], 404, ""),
        *[
            (path, ["GET", *WRITING], 404, "there is nothing at ")
            for path in ("/nothing", "/v2/models/lenet/nothing", "/v2/", "/%2e%2e/store.py", "/a/" * 300)
        ],
        ("/v2/models/lenet/infer", ["GET"], 405, "POST"),
        ("/v2/repository/index", ["GET"], 405, "POST"),
        *[(path, ["POST"], 405, "GET, HEAD") for path in ("/", "/page.js", "/v2")],
    ],
)
def test_what_is_not_there_or_not_by_this_method_is_4xx_in_json(server, path, methods, status, says):
    """Lost otherwise: whoever mistypes a path is told that the method is wrong."""
    for method in methods:
        answer = server.ask(method, path, None if method == "GET" else b"x")

        assert answer.status == status
        assert answer.headers["content-type"] == "application/json"
        assert list(answer.json()) == ["error"]
        assert says in (answer.json()["error"] if status == 404 else answer.headers["allow"])


def test_what_is_no_number_is_null_in_the_answer_and_never_a_word_that_json_lacks():
    pixels = np.zeros((1, 1, 28, 28), np.uint8)
    request = InferRequest(pixels, [WantedOutput("logits", False, 0)], None)
    row = np.array([[np.nan, np.inf]], np.float32)

    body = bytes(infer_response(request, (row, row), "broken", ("a", "b")).body)
    (output,) = json.loads(body, parse_constant=pytest.fail)["outputs"]
    assert output["data"] == [None, None]


def test_a_compressed_body_is_taken_and_a_bomb_is_not(server, test_images):
    document = json.dumps(request(test_images[:1, None])).encode()
    taken = server.ask("POST", "/v2/models/lenet/infer", gzip.compress(document), {"Content-Encoding": "gzip"})
    bomb = server.ask("POST", "/v2/models/lenet/infer", gzip.compress(bytes(2**27)), {"Content-Encoding": "gzip"})
    cut = server.ask("POST", "/v2/models/lenet/infer", gzip.compress(document)[:-9], {"Content-Encoding": "gzip"})
    strange = server.ask("POST", "/v2/models/lenet/infer", document, {"Content-Encoding": "br"})

    assert [answer.status for answer in (taken, bomb, cut, strange)] == [200, 413, 400, 415]
