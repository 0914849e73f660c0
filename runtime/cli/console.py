"""What both command lines share: results on stdout and nothing else there, errors as one sentence, bars on terminals.

Importing this costs Click and no more; rich is loaded only when a bar or a table is drawn.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar

import click

from runtime.errors import FashionZooError, brief

if TYPE_CHECKING:
    from runtime.classifier import Classifier

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"]}
_DEBUG = "fashion_zoo.debug"
_results: IO[str] | None = None

F = TypeVar("F", bound=Callable[..., Any])


class Command(click.Command):
    """A command whose stdout carries its results alone, and whose errors are one sentence each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.append(
            click.Option(
                ["--debug"], is_flag=True, expose_value=False, callback=_remember_debug, help="Show tracebacks."
            )
        )

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with _stdout_for_results():
                return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            if isinstance(error, OSError) and error.errno == errno.EPIPE:
                raise  # the reader of our output has left: Click ends quietly
            if isinstance(error, ImportError) and _interrupted(error):
                raise click.Abort from None
            if ctx.meta.get(_DEBUG):
                traceback.print_exception(error)
            raise _failure(error) from error


class Group(click.Group):
    """A group of such commands, each of which may be imported when it is asked for (Click's recipe for lazy groups).

    Args:
        lazy_subcommands: where commands are that have not been imported, by name, as "module:attribute".
    """

    command_class = Command

    def __init__(self, *args: Any, lazy_subcommands: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy_subcommands = lazy_subcommands or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.lazy_subcommands, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (place := self.lazy_subcommands.get(cmd_name)) is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _briefly():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _briefly():
            return super().invoke(ctx)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # of a help page or a version: they are printed before a command is invoked
            raise SystemExit(f"Error: {describe_os_error(error)}") from error


@contextlib.contextmanager
def _briefly() -> Iterator[None]:
    """Cut what Click says of wrong arguments, which it repeats whole."""
    try:
        yield
    except click.ClickException as error:
        error.message = brief(error.message)  # type: ignore[misc]  # final, says Click; it prints what is here
        raise


def _failure(error: Exception) -> click.ClickException:
    """Return the exception for which Click prints one sentence and exits with the error's code."""
    if isinstance(error, FashionZooError):
        sentence = str(error)
    elif isinstance(error, OSError):
        sentence = describe_os_error(error)
    else:  # a fault of ours, or of a library
        reason = " ".join(str(error).split()) or "no reason given"
        sentence = f"{type(error).__name__}: {reason}; --debug shows where"
    failure = click.ClickException(brief(sentence))
    failure.exit_code = error.exit_code if isinstance(error, FashionZooError) else 1  # type: ignore[misc]
    return failure


def _interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: libraries in C report one while they load as an import that failed."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _remember_debug(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    ctx.meta[_DEBUG] = value


def describe_os_error(error: OSError) -> str:
    """Return an operating system's refusal as a sentence that names the file."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {reason}" if error.filename else reason


@contextlib.contextmanager
def _stdout_for_results() -> Iterator[None]:
    """Send everything printed inside, by Python or by native libraries, to stderr; `emit` alone reaches stdout."""
    global _results
    sys.stdout.flush()
    with contextlib.ExitStack() as stack:
        results = sys.stdout
        try:
            is_process_stdout = results.fileno() == 1
        except (OSError, ValueError, AttributeError):  # a test's or a notebook's stand-in
            is_process_stdout = False
        if is_process_stdout:
            copy = os.dup(1)
            os.dup2(2, 1)
            stack.callback(os.close, copy)
            stack.callback(os.dup2, copy, 1)
            results = stack.enter_context(
                os.fdopen(os.dup(copy), "w", encoding=results.encoding, errors="backslashreplace")
            )
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        previous, _results = _results, results
        try:
            yield
            results.flush()
        finally:
            _results = previous


def results() -> IO[str]:
    """Return the stream that results go to."""
    return _results or sys.stdout


def emit(text: str) -> None:
    """Print a line of results."""
    stream = results()
    stream.write(text + "\n")
    stream.flush()


def emit_json(document: Any, *, indent: int | None = 2) -> None:
    """Print one JSON document as results."""
    from runtime.strict_json import to_json

    emit(to_json(document, indent=indent))


def note(text: str) -> None:
    """Say something to the person watching, on stderr."""
    print(text, file=sys.stderr, flush=True)


def emit_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print a table as results; the columns named in `right` are aligned there."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    stream = results()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # Away from a terminal there is no width to respect: nothing is cut.
    Console(file=stream, width=None if stream.isatty() else 200, highlight=False, markup=False).print(table)
    stream.flush()


class Bar:
    """A progress bar on stderr where that is a terminal, and nothing at all elsewhere. Use it in a `with`."""

    def __init__(self, description: str, total: float | None) -> None:
        self._description, self._total = description, total
        self._progress: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            from rich import progress
            from rich.console import Console

            self._progress = progress.Progress(
                progress.TextColumn("{task.description}"),
                progress.BarColumn(bar_width=24),
                progress.TaskProgressColumn(),
                progress.TextColumn("{task.fields[text]}"),
                progress.TimeElapsedColumn(),
                progress.TextColumn("left"),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task(self._description, total=self._total, text="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    @property
    def shown(self) -> bool:
        return self._progress is not None

    def advance(self, amount: float = 1) -> None:
        if self._progress is not None:
            self._progress.advance(self._task, amount)

    def update(self, **fields: Any) -> None:
        """Set `completed`, `total`, `description` or `text`."""
        if self._progress is not None:
            self._progress.update(self._task, **fields)


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
model_option = click.option(
    "--model", "-m", metavar="NAME|FILE", help="A model's name, or a .onnx file.  [default: the best that ships]"
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|cuda:N|tensorrt",
    help="Where to compute. A device asked for by name is used, or the command exits with 4.",
)
tf32_option = click.option(
    "--tf32", is_flag=True, help="On a GPU, multiply in TF32: faster, and with 10 bits of mantissa in place of 23."
)
threads_option = click.option("--threads", type=click.IntRange(1, 4096), help="CPU threads.  [default: all allowed]")


def timing_options(command: F) -> F:
    """Add the options of a benchmark: `batch_sizes`, `min_seconds` and `min_runs`."""
    for option in (
        click.option("--min-runs", type=click.IntRange(1), default=100, show_default=True, help="Runs a batch size."),
        click.option(
            "--min-seconds", type=click.FloatRange(0, 3600), default=1.0, show_default=True, help="Time a batch size."
        ),
        click.option(
            "--batch-size",
            "-b",
            "batch_sizes",
            type=click.IntRange(1, 2**20),
            multiple=True,
            default=(1, 8, 64, 256),
            show_default=True,
            help="Images at once; may be given several times.",
        ),
    ):
        command = option(command)
    return command


batch_size_option = click.option(
    "--batch-size",
    "-b",
    type=click.IntRange(1, 2**20),
    help="Images at once.  [default: 256, fewer where they are large]",
)


def compute_options(command: F) -> F:
    """Add `--device`, `--tf32` and `--threads`."""
    return device_option(tf32_option(threads_option(command)))


def open_classifier(model: str | None, device: str, threads: int | None, tf32: bool = False) -> Classifier:
    """Open a model, and say on stderr why `auto` chose the CPU, where there was a choice to make."""
    from runtime.classifier import Classifier

    classifier = Classifier(model, device=device, threads=threads, tf32=tf32)
    say_device(classifier)
    return classifier


def say_device(classifier: Any) -> None:
    """Say on stderr why `auto` chose the CPU, where there was a choice to make."""
    if classifier.device_reason:
        note(f"using the CPU: {classifier.device_reason}")


def open_closed_streams() -> None:
    """Give closed descriptors to the null device, and Python the streams for output that it then lacks.

    Otherwise the next file that is opened becomes descriptor 2, and libraries print into it.
    """
    # The lowest free descriptor is the one that is given; what must not be closed here is one of the three.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115
