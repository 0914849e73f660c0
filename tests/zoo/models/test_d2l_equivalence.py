"""Each network is D2L's: from the same weights, the same batches give the same losses, step after step.

They are compared with `tests/support/d2l.py`, a second transcription that shares no code with ours.
"""

import pytest
import torch
import torch.nn.functional as F
from support.d2l import NETWORKS
from torch import Tensor, nn

from zoo.models import create_model, list_models
from zoo.models.summary import summarize
from zoo.recipes import recipe_for
from zoo.training.optimizer import make_optimizer

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Lazy modules are a new feature")]

# The first step compares the forward passes, the second the backward passes; small networks take more steps.
STEPS = {28: 20, 96: 3, 224: 2}
BATCH = {28: 4, 96: 2, 224: 1}


@pytest.mark.parametrize("name", list_models())
def test_training_by_the_d2l_recipe_gives_the_losses_of_d2ls_network(name):
    build, side, lr = NETWORKS[name]
    torch.manual_seed(0)
    ours = create_model(name, normalize=False)
    theirs = build()
    shapes = rows_of(theirs, side)
    copy_weights(ours.network, theirs)
    images = torch.randint(0, 256, (STEPS[side], BATCH[side], 1, 28, 28), dtype=torch.uint8)
    labels = torch.randint(0, 10, (STEPS[side], BATCH[side]))

    our_losses = losses(ours, make_optimizer(ours, recipe_for(name, "d2l")), images, labels)
    resize = nn.Upsample((side, side), mode="bilinear") if side != 28 else nn.Identity()
    their_losses = losses(
        nn.Sequential(Scale(), resize, theirs), torch.optim.SGD(theirs.parameters(), lr=lr), images, labels
    )

    assert [layer.output_shape for layer in summarize(name).layers] == shapes
    assert len(set(their_losses)) == STEPS[side], "nothing was learnt, so nothing was compared"
    assert our_losses == pytest.approx(their_losses, rel=1e-5)


class Scale(nn.Module):
    """Pixels to 0 to 1, as torchvision's `ToTensor` makes them."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float() / 255


def rows_of(network: nn.Module, side: int) -> list[tuple[int, ...]]:
    """Materialise the lazy layers. Return the output shapes of the rows that D2L prints."""
    shapes, maps = [], torch.zeros(1, 1, side, side)
    with torch.no_grad():
        for layer in network.eval().children():
            maps = layer(maps)
            shapes.append(tuple(maps.shape))
    return shapes


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters and statistics in the order of the layers, whatever their names."""
    values = list(source.state_dict().values())
    names = target.state_dict().keys()
    target.load_state_dict(dict(zip(names, values, strict=True)))


def losses(network: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> list[float]:
    """Train for as many steps as there are batches, from one seed for the dropout. Return the loss of each."""
    torch.manual_seed(1)
    network.train()
    found = []
    for batch, wanted in zip(images, labels, strict=True):
        loss = F.cross_entropy(network(batch), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item())
    return found
