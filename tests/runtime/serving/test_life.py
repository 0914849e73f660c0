"""A server from its start to its end: the port, readiness, a full queue, and a stop under load."""

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.command_line import call
from support.running_server import (
    Answer,
    RunningServer,
    ask_app,
    lenet_app,
    many_connections,
    predict_request,
    read_answer,
)

from runtime import Classifier
from runtime.errors import FashionZooError
from runtime.model.registry import StoredModel
from runtime.model.spec import FASHION_MNIST

pytest.importorskip("starlette", reason="the extra serve is not installed")
from runtime.serving import models
from runtime.serving.limits import Limits, Reservation, Usage
from runtime.serving.models import ServedModel
from runtime.serving.server import LEAVE_SECONDS, bind, serve_until_stopped

pytestmark = pytest.mark.slow

ENDED = 15.0  # seconds: 5 where a core is free, and less than any limit of a connection's own


def test_the_server_listens_on_this_machine_only(server):
    assert server.url.startswith("http://127.0.0.1:")


def test_a_taken_port_is_one_sentence_and_exit_1(server):
    done = call("runtime", "serve", "-m", "lenet", "--device", "cpu", "--port", server.port)

    assert done.exit_code == 1
    assert done.stderr == (
        f"Error: cannot listen on 127.0.0.1, port {server.port}: Address already in use; stop what uses it, or choose "
        "another with --port\n"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--host", "192.0.2.1"], 1, "cannot listen on 192.0.2.1"),
        (["--host", "127.0.0..1"], 1, "cannot listen on 127.0.0..1"),
        (["--host", "no.such.host.invalid"], 1, "cannot listen on no.such.host.invalid"),
        (["-m", "lenett"], 1, "did you mean 'lenet'?"),
        (["-m", "lenet", "-m", "lenet"], 2, "two models are called 'lenet'"),
        (["--port", "70000"], 2, "70000 is not in the range"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(boot, arguments, code, words):
    done = call("runtime", "serve", "--port", "0", "--device", "cpu", *arguments)

    assert done.exit_code == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_the_port_refuses_connections_until_every_model_is_warm(monkeypatch, boot):
    """Lost otherwise: whoever takes an open port for a server that is ready."""

    tried: list[type[Exception]] = []

    def warm_up(model: ServedModel) -> None:
        try:
            socket.create_connection(bound.getsockname(), timeout=5).close()
        except OSError as error:
            tried.append(type(error))
        raise FashionZooError("that is enough")

    monkeypatch.setattr(ServedModel, "warm_up", warm_up)
    with bind("127.0.0.1", 0) as bound, pytest.raises(FashionZooError, match="that is enough"):
        serve_until_stopped(bound, [Classifier("lenet", device="cpu")], Limits())

    assert tried == [ConnectionRefusedError]


def test_a_server_that_is_being_stopped_is_no_longer_ready_and_closes_connections(boot):
    with lenet_app() as (app, _, _):
        assert ask_app(app, "GET", "/v2/health/ready", b"", []).status == 200
        app.state.stopping = True
        ready = ask_app(app, "GET", "/v2/health/ready", b"", [])
        predicted = ask_app(app, "POST", "/predict", boot, [])

    assert (ready.status, ready.headers["retry-after"]) == (503, "1")
    assert (predicted.status, predicted.headers["connection"]) == (200, "close")


def test_a_fault_of_the_server_is_a_500_with_a_sentence_and_is_counted(monkeypatch, boot):
    """Lost otherwise: the error's form, and the alarm of whoever watches the metrics."""
    sent: list[Any] = []
    with lenet_app() as (app, models, metrics):
        monkeypatch.setattr(models.get(None).classifier, "outputs", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):  # which the HTTP server logs
            ask_app(app, "POST", "/predict", boot, sent)

    assert sent[0]["status"] == 500
    assert b"its log says why" in sent[1]["body"]
    assert b'fashion_zoo_requests_total{endpoint="predict",status="500"} 1.0' in metrics.text()
    assert b"fashion_zoo_queue_pictures 0.0" in metrics.text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_the_warm_up_ends_the_process(boot, number):
    """Lost otherwise: the stop of a server whose model takes long to prepare."""
    program = (
        "import os, time, runtime.serving.models as models; from runtime.cli import runtime; "
        "models.ServedModel.warm_up = lambda _: (os.write(2, b'warm\\n'), time.sleep(60)); "
        "runtime(['serve', '-m', 'lenet', '--device', 'cpu', '--port', '0'])"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        while process.stderr.readline() not in (b"warm\n", b""):
            pass
        process.send_signal(number)
        try:
            assert process.wait(20) != 0
        finally:
            process.kill()


class Device:
    """Stands for a classifier: notes the batches, and fails at some."""

    name, labels, input = "stand-in", ("a", "b"), FASHION_MNIST

    def __init__(self, device: str, fails: bool = False) -> None:
        self.device, self.fails = device, fails
        self.sizes: list[int] = []

    def outputs(self, pixels: npt.NDArray[np.uint8], batch_size: int) -> Any:
        if self.fails:
            raise RuntimeError("CUDA failure 2:\nout of memory")
        self.sizes.append(len(pixels))


@pytest.mark.parametrize(("device", "warmed"), [("cuda:0", [1, 2, 4, 8, 16, 32, 48]), ("cpu", [1])])
def test_a_gpu_is_warmed_for_every_size_however_long_each_takes(monkeypatch, boot, device, warmed):
    monkeypatch.setattr(models, "WARM_UP_SECONDS", 0.0)
    stand_in = Device(device)
    model = ServedModel(stand_in, Limits(max_batch=48), lambda *_: None)  # type: ignore[arg-type]
    model.warm_up()
    model.close()

    assert stand_in.sizes == warmed


def test_a_device_that_fails_in_the_warm_up_is_one_sentence(boot):
    model = ServedModel(Device("cuda:0", fails=True), Limits(), lambda *_: None)  # type: ignore[arg-type]
    with pytest.raises(FashionZooError) as raised:
        model.warm_up()
    model.close()

    assert str(raised.value) == (
        "stand-in cannot be warmed up on cuda:0: CUDA failure 2: out of memory; try another --device"
    )


def test_the_longest_body_has_room_beside_its_compressed_form(boot):
    limits = Limits(max_body=2**29)
    usage = Usage(limits)
    with Reservation(usage) as reservation:
        reservation.add_bytes(limits.max_body)
        reservation.add_bytes(limits.max_body)
        assert usage.held == 2**30
    assert usage.held == 0


@pytest.mark.parametrize(("stated", "shown"), [(0.91, None), ({"top1": 0.9}, 0.9), ({"of": 3}, None), (None, None)])
def test_a_foreign_models_accuracy_may_be_anything(monkeypatch, boot, stated, shown):
    classifier = Classifier("lenet", device="cpu")
    monkeypatch.setitem(classifier.metadata.fields, "accuracy", stated)
    model = ServedModel(classifier, Limits(), lambda *_: None)
    model.close()

    assert model.as_dict()["accuracy"] == shown
    assert StoredModel("foreign", Path("foreign.onnx"), "user", {"accuracy": stated}).accuracy == shown


def test_below_the_limit_all_are_answered_and_above_it_503_says_when_to_come_back(boot):
    with RunningServer("-m", "lenet", "--max-queue", "16") as running:
        for connections, refusals in ((16, False), (200, True)):
            statuses: dict[int, int] = {}
            for _ in range(3):
                with many_connections(running, connections) as clients:
                    for client in clients:
                        client.sendall(predict_request(boot))
                    for client in clients:
                        answer = read_answer(client)
                        statuses[answer.status] = statuses.get(answer.status, 0) + 1
                        if answer.status == 503:
                            assert answer.headers["retry-after"] == "1"
                            assert "the queue is full" in answer.json()["error"]

            assert set(statuses) == ({200, 503} if refusals else {200})
            assert sum(statuses.values()) == 3 * connections
        assert running.metric("fashion_zoo_queue_pictures") == 0
        assert running.alive()


class Load(threading.Thread):
    """One client that asks again and again, and remembers what came of each request."""

    def __init__(self, server: RunningServer, request: bytes) -> None:
        super().__init__()
        self.server, self.sent = server, request
        self.answers: list[Answer] = []
        self.unanswered: list[str] = []

    def run(self) -> None:
        while True:
            try:
                connection = self.server.connect()
            except ConnectionError:
                return  # the door is closed: nothing was accepted
            with connection:
                while True:
                    try:
                        connection.sendall(self.sent)
                        self.answers.append(read_answer(connection))
                    except (ConnectionError, TimeoutError) as error:
                        self.unanswered.append(repr(error))
                        return
                    if self.answers[-1].headers.get("connection") == "close":
                        break


def test_what_a_stop_waits_for_ends_within_5_seconds():
    assert Limits().drain_seconds + LEAVE_SECONDS < 4  # the rest is for the process itself


def test_a_stop_under_load_answers_every_accepted_request_and_exits_0(boot):
    running = RunningServer("-m", "lenet")
    with running:
        clients = [Load(running, predict_request(boot)) for _ in range(32)]
        for client in clients:
            client.start()
        time.sleep(1.0)
        code, seconds = running.stop()
        for client in clients:
            client.join(30)

        assert code == 0
        assert seconds < ENDED
        assert [client.unanswered for client in clients if client.unanswered] == []
        assert {answer.status for client in clients for answer in client.answers} == {200}
        assert all(client.answers[-1].headers["connection"] == "close" for client in clients)
        assert running.process.stderr is not None
        assert "Traceback" not in running.process.stderr.read()


def test_a_stop_waits_for_what_is_still_being_sent_but_not_for_ever(boot):
    with RunningServer("-m", "lenet", "--read-timeout", "60") as running:
        late, never = running.connect(), running.connect()
        with late, never:
            request = predict_request(boot)
            late.sendall(request[:-20])
            never.sendall(request[:-20])
            time.sleep(0.3)
            stopping = threading.Thread(target=lambda: outcome.append(running.stop()))
            outcome: list[tuple[int, float]] = []
            stopping.start()
            refused = False
            while not refused:  # the door is closed while both are still being waited for
                assert stopping.is_alive()
                try:
                    running.connect().close()
                    time.sleep(0.05)
                except ConnectionRefusedError:
                    refused = True
            late.sendall(request[-20:])

            assert read_answer(late).json()["label"] == "Ankle boot"
            answer = read_answer(never)
            assert (answer.status, answer.json()["error"]) == (503, "the server has been stopped; try again")
            stopping.join(30)

        ((code, seconds),) = outcome
        assert code == 0
        assert 3 < seconds < ENDED


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit, of util-linux, is not on the PATH")
def test_a_low_soft_limit_of_open_files_is_raised_to_what_the_connections_need(boot):
    with RunningServer("-m", "lenet", open_files=(64, 8192)) as running, many_connections(running, 150) as clients:
        for client in clients:
            client.sendall(predict_request(boot))

        assert [read_answer(client).status for client in clients] == [200] * 150
        assert running.metric("process_max_fds") > 2048


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit, of util-linux, is not on the PATH")
def test_under_a_low_hard_limit_whoever_finds_no_place_gets_503(boot):
    with RunningServer("-m", "lenet", open_files=(128, 128)) as running:
        with many_connections(running, 80) as clients:
            statuses = []
            for client in clients:
                client.sendall(predict_request(boot))
                statuses.append(read_answer(client).status)

        assert set(statuses) == {200, 503}
        assert statuses.count(200) > 16
        deadline = time.monotonic() + 20
        while running.metric("fashion_zoo_connections") > 1 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert running.alive()


@pytest.mark.parametrize("numbers", [[signal.SIGINT] * 4, [signal.SIGTERM] * 3, [signal.SIGTERM, signal.SIGINT]])
def test_a_stop_that_is_asked_for_again_and_again_ends_in_0_and_without_a_traceback(boot, numbers):
    with RunningServer("-m", "lenet") as running:
        for number in numbers:
            running.process.send_signal(number)
            time.sleep(0.1)

        assert running.process.wait(30) == 0
        assert running.process.stderr is not None
        assert "Traceback" not in running.process.stderr.read()
