"""What one call of a network costs: its floating-point operations."""

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_operations(network: nn.Module, images: Tensor) -> int:
    """Return the floating-point operations of one call, two to a multiply-add, as PyTorch counts them.

    Parameters are detached: of a view of one, as an expanded class token is, PyTorch's counter would ask for a gradient
    that does not exist under `no_grad`.
    """
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        torch.func.functional_call(network, parameters, (images,))
    return counter.get_total_flops()
