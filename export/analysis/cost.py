"""What one call of a network costs: its floating-point operations."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_operations(network: nn.Module, images: Tensor) -> int:
    """Return the floating-point operations of one call, two to a multiply-add, as PyTorch counts them.

    No parameter requires a gradient meanwhile: of a view of one that does, as an expanded class token, PyTorch's
    counter would ask for a gradient that does not exist under `no_grad`.
    """
    asking = [parameter for parameter in network.parameters() if parameter.requires_grad]
    counter = FlopCounterMode(display=False)
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        with counter, torch.no_grad():
            network(images)
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)
    return counter.get_total_flops()
