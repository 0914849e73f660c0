"""Which answer a request asks for: the routes, and what becomes of errors."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.routing import Mount, Route, Router
from starlette.types import Receive, Scope, Send

from runtime.errors import ImageError, quoted
from runtime.serving import describe
from runtime.serving.admission import Share
from runtime.serving.bodies import decompressed, header, read_body
from runtime.serving.forms import FORM, uploaded_file
from runtime.serving.inference import HEADER_LENGTH, VERSION, TensorJob, read_inference
from runtime.serving.pagefiles import PageFiles
from runtime.serving.pictures import PictureJob, is_quick, read_wish
from runtime.serving.refusal import Disconnected, Refusal, picture_refused
from runtime.serving.reply import Reply, json_reply
from runtime.serving.service import Service

Handler = Callable[[Scope, Receive], Awaitable[Reply]]

LONG_JSON = 2**15  # bytes of tensors from which parsing would keep other requests waiting


class App:
    """The ASGI application around a service.

    Args:
        service: the models and their limits; `service.warm_up()` makes it ready.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        routes: list[tuple[str, tuple[str, ...], str, Handler]] = [
            ("/predict", ("POST",), "predict", self._predict),
            ("/models", ("GET", "HEAD"), "other", self._models),
            ("/metrics", ("GET", "HEAD"), "other", self._metrics),
            ("/v2", ("GET", "HEAD"), "other", self._server),
            ("/v2/health/live", ("GET", "HEAD"), "other", self._live),
            ("/v2/health/ready", ("GET", "HEAD"), "other", self._ready),
            ("/v2/repository/index", ("POST",), "other", self._index),
        ]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            routes += [
                (f"{model}/infer", ("POST",), "infer", self._infer),
                (model, ("GET", "HEAD"), "other", self._model),
                (f"{model}/ready", ("GET", "HEAD"), "other", self._model_ready),
            ]
        endpoints = {path: _Endpoint(self, methods, name, handler) for path, methods, name, handler in routes}
        # Starlette's router tries one pattern after the other; most requests need none.
        self._direct = {path: endpoint for path, endpoint in endpoints.items() if "{" not in path}
        self._router = Router(
            [
                *(Route(path, endpoint) for path, endpoint in endpoints.items()),
                Mount("/", PageFiles()),
            ],
            redirect_slashes=False,
            default=_nowhere,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._direct.get(scope["path"])
        if endpoint is not None:
            await endpoint(scope, receive, send)
            return
        try:
            await self._router(scope, receive, send)
        except HTTPException as error:
            sentence = f"there is nothing at {quoted(scope['path'])}; see / and /v2"
            if error.status_code == 405:
                sentence = f"{scope['method']} is not what {quoted(scope['path'])} takes; expected GET"
            refusal = Refusal(error.status_code, sentence, allow="GET, HEAD" if error.status_code == 405 else None)
            await _refused(refusal).send(send)

    async def outcome(self, handler: Handler, scope: Scope, receive: Receive) -> Reply:
        """Return a handler's reply, or the one that its error is worth. Raises Disconnected."""
        try:
            return await handler(scope, receive)
        except Disconnected:
            raise
        except Refusal as refusal:
            return _refused(refusal)
        except ImageError as error:
            return _refused(picture_refused(error))
        except asyncio.CancelledError:  # the server stops, and this took longer than it may wait
            return _refused(Refusal(503, "the server has been stopped; try again"))
        except Exception as error:
            traceback.print_exception(error)  # to stderr: a fault of ours, which whoever runs the server must see
            return _refused(Refusal(500, "the server failed to answer this; its log says why"))

    async def _predict(self, scope: Scope, receive: Receive) -> Reply:
        service, limits = self.service, self.service.limits
        with Share(service.admission) as share:
            body = await self._body(scope, receive, share.hold)
            arrived = time.perf_counter()
            wish = read_wish(scope["query_string"])
            model = service.warm_model(wish.model)
            source = "picture"
            content_type = header(scope, b"content-type") or ""
            if content_type.lower().startswith(FORM):
                body, source = await service.aside(uploaded_file, content_type, body)
            job = PictureJob(
                picture=body,
                source=source,
                wish=wish,
                extra={"model": model.name, "device": model.classifier.device},
                labels=model.classifier.labels,
                max_pixels=limits.max_pixels,
                gone=_gone(scope),
                arrived=arrived,
            )
            share.admit(1)
            if is_quick(body):
                job.decode()
            else:
                await service.aside(_decode_unless_gone, job)
            return await model.ask(job)

    async def _infer(self, scope: Scope, receive: Receive) -> Reply:
        service = self.service
        with Share(service.admission) as share:
            model = service.warm_model(_path_model(scope))
            body = await self._body(scope, receive, share.hold)
            length = header(scope, HEADER_LENGTH)
            arguments = body, length, service.limits.max_queue
            # Beside binary tensors the JSON is short, which its length shows before it is known to be a number.
            is_long = len(body) > LONG_JSON and (length is None or len(length) > 4)
            pixels, wanted, identity = (
                await service.aside(read_inference, *arguments) if is_long else read_inference(*arguments)
            )
            labels = model.classifier.labels
            job = TensorJob(pixels, wanted, identity, model.name, labels, _gone(scope))
            share.admit(job.rows)
            return await model.ask(job)

    async def _body(self, scope: Scope, receive: Receive, hold: Callable[[int], None]) -> bytes:
        limits = self.service.limits
        body = await read_body(scope, receive, limits, hold)
        encoding = header(scope, b"content-encoding")
        if encoding is None:
            return body
        plain = await self.service.aside(decompressed, body, encoding, limits.max_body)
        hold(len(plain))
        return plain

    async def _models(self, _scope: Scope, _receive: Receive) -> Reply:
        return json_reply([describe.for_the_page(model) for model in self.service.models.values()])

    async def _metrics(self, _scope: Scope, _receive: Receive) -> Reply:
        return self.service.metrics.reply()

    async def _server(self, _scope: Scope, _receive: Receive) -> Reply:
        return json_reply(describe.server())

    async def _live(self, _scope: Scope, _receive: Receive) -> Reply:
        return json_reply({"live": True})

    async def _ready(self, _scope: Scope, _receive: Receive) -> Reply:
        if not self.service.ready:
            raise Refusal(503, "the server is being stopped" if self.service.stopping else "models are being warmed up")
        return json_reply({"ready": True})

    async def _index(self, _scope: Scope, _receive: Receive) -> Reply:
        return json_reply([describe.index_entry(model) for model in self.service.models.values()])

    async def _model(self, scope: Scope, _receive: Receive) -> Reply:
        return json_reply(describe.metadata(self.service.model(_path_model(scope))))

    async def _model_ready(self, scope: Scope, _receive: Receive) -> Reply:
        return json_reply({"name": self.service.warm_model(_path_model(scope)).name, "ready": True})


async def _nowhere(scope: Scope, receive: Receive, send: Send) -> None:
    raise HTTPException(404)  # for what is no path, such as the * of OPTIONS


class _Endpoint:
    """One route: checks the method, has it answered, sends the answer, counts it."""

    def __init__(self, app: App, methods: tuple[str, ...], name: str, handler: Handler) -> None:
        self._app, self._methods, self._name, self._handler = app, methods, name, handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        if scope["method"] in self._methods:
            try:
                reply = await self._app.outcome(self._handler, scope, receive)
            except Disconnected:
                scope["state"]["connection"].abandon()
                return
        else:
            refusal = Refusal(
                405,
                f"{scope['method']} is not what {quoted(scope['path'])} takes; expected {self._methods[0]}",
                allow=", ".join(self._methods),
            )
            reply = _refused(refusal)
        cycle = scope["state"].get("cycle")
        if cycle is None or cycle.flow.write_paused:
            await reply.send(send)
        else:
            reply.write(cycle)
        self._app.service.metrics.answered(self._name, reply.status, time.perf_counter() - began)


def _refused(refusal: Refusal) -> Reply:
    return Reply(refusal.body(), status=refusal.status, headers=refusal.headers)


def _path_model(scope: Scope) -> str:
    parameters: dict[str, Any] = scope["path_params"]
    version = parameters.get("version", VERSION)
    if version != VERSION:
        raise Refusal(404, f"there is no version {quoted(version)}; each model has one, {VERSION!r}")
    return str(parameters["model"])


def _gone(scope: Scope) -> Callable[[], bool]:
    gone: Callable[[], bool] = scope["state"]["connection"].gone
    return gone


def _decode_unless_gone(job: PictureJob) -> None:
    if job.gone():
        raise Disconnected
    job.decode()
