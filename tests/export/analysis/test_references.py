"""References of a graph: how inexact a sum may be, from which follows what an engine may differ by."""

import pytest
import torch
from torch import Tensor, nn

from export.analysis.references import perturbed


class Products(nn.Module):
    """Two sums of 256 terms of both signs: 0.001 and 100."""

    def forward(self, images: Tensor) -> Tensor:
        terms = torch.cat([torch.ones(128), -torch.ones(128)])
        weights = torch.stack([terms.clone(), terms.clone()])
        weights[0, 0] += 0.001
        weights[1, 0] += 100
        return nn.functional.linear(images, weights)


class Sums(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        terms = torch.cat([torch.ones(128), -torch.ones(128)])
        first, second = terms.clone(), terms.clone()
        first[0] += 0.001
        second[0] += 100
        return torch.stack([(images * first).sum(1), (images * second).sum(1)], 1)


@pytest.mark.parametrize("network", [Products(), Sums()], ids=["products", "sums"])
def test_a_small_sum_is_as_inexact_as_its_terms_also_where_no_result_is_negative(network):
    """An honest file would be refused where all of its logits happen to be positive."""
    images = torch.ones(8, 256)
    exact = network(images)

    moved = perturbed(network)(images) - exact

    assert (exact > 0).all()
    assert moved[:, 0].abs().max() > 1e-6  # of terms of size 1; a part in 2**24 of the sum itself is 6e-11


class Variance(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.sqrt(torch.var(images, dim=(2, 3)))


class VarianceByHand(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.sqrt(((images - images.mean(dim=(2, 3), keepdim=True)) ** 2).mean(dim=(2, 3)))


@pytest.mark.parametrize("network", [Variance(), VarianceByHand()], ids=["torch.var", "by hand"])
def test_a_small_variance_beside_a_large_one_stays_positive(network):
    """Below zero its root would be no number, and no file of the network could be proved."""
    images = torch.randn(8, 2, 56, 56, generator=torch.Generator().manual_seed(0))
    images[:, 0] *= 1e-4

    deviations = perturbed(network)(images)

    assert deviations.isfinite().all()
    assert (deviations / network(images)).max() < 1.01
