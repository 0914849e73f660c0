"""Clients that lie, stall, leave or flood: each gets 4xx or 503 with a sentence, or nothing; the server lives."""

import contextlib
import http.client
import json
import random
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.running_server import Answer, RunningServer, many_connections, predict_request, read_answer

Images = npt.NDArray[np.uint8]
SEED = 8


def talk(server: RunningServer, sent: bytes) -> Answer:
    with server.connect() as connection:
        connection.sendall(sent)
        return read_answer(connection)


def refused(answer: Answer, status: int, *words: str) -> None:
    assert answer.status == status
    document = answer.json()
    assert set(document) <= {"error", "kind"}
    for word in words:
        assert word in document["error"]


STRANGE = [
    None, True, -1, 0, 1.5, 1e308, 2**63, 2**64, 10**400, "", "\0", "\ud800", "image", "logits", "UINT8", "NaN",
    [], {}, [[]], [None], {"a": {}}, [1, 1, 28, 28], [2**62, 1, 28, 28], [1, 1, 28, "28"], "A" * 5000,
]  # fmt: skip
WORDS = ["0", "-1", "1", "9" * 50, "NaN", "lenet", "a" * 300, "%ff%fe", "%2e%2e", "1_0", "0x10"]


def wrong_request(rng: random.Random, picture: bytes) -> tuple[str, str, bytes, dict[str, str]]:
    """Three right requests, of which fields of the JSON are replaced, or bytes changed, cut or doubled; or nonsense."""

    def word() -> str:
        return rng.choice(WORDS)

    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 28, 28], "data": [0] * 784}
    parameters: dict[str, Any] = {}
    output: dict[str, Any] = {"name": "logits", "parameters": {}}
    document = {"id": "1", "parameters": parameters, "inputs": [tensor], "outputs": [output]}
    for _ in range(rng.randint(1, 3)):
        target = rng.choice([document, tensor, output, parameters])
        key = rng.choice([*target, "binary_data_size", "binary_data", "classification", "data", "x"])
        target[key] = rng.choice(STRANGE)
    infer, body = "/v2/models/lenet/infer", json.dumps(document).encode()
    form = b'--b\r\nContent-Disposition: form-data; name="f"; filename="x.png"\r\n\r\n' + picture + b"\r\n--b--\r\n"
    query = rng.choice(["", "", f"?topk={word()}", f"?{word()}={word()}", "?%", "?="])
    path = "/" + "/".join(rng.choice(["v2", "models", "lenet", "infer", "..", "%00", word()]) for _ in range(5))
    method, size = rng.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "POST", "HEAD"]), rng.randint(0, 300)
    return rng.choice(
        [
            ("POST", infer, body, {}),
            ("POST", infer, body, {"Inference-Header-Content-Length": word()}),
            ("POST", infer, damaged(rng, body), {}),
            ("POST", f"/predict{query}", damaged(rng, picture), {}),
            ("POST", "/predict", damaged(rng, form), {"Content-Type": "multipart/form-data; boundary=b"}),
            (method, path, rng.randbytes(size), {"Content-Encoding": rng.choice(["gzip", "deflate", "br", word()])}),
        ]
    )


def damaged(rng: random.Random, content: bytes) -> bytes:
    data = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        at, length = rng.randrange(len(data) + 1), rng.randint(1, 40)
        put = rng.choice([b"", rng.randbytes(length), bytes(data[at : at + length])])
        data[at : at + length * rng.randint(0, 1)] = put
    return bytes(data)


def test_a_thousand_malformed_requests_get_4xx_with_a_sentence_and_the_server_lives(server, boot):
    rng = random.Random(SEED)
    statuses: dict[int, int] = {}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        for number in range(1000):
            method, path, body, headers = wrong_request(rng, boot)
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
            statuses[response.status] = statuses.get(response.status, 0) + 1
            what = f"request {number}: {method} {path} {headers} {body[:200]!r} was answered {content[:300]!r}"

            # Some changes change nothing that matters: those are answered.
            assert response.status == 200 or 400 <= response.status < 500, what
            assert b"Traceback" not in content, what
            assert b".py" not in content, what
            if response.status != 200 and method != "HEAD":
                sentence = json.loads(content)["error"]
                assert 10 < len(sentence) < 400, what
                assert "\n" not in sentence, what

    assert sum(count for status, count in statuses.items() if status != 200) > 800, statuses
    assert server.alive()


@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_over_the_limit_gets_413_whether_or_not_it_says_its_length(server, chunked):
    size = 3 * 2**20
    if chunked:
        piece = b"10000\r\n" + bytes(2**16) + b"\r\n"
        sent = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + piece * (size // 2**16)
        sent += b"0\r\n\r\n"
    else:
        sent = predict_request(bytes(size))
    refused(talk(server, sent), 413, "at most 1048576 bytes")
    assert server.alive()


def test_who_asks_before_sending_too_much_is_told_not_to(server, boot):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: "
    refused(talk(server, head + b"99999999999\r\n\r\n"), 413, "the body is too long")
    with server.connect() as connection:
        connection.sendall(head + str(len(boot)).encode() + b"\r\n\r\n")
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(boot)
        assert read_answer(connection).json()["label"] == "Ankle boot"


CHUNKED = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("host", ["[", "[::1", "a:b:c", "x" * 5000, ""])
@pytest.mark.parametrize("path", ["/nothing", "/predict", "/examples", "//x//y"])
def test_a_strange_host_is_no_fault_of_the_server(server, host, path):
    answer = talk(server, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    refused(answer, 405 if path == "/predict" else 404)


def test_a_body_in_chunks_of_one_byte_is_read(server, boot):
    sent = CHUNKED + b"".join(b"1\r\n%c\r\n" % byte for byte in boot) + b"0\r\n\r\n"
    assert talk(server, sent).json()["label"] == "Ankle boot"


def test_http_1_0_is_answered_and_closed(server, boot):
    with server.connect() as connection:
        connection.sendall(predict_request(boot).replace(b"HTTP/1.1", b"HTTP/1.0"))
        received = b""
        while more := connection.recv(2**16):
            received += more

    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in received


def test_what_is_no_path_is_answered_in_json(server):
    refused(talk(server, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n"), 404, "there is nothing at ")


def test_an_offer_of_another_protocol_is_passed_over(server):
    head = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    for offer in (b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n", b"Upgrade: websocket\r\n"):
        assert talk(server, head + offer + b"\r\n").json() == {"live": True}


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),  # TLS, spoken to a plain port
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"POST /predict HTTP/1.1\r\nHost : x\r\n\r\n",
    ],
)
def test_what_is_no_http_gets_400_and_the_server_lives(server, sent):
    """Lost otherwise: requests smuggled past a proxy, or the server."""
    assert talk(server, sent).status == 400
    assert server.alive()


@pytest.mark.parametrize("offer", ["Upgrade: h2c", "Upgrade: websocket"])
def test_a_body_behind_an_offer_of_another_protocol_is_refused_with_the_cause(server, boot, offer):
    """Lost otherwise: an hour, for whose client offers HTTP/2 in passing, as Java's does: uvicorn drops the body."""
    answer = talk(server, predict_request(boot, "/predict", "Connection: Upgrade", offer)[: -len(boot)])
    refused(answer, 400, "send it as plain HTTP/1.1")
    assert server.alive()


def test_a_slow_body_gets_408_however_steadily_it_drips(server):
    began = time.monotonic()
    with server.connect() as connection:
        for drip in [b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", b"a", b"b", b"c"]:
            connection.sendall(drip)
            time.sleep(0.3)
        answer = read_answer(connection)

    refused(answer, 408, "the request's body took longer than 1.5 seconds")
    assert 1.3 < time.monotonic() - began < 15


def test_a_long_body_that_is_announced_and_never_sent_gets_413_at_once(server):
    sent = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 900000000\r\n\r\n"
    refused(talk(server, sent), 413, "the body is too long")


def test_clients_that_come_and_go_leave_nothing_behind(server, boot):
    whole = predict_request(boot)
    for number in range(300):
        with server.connect() as connection:
            connection.sendall(whole[: number * len(whole) // 300])
    deadline = time.monotonic() + 20
    while server.metric("fashion_zoo_connections") > 1 and time.monotonic() < deadline:
        time.sleep(0.1)

    assert server.metric("fashion_zoo_connections") == 1  # the one that asks
    assert server.metric("fashion_zoo_queue_pictures") == 0
    assert server.alive()


def test_requests_of_clients_that_have_left_are_not_computed(boot, own_home):
    from support.running_server import require_serve

    require_serve()
    with RunningServer("-m", "lenet", "-b", "1") as running:  # one by one, so that a queue forms
        computed = running.metric("fashion_zoo_batch_pictures_sum", model="lenet")
        with many_connections(running, 200) as connections:
            for connection in connections:
                connection.sendall(predict_request(boot))
        deadline = time.monotonic() + 20
        while running.metric("fashion_zoo_queue_pictures") > 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        computed = running.metric("fashion_zoo_batch_pictures_sum", model="lenet") - computed
        dropped = running.metric("fashion_zoo_dropped_requests_total", model="lenet")

        assert computed + dropped <= 200
        assert dropped > 50
        assert running.alive()
