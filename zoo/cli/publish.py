"""`zoo publish`: from your exports into the repository."""

import click

from runtime.cli.console import Bar, Command, emit, emit_json, json_option, note
from zoo.cli.options import model_argument, warn_of_later_runs


@click.command(cls=Command)
@model_argument
@json_option
def publish(model: str, as_json: bool) -> None:
    """Copy your exported MODEL into the repository's weights/, after verifying it again from the file on disk.

    Of a model over 50 MB, all but the file and its checkpoint, with the command that makes them.

    \b
    Example: zoo publish lenet
    """
    from runtime.cli.fetch import fetch_with_bar
    from runtime.model.registry import user_weights
    from zoo.publishing.publish import publish_exported
    from zoo.runs import checkpoint

    fetch_with_bar()
    with Bar(f"publishing {model}", total=None):
        entry, folder = publish_exported(model)
    exported = checkpoint.checkpoint_in(user_weights() / entry["name"])
    note(f"published {exported.parent} (your export)")
    warn_of_later_runs(checkpoint.load(exported))
    if as_json:
        emit_json(entry)
    else:
        emit(f"{folder}  test accuracy {entry['accuracy']['top1']:.4f}")
        if "rebuild" in entry:
            emit(f"not copied, too large: its file of {entry['bytes']:,} bytes; `{entry['rebuild']}` makes it")
