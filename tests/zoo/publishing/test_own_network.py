"""A user with a `.pth`, a list of labels and a folder of photographs exports and proves by the command line alone."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.command_line import call

from export.verification.speed import adds_products_in_32_bits

pytestmark = pytest.mark.slow

CODE = """
from torch import nn

def make():
    layers = [nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, 3))

def nothing():
    return {}
"""
ASKED = ("--module", "net.py:make", "--weights", "pets.pth", "--labels", "pets.txt", "--data-dir", "photos")
INPUT = ("--input", "photo:32", "--resize", "36", "--mean", "0.5,0.4,0.3", "--std", "0.2,0.2,0.25")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(CODE)
    (tmp_path / "pets.txt").write_text("cat\nDog, large\nbird\n")
    namespace: dict[str, object] = {}
    exec(CODE, namespace)
    torch.manual_seed(0)
    state = namespace["make"]().state_dict()  # type: ignore[operator]
    torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, "pets.pth")
    random = np.random.default_rng(0)
    for folder in ("cat", "dog-large", "bird"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for number, size in enumerate([(40, 60), (90, 50)]):
            pixels = random.integers(0, 256, (*size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / folder / f"{number}.png")
    return tmp_path


def test_labels_in_another_order_are_asked_about(files):
    """No check can know that labels are exchanged; the answers to the pictures show it."""
    (files / "net.py").write_text(
        "import torch\nfrom torch import nn\n\n"
        "class Light(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.dense = nn.Linear(1, 2)\n"
        "        self.dense.weight.data, self.dense.bias.data = torch.tensor([[-9.0], [9.0]]), torch.zeros(2)\n\n"
        "    def forward(self, images):\n        return self.dense(images.mean((1, 2, 3))[:, None])\n"
    )
    for name, level in (("dark", 20), ("light", 230)):
        (files / "lights" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (40, 40), (level + number,) * 3).save(files / "lights" / name / f"{number}.png")
    told = {}
    for order in ("dark\nlight\n", "light\ndark\n"):
        (files / "order.txt").write_text(order)
        asked = ("--module", "net.py:Light", "--labels", "order.txt", "--data-dir", "lights", "--input", "photo:32")
        told[order] = call("zoo", "export", "lights", *asked, "-o", "out").stderr
        again = call("zoo", "verify", *asked, "--onnx", "out/lights/model.onnx")
        assert again.exit_code == 0
        assert ("order of the outputs" in again.stderr) is ("order of the outputs" in told[order])

    assert "order of the outputs" not in told["dark\nlight\n"]
    assert "most pictures of 'dark' are answered 'light'" in told["light\ndark\n"]


def test_a_state_dict_labels_and_photographs_become_a_proved_file(files):
    made = call("zoo", "export", "pets", *ASKED, *INPUT, "-o", "out", "--json")
    entry = json.loads(made.stdout)
    proved = call("zoo", "verify", *ASKED, *INPUT, "--onnx", "out/pets/model.onnx", "--json")
    other = call("zoo", "verify", *ASKED, *INPUT[:-1], "0.2,0.2,0.26", "--onnx", "out/pets/model.onnx")
    told = call("zoo", "export", "pets", *ASKED, *INPUT, "-o", "small", "--storage", "int8")
    changed = call("zoo", "diff", "out/pets/model.onnx", "small/pets/model.onnx", "--json")

    assert entry["labels"] == ["cat", "Dog, large", "bird"]
    assert entry["accuracy"]["n"] == 6
    assert entry["input"]["normalization"] == {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.25], "inside_graph": True}
    assert json.loads(proved.stdout)["passed"] is True
    assert other.exit_code == 3
    assert told.exit_code == 0
    assert "9 checks passed" in told.stdout
    assert 0 < json.loads(changed.stdout)["outputs"]["logits"] < 0.1


def test_the_file_says_what_its_input_is(files):
    """Lost otherwise: a proof that fails for options which were forgotten, not for the file."""
    stretched = ("--input", "photo:24x40", "--resize", "stretch", "--mean", "0.5,0.4,0.3", "--std", "0.2,0.2,0.25")
    made = call("zoo", "export", "pets", *ASKED, *stretched, "-o", "out", "--json")
    proved = call("zoo", "verify", *ASKED, "--onnx", "out/pets/model.onnx", "--json")
    other = call("zoo", "verify", *ASKED, "--mean", "0.4", "--onnx", "out/pets/model.onnx")

    assert json.loads(made.stdout)["input"]["preprocess"]["resize"] == "stretch"
    assert json.loads(proved.stdout)["passed"] is True
    assert "stretched to 24x40 pixels, mean (0.5, 0.4, 0.3)" in " ".join(proved.stderr.split())
    assert other.exit_code == 3
    assert "stretched to 24x40 pixels, mean (0.4, 0.4, 0.4), std (0.2, 0.2, 0.25)" in " ".join(other.stderr.split())
    assert "of 6 right may be guessing" in " ".join(made.stderr.split())


def test_garments_are_found_in_the_pictures_of_a_network_for_garments(files):
    (files / "net.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Sequential(nn.Flatten(), nn.Linear(784, 3))\n"
    )
    own = ("--module", "net.py:make", "--labels", "pets.txt", "--data-dir", "photos")
    given = ("--input", "fashion-mnist", "--mean", "0", "--std", "1")
    made = call("zoo", "export", "pets", *own, *given, "-o", "out", "--json")

    assert json.loads(made.stdout)["input"]["preprocess"]["name"] == "garment"


@pytest.mark.skipif(not adds_products_in_32_bits(), reason="this CPU has no VNNI, and int8 sums saturate")
def test_int8_is_calibrated_on_a_folder_and_proved_with_it(files):
    asked = (*ASKED, *INPUT, "--calibration", "photos")
    made = call(
        "zoo", "export", "pets", *asked, "--dtype", "int8", "--for", "size", "--max-drop", "1", "-o", "out", "--json"
    )
    proved = call("zoo", "verify", *asked, "--max-drop", "1", "--onnx", "out/pets/model.onnx", "--json")
    without = call("zoo", "verify", *ASKED, "--max-drop", "1", "--onnx", "out/pets/model.onnx")

    assert json.loads(made.stdout)["dtype"] == "int8"
    assert json.loads(proved.stdout)["passed"] is True
    assert without.exit_code == 3
    assert "calibration" in without.stdout


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("--module", "net.py:nothing"), "should return the network, but returns a dict"),
        (("--module", "net.py"), "should be FILE.py:function"),
        (("--module", "net.py:absent"), "fails with AttributeError"),
        (("--weights", "net.py"), "cannot be read: .*give a state_dict"),
        (("--input", "video:32"), "should be photo:SIZE"),
        (("--mean", "grey"), "--mean should be numbers with commas"),
        (("--labels", "few.txt"), "is no class of this model"),
        (("--dtype", "int8"), "needs --calibration, a folder of pictures"),
        (("--resize", "fit"), "'fit' is not a valid integer"),
        (("--checkpoint", "net.py"), "leave them out with --module"),
    ],
)
def test_what_is_wrong_is_named(files, change, sentence):
    (files / "few.txt").write_text("cat\ndog large\n")
    refused = call("zoo", "export", "pets", *ASKED, *INPUT, *change, "-o", "out")

    assert refused.exit_code == 2
    assert not (files / "out").exists()
    assert re.search(sentence, " ".join(refused.stderr.split()))
