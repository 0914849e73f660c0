"""`runtime serve`: answer over HTTP."""

import importlib.util
import math
import re

import click

from runtime.cli.console import Command, device_option, emit, emit_json, json_option, note, say_device, threads_option
from runtime.errors import FashionZooError, install_line, quoted

NEEDED = ("httptools", "orjson", "prometheus_client", "python_multipart", "starlette", "uvicorn")


def _origins(_context: click.Context, _parameter: click.Parameter, origins: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse what no browser sends as an origin, and what would therefore never match."""
    for origin in origins:
        if origin != "*" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#@A-Z]+", origin):
            raise click.BadParameter(
                f"{quoted(origin)} is not an origin; expected scheme://host[:port] in lower case and without a path, "
                "such as https://shop.example, or '*'"
            )
    return origins


@click.command(cls=Command)
@click.option(
    "--model",
    "-m",
    "models",
    multiple=True,
    metavar="NAME|FILE",
    help="A model, by name or file; may be given several times, the first is the default.  [default: all that ship]",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 for any free one.")
@click.option(
    "--batch-size", "-b", type=click.IntRange(1, 4096), default=64, show_default=True, help="Most pictures at once."
)
@click.option(
    "--max-wait",
    type=click.FloatRange(0, 1000),
    default=2.0,
    show_default=True,
    help="Milliseconds for which a picture waits for others, where others come.",
)
@click.option(
    "--max-queue",
    type=click.IntRange(1),
    default=512,
    show_default=True,
    help="Most pictures accepted and not yet answered; over it, 503.",
)
@click.option(
    "--max-body", type=click.FloatRange(0.001, 1024), default=16.0, show_default=True, help="MiB of a request."
)
@click.option(
    "--max-pixels",
    type=click.FloatRange(0.001, 67.108864),
    default=67.108864,  # as many as `predict` takes: runtime.imaging.load.MAX_PIXELS, which would import numpy
    show_default=True,
    help="Millions of pixels in a picture.",
)
@click.option(
    "--read-timeout",
    type=click.FloatRange(0.1, 3600),
    default=10.0,
    show_default=True,
    help="Seconds in which a client must have sent a request's body; over it, 408.",
)
@click.option(
    "--keep-alive",
    type=click.IntRange(1, 3600),
    default=75,
    show_default=True,
    help="Seconds for which a connection stays open between two requests; longer than a load balancer's in front.",
)
@click.option(
    "--cors",
    multiple=True,
    metavar="ORIGIN",
    callback=_origins,
    help="An origin whose pages may read the answers, such as https://shop.example; several times, or '*' for all.",
)
@device_option
@threads_option
@json_option
def serve(
    models: tuple[str, ...],
    host: str,
    port: int,
    batch_size: int,
    max_wait: float,
    max_queue: int,
    max_body: float,
    max_pixels: float,
    read_timeout: float,
    keep_alive: int,
    cors: tuple[str, ...],
    device: str,
    threads: int | None,
    as_json: bool,
) -> None:
    """Answer over HTTP: pictures, the Open Inference Protocol, and a page for people at /.

    Listens on this machine only, unless --host says otherwise, and prints its address when it is ready. Ctrl-C or
    SIGTERM stops it, once what it has accepted is answered. Needs the extra `serve`.

    \b
    Example: runtime serve -m lenet -m lenet-modern --port 8000
             curl --data-binary @shoe.png http://127.0.0.1:8000/predict
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise FashionZooError(
            f"runtime serve needs {', '.join(missing)}, which the base install leaves out: " + install_line("serve")
        )
    from runtime.classifier import Classifier
    from runtime.model.registry import shipped_models
    from runtime.serving.limits import Limits
    from runtime.serving.server import bind, end_process, serve_until_stopped, url_of

    limits = Limits(
        max_batch=batch_size,
        max_wait=max_wait / 1000,
        max_queue=max_queue,
        max_body=math.ceil(max_body * 2**20),
        max_pixels=math.ceil(max_pixels * 1e6),
        read_seconds=read_timeout,
        keep_alive_seconds=keep_alive,
    )
    with bind(host, port) as bound:
        names = models or [stored.name for stored in shipped_models()]
        classifiers = [Classifier(name, device=device, threads=threads) for name in names]
        for classifier in classifiers:
            note(f"serving {classifier.name} on {classifier.device}")
            say_device(classifier)
        url = url_of(bound)

        def announce() -> None:
            if as_json:
                emit_json({"url": url, "models": [classifier.name for classifier in classifiers]}, indent=None)
            else:
                emit(url)

        serve_until_stopped(bound, classifiers, limits, cors=cors, on_ready=announce)
    end_process()
