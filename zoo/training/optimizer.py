"""Build the optimiser of a recipe."""

import torch
from torch import nn

from zoo.recipes import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Build the recipe's optimiser; weight decay is applied to matrices and kernels only, not to biases and norms."""
    kernels = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    groups = [{"params": kernels, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if recipe.optimizer == "adamw":
        # beta2 is 0.99, not 0.999, since these runs have only some ten thousand steps.
        return torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.99), fused=True)
    return torch.optim.SGD(groups, lr=recipe.lr, momentum=recipe.momentum, nesterov=recipe.momentum > 0, fused=True)
