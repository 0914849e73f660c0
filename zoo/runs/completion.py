"""Write again the files of a finished run that are missing after a kill."""

import torch

from zoo.data.dataset import load_split
from zoo.models import create_model
from zoo.runs.checkpoint import Checkpoint
from zoo.runs.folder import CONFUSION, CURVES, HISTORY, MISTAKES, RELIABILITY, RunFolder
from zoo.runs.settings import Settings
from zoo.training.evaluation import evaluate


def complete(place: RunFolder, finished: Checkpoint, device: torch.device) -> None:
    """Write the history and draw the pictures of a finished run that are missing, or older than its checkpoint."""
    history = finished.header["history"]
    if place.is_behind(HISTORY):
        place.write_history(history)
    if place.is_behind(CURVES):
        place.draw_curves(history)
    if any(map(place.is_behind, (CONFUSION, MISTAKES, RELIABILITY))):
        settings = Settings.from_dict(finished.header)
        network = create_model(finished.model, normalize=settings.recipe.normalize)
        finished.load_into(network)
        asked = load_split("validation" if settings.val_split else "test", device)
        place.draw_answers(evaluate(network.to(device), asked), asked)
