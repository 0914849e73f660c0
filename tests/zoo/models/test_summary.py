"""`zoo summary`: shapes agree with the closed formula, totals are sums of rows, receptive fields are exact."""

import copy
import json
from typing import Any

import pytest
import torch
from support.command_line import call
from torch import nn

from export.bundle.artifact import count_flops
from export.verification.checks.shapes import closed_formula
from zoo.models import create_model, list_models, summary
from zoo.models.summary import ShapeError, summarize


def run(*arguments: str) -> Any:
    return call("zoo", "summary", *arguments)


class TestShapes:
    @pytest.mark.parametrize("name", list_models())
    def test_every_convolution_and_pooling_has_the_shape_of_the_closed_formula(self, name, monkeypatch):
        by_formula = []

        def formula(module: nn.Module, before: tuple[int, ...]) -> tuple[int, ...] | None:
            by_formula.append(shape := closed_formula(module, before))
            return shape

        monkeypatch.setattr(summary, "closed_formula", formula)
        rows = summarize(name, depth=0).layers

        assert len(by_formula) == len(rows)
        for row, shape in zip(rows, by_formula, strict=True):
            by_hand = row.type in ("Conv2d", "MaxPool2d", "AvgPool2d")
            assert row.output_shape[1:] == shape or (shape is None and not by_hand), row.name

    def test_a_shape_that_is_not_the_formulas_exits_with_3_however_deep_it_lies(self, monkeypatch):
        monkeypatch.setattr(summary, "closed_formula", lambda module, before: (1, 2, 3))

        with pytest.raises(ShapeError, match=r"network\.stem\.0 .* PyTorch gives \(64, 48, 48\), .* \(1, 2, 3\)"):
            summarize("resnet18")
        assert run("resnet18").exit_code == 3


class TestSums:
    @pytest.mark.parametrize("depth", [0, 1, 2])
    @pytest.mark.parametrize("name", list_models())
    def test_the_rows_add_up_at_every_depth(self, name, depth):
        found = summarize(name, depth)

        assert sum(row.parameters for row in found.layers) == found.parameters
        assert sum(row.multiply_adds for row in found.layers) * 2 == found.flops
        assert len({row.name for row in found.layers}) == len(found.layers)

    @pytest.mark.parametrize("name", ["lenet", "resnext", "densenet"])
    def test_flops_are_those_of_the_published_index_counted_with_real_numbers(self, name):
        assert summarize(name).flops == count_flops(create_model(name))

    def test_a_dense_layer_takes_a_multiply_add_a_weight_and_a_convolution_one_a_weight_and_pixel(self):
        rows = {row.name: row for row in summarize("lenet").layers}

        assert rows["network.9"].multiply_adds == 120 * 84
        assert rows["network.3"].multiply_adds == (16 * 6 * 5 * 5) * (10 * 10)


class TestReceptiveField:
    @pytest.mark.parametrize(
        ("name", "parts", "side"),
        [("lenet", 6, 64), ("nin", 3, 224), ("googlenet", 3, 224), ("resnet18", 3, 224), ("densenet", 4, 224)],
    )
    def test_a_number_depends_on_a_square_of_pixels_of_just_that_side(self, name, parts, side):
        torch.manual_seed(0)
        network = without_gaps(create_model(name).network)[:parts].eval()
        image = torch.ones(1, 1, side, side, dtype=torch.float64, requires_grad=True)

        maps = network(image)
        maps[0, :, maps.shape[2] // 2, maps.shape[3] // 2].sum().backward()
        touched = image.grad[0, 0].nonzero()  # type: ignore[index]

        seen = (touched.amax(0) - touched.amin(0) + 1).tolist()
        assert seen == [summarize(name).layers[parts - 1].receptive_field] * 2


def without_gaps(network: nn.Module) -> Any:
    """Return a copy in which every pixel of every window leaves a gradient: no negative weight, and a mean in place of
    every maximum."""
    network = copy.deepcopy(network).double()
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    for parameter in network.parameters():
        parameter.data.abs_()
    return network


class TestCommand:
    def test_json_is_the_document_that_other_programs_rely_on(self):
        result = run("lenet", "--json")
        document = json.loads(result.stdout)

        assert (result.exit_code, result.stderr) == (0, "")
        assert (document["model"], document["parameters"], document["flops"]) == ("lenet", 61_706, 833_040)
        assert len(document["layers"]) == 12
        assert document["layers"][0] == {
            "name": "network.0",
            "type": "Conv2d",
            "output_shape": [1, 6, 28, 28],
            "parameters": 156,
            "multiply_adds": 117_600,
            "receptive_field": 5,
        }

    def test_a_table_has_a_line_a_row_and_the_totals(self):
        output = run("vgg").stdout

        assert [line.split()[0] for line in output.splitlines() if "network." in line] == [
            f"network.{index}" for index in range(13)
        ]
        assert "vgg11: input 1x224x224, 43,093,322 parameters, 1,024,311,296 flops an image" in output

    def test_depth_takes_blocks_apart_down_to_single_layers(self):
        def names(depth: str) -> list[str]:
            return [layer["name"] for layer in json.loads(run("resnet18", "--depth", depth, "--json").stdout)["layers"]]

        stages = ["stage1", "stage2", "stage3", "stage4"]
        assert names("1") == [f"network.{part}" for part in ["stem", *stages, "head"]]
        assert names("2")[3:6] == ["network.stem.3", "network.stage1.0", "network.stage1.1"]
        assert names("0")[4:8] == [f"network.stage1.0.{layer}" for layer in ["conv1", "bn1", "conv2", "bn2"]]
        assert names("0") == names("9")
