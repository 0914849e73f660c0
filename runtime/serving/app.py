"""The routes, their handlers, and what becomes of errors."""

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtime.errors import ImageError, UsageError, brief, quoted
from runtime.imaging.preprocess import Pixels
from runtime.model.spec import InputSpec
from runtime.pipeline import preprocess, require_options
from runtime.prediction import Prediction, as_dict, most_probable
from runtime.serving.docs import OPENAPI, docs_page
from runtime.serving.limits import RETRY_AFTER, Limits, Reservation, Usage, read_body
from runtime.serving.metrics import Metrics
from runtime.serving.models import Models, ServedModel
from runtime.serving.open_inference import (
    HEADER_LENGTH,
    VERSION,
    index_entry,
    infer_response,
    model_config,
    model_metadata,
    model_statistics,
    read_request,
    server_metadata,
)
from runtime.serving.predict import PredictParams, read_params
from runtime.strict_json import to_json

PAGE = Path(__file__).with_name("static")
PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
LONG_BODY = 2**15  # bytes of a tensor request from which parsing would keep other requests waiting
LONG_ANSWER = 2**14  # values of an answer from which writing it would, too
SMALL_FILE, SMALL_IMAGE = 2**12, 2**12  # bytes, pixels
MAX_FIELDS = 64  # of a form beside its file
IMAGE_STATUS = {"too_large": 413, "not_an_image": 415}  # by kind of ImageError; the others are 400

T = TypeVar("T")


def create_app(models: Models, limits: Limits, metrics: Metrics, cors: Sequence[str] = ()) -> Starlette:
    """Return the ASGI application.

    While `app.state.stopping` is true, each answer closes its connection.

    Args:
        cors: the origins, such as `https://shop.example`, whose pages a browser lets read the answers; `*` for all.
    """
    handlers = _Handlers(models, limits, metrics)
    routes = [
        Route("/predict", handlers.predict, methods=["POST"]),
        Route("/models", handlers.models),
        Route("/metrics", handlers.metrics),
        Route("/openapi.json", _fixed(OPENAPI, "application/json")),
        Route("/docs", _fixed(docs_page(), "text/html")),
        Route("/v2", handlers.server),
        Route("/v2/health/live", handlers.live),
        Route("/v2/health/ready", handlers.ready),
        Route("/v2/repository/index", handlers.index, methods=["POST"]),
        Route("/v2/models/stats", handlers.all_statistics),
    ]
    for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        routes += [
            Route(f"{model}/infer", handlers.infer, methods=["POST"]),
            Route(model, handlers.model),
            Route(f"{model}/ready", handlers.model_ready),
            Route(f"{model}/config", handlers.model_config),
            Route(f"{model}/stats", handlers.model_statistics),
        ]
    middleware = [Middleware(_Middleware, metrics=metrics)]
    if cors:
        middleware.append(
            Middleware(
                CORSMiddleware,
                allow_origins=cors,
                allow_methods=("GET", "POST"),
                allow_headers=(HEADER_LENGTH, "content-encoding"),
                expose_headers=(HEADER_LENGTH, "retry-after"),
            )
        )
    app = Starlette(
        routes=routes,
        middleware=middleware,
        exception_handlers={
            HTTPException: _http_error,
            ImageError: _image_error,
            ClientDisconnect: _nobody_waits,
            Exception: _server_error,
        },
    )
    app.state.stopping = False
    app.router.redirect_slashes = False
    app.router.default = _Page(directory=PAGE, html=True)
    return app


class _Handlers:
    """One method for each route."""

    def __init__(self, models: Models, limits: Limits, metrics: Metrics) -> None:
        self._models, self._limits, self._metrics = models, limits, metrics
        self._usage = Usage(limits)
        metrics.queue.set_function(lambda: self._usage.images)

    async def predict(self, request: Request) -> Response:
        params = read_params(request.scope["query_string"])
        model = self._models.get(params.model)
        try:
            require_options(model.classifier.input, params.invert, params.fit)
        except UsageError as error:
            raise HTTPException(400, str(error)) from error
        with Reservation(self._usage) as reservation:
            image, source = await read_body(request, self._limits, reservation), "picture"
            if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
                image, source = await _uploaded_file(request, image)
            reservation.add_images(1)
            return await _unless_disconnected(request, self._predict(model, params, source, image))

    async def _predict(self, model: ServedModel, params: PredictParams, source: str, image: bytes) -> Response:
        began = time.perf_counter()
        spec = model.classifier.input
        pixels = await self._decode(image, spec, params)
        logits, probabilities = await model.outputs(spec.from_levels(pixels.array.reshape(1, *spec.shape)))
        (known,) = model.classifier.in_distribution(logits)
        (top,) = most_probable(model.classifier.labels, probabilities, params.topk)
        prediction = Prediction(top, pixels.inverted, pixels.warnings, known)
        document = as_dict(source, prediction)
        document |= {"model": model.name, "device": model.classifier.device}
        document["milliseconds"] = round(1000 * (time.perf_counter() - began), 3)
        if params.pixels:
            document["pixels"] = pixels.array
        return Response(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")

    async def _decode(self, image: bytes, spec: InputSpec, params: PredictParams) -> Pixels:
        limit = self._limits.max_pixels
        decode = functools.partial(preprocess, image, spec, invert=params.invert, fit=params.fit)
        if len(image) <= SMALL_FILE:
            # Decoded sooner than handed to another thread; one of too many pixels is refused before it is decoded.
            with contextlib.suppress(ImageError):
                return decode(max_pixels=min(limit, SMALL_IMAGE))
        return await run_in_threadpool(decode, max_pixels=limit)

    async def infer(self, request: Request) -> Response:
        model = self._path_model(request)
        limits = self._limits
        with Reservation(self._usage) as reservation:
            body = await read_body(request, limits, reservation)
            spec = model.classifier.input
            arguments = body, request.headers.get(HEADER_LENGTH), limits.max_queue, spec
            # With binary tensors the JSON is short: four digits of length are under 10,000 bytes.
            is_long = len(body) > LONG_BODY and (arguments[1] is None or len(arguments[1]) > 4)
            wanted = await run_in_threadpool(read_request, *arguments) if is_long else read_request(*arguments)
            reservation.add_images(len(wanted.pixels))
            outputs = await _unless_disconnected(request, model.outputs(wanted.pixels))
            answer = functools.partial(infer_response, wanted, outputs, model.name, model.classifier.labels)
            return await run_in_threadpool(answer) if outputs[0].size > LONG_ANSWER else answer()

    async def models(self, _request: Request) -> Response:
        return _json([model.as_dict() for model in self._models])

    async def metrics(self, _request: Request) -> Response:
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def server(self, _request: Request) -> Response:
        return _json(server_metadata())

    async def live(self, _request: Request) -> Response:
        return _json({"live": True})

    async def ready(self, request: Request) -> Response:
        if request.app.state.stopping:
            raise HTTPException(503, "the server is being stopped", RETRY_AFTER)
        return _json({"ready": True})

    async def index(self, _request: Request) -> Response:
        return _json([index_entry(model) for model in self._models])

    async def model(self, request: Request) -> Response:
        return _json(model_metadata(self._path_model(request)))

    async def model_ready(self, request: Request) -> Response:
        return _json({"name": self._path_model(request).name, "ready": True})

    async def model_config(self, request: Request) -> Response:
        return _json(model_config(self._path_model(request)))

    async def model_statistics(self, request: Request) -> Response:
        return _json(model_statistics([self._path_model(request)]))

    async def all_statistics(self, _request: Request) -> Response:
        return _json(model_statistics(self._models))

    def _path_model(self, request: Request) -> ServedModel:
        version = request.path_params.get("version", VERSION)
        if version != VERSION:
            raise HTTPException(404, f"there is no version {quoted(version)}; each model has one, {VERSION!r}")
        return self._models.get(request.path_params["model"])


async def _uploaded_file(request: Request, body: bytes) -> tuple[bytes, str]:
    """Return the content and the name of the only file of a form.

    Raises:
        HTTPException: 400, the form is damaged, or holds no file, or several, or too many fields.
    """

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        async with Request(request.scope, receive).form(max_files=1, max_fields=MAX_FIELDS) as form:
            files = [value for value in form.values() if isinstance(value, UploadFile)]
            if not files:
                raise HTTPException(400, "it holds no file")
            name = (files[0].filename or "picture").encode("utf-8", "replace").decode()  # no halves of characters
            return await files[0].read(), name
    except HTTPException as error:
        reason = error.detail.rstrip(".")
        raise HTTPException(
            400, f"the form cannot be read: {reason}; expected one file: `curl -F file=@shoe.png`"
        ) from error


async def _unless_disconnected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the work's result; where the client leaves before, cancel the work and raise ClientDisconnect."""
    # The body has been read, so that `receive` returns once the client leaves.
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()


def _fixed(text: str, media_type: str) -> Callable[[Request], Response]:
    return lambda _request: Response(text, media_type=media_type, headers=PAGE_HEADERS)


class _Page(StaticFiles):
    """The page's files; what is not there is 404 by whatever method."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, {**scope, "method": "GET"})
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})
        response.headers.update(PAGE_HEADERS)
        return response


class _Middleware:
    """Counts and times the answers, adds the headers that belong to each, and answers what a stop has cancelled."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-content-type-options", b"nosniff"))
                if scope["app"].state.stopping:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:  # the server stops, and this took longer than it waits
            if status:
                raise
            await _error(503, "the server has been stopped; try again", RETRY_AFTER)(scope, receive, noted)
        except Exception:
            status = 500  # which Starlette sends, further out
            raise
        finally:
            self._metrics.answered(_endpoint(scope["path"]), status, time.perf_counter() - began)


def _endpoint(path: str) -> str:
    """Return what the metrics call a path."""
    if path == "/predict":
        return "predict"
    return "infer" if path.startswith("/v2/models/") and path.endswith("/infer") else "other"


def _json(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(to_json(document), status, headers, "application/json")


def _error(status: int, sentence: str, headers: dict[str, str] | None = None, **more: str) -> Response:
    return _json({"error": brief(sentence), **more}, status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    sentence, headers = error.detail, dict(error.headers or {})
    if error.status_code == 404 and sentence == "Not Found":
        sentence = f"there is nothing at {quoted(request.scope['path'])}; see / and /v2"
    elif error.status_code == 405:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
        sentence = f"{request.method} is not what {quoted(request.scope['path'])} takes; expected {headers['Allow']}"
    return _error(error.status_code, sentence, headers)


async def _image_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ImageError)
    return _error(IMAGE_STATUS.get(error.kind, 400), str(error), kind=error.kind)


async def _nobody_waits(_request: Request, _exception: Exception) -> Response:
    return Response(status_code=499)  # which the HTTP server drops


async def _server_error(_request: Request, _exception: Exception) -> Response:
    return _error(500, "the server failed to answer this; its log says why")  # where the HTTP server writes it
