"""The web layout: a folder that, in a real browser and with a static server alone, answers as the network did."""

import base64
import functools
import http.server
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.command_line import call
from support.photo_models import random_model
from support.pictures import encoded

from export.deploy import LayoutRefused, web
from export.deploy.web import ONNXRUNTIME_WEB, find_onnxruntime_web, write_web
from runtime import Classifier, InputSpec
from runtime.evaluation import parity
from runtime.imaging.photo import to_levels
from runtime.imaging.preprocess import to_pixels
from runtime.model.registry import find_model

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
MODELS = ("lenet", "lenet-modern")
PHOTOS = InputSpec.photo((40, 60), resize=64)


def as_base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


class QuietServer(http.server.SimpleHTTPRequestHandler):
    """A static server, and nothing else."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a static server; the folder of each model is under the model's name."""
    folder = tmp_path_factory.mktemp("sites")
    photos = random_model(folder / "thousand.onnx", PHOTOS, 1000)
    for model in (*MODELS, photos):
        try:
            write_web(find_model(model), folder / Path(model).stem)
        except LayoutRefused as refused:
            pytest.skip(str(refused))
    handler = functools.partial(QuietServer, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def page(browser: Any, sites: str) -> Iterator[Any]:
    """A page that fails the test if anything is written to its console, or asked of any other server."""
    opened = browser.new_page()
    opened.set_default_timeout(120_000)  # milliseconds, for a busy machine
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda asked: asked.url.startswith((sites, "data:", "blob:")) or complaints.append(asked.url))
    yield opened
    opened.close()
    assert complaints == []


@pytest.mark.parametrize("model", MODELS)
def test_the_parity_page_says_what_runtime_parity_says(page, sites, model):
    page.goto(f"{sites}/{model}/parity.html")
    page.wait_for_function("document.getElementById('report').textContent")
    found = json.loads(page.text_content("#report"))
    with Classifier(model, device="cpu") as classifier:
        here = parity.measure_parity(classifier).as_dict()

    assert (found["passed"], found["flips"], found["images"]) == (True, 0, here["images"])
    assert {name: row["tolerance"] for name, row in found["outputs"].items()} == {
        name: row["tolerance"] for name, row in here["outputs"].items()
    }


def test_a_wrong_weight_fails_parity_in_the_browser(page, sites, tmp_path):
    page.route("**/model.onnx", lambda route: route.fulfill(path=ROOT / "weights" / "lenet" / "model.onnx"))
    page.goto(f"{sites}/lenet-modern/parity.html")  # the golden answers of one model, the file of another
    page.wait_for_function("document.getElementById('report').textContent")

    assert page.text_content("#verdict").startswith("No: ")
    assert json.loads(page.text_content("#report"))["passed"] is False


@pytest.mark.parametrize("model", MODELS)
def test_200_test_images_get_the_same_decisions_and_the_very_same_pixels(page, sites, model, test_images):
    images = test_images[:200]
    page.goto(f"{sites}/{model}/index.html")
    answers = page.evaluate(
        """async (files) => {
            const { predict } = await import("./predictor.js");
            const answers = [];
            for (const file of files) {
                const picture = await (await fetch(`data:image/png;base64,${file}`)).blob();
                const { label, pixels } = await predict(picture);
                answers.push({ label, pixels: Array.from(pixels) });
            }
            return answers;
        }""",
        [as_base64(encoded(Image.fromarray(image))) for image in images],
    )
    with Classifier(model, device="cpu") as classifier:
        expected = [prediction.label for prediction in classifier.predict_batch(list(images))]

    assert [answer["label"] for answer in answers] == expected
    np.testing.assert_array_equal([answer["pixels"] for answer in answers], images.reshape(200, 784))


def test_a_photograph_in_colour_is_prepared_as_the_runtime_prepares_it(page, sites, test_images):
    sheet = Image.new("RGB", (640, 480), (243, 239, 228))
    garment = Image.fromarray(255 - test_images[0]).resize((280, 280), Image.Resampling.BICUBIC)
    sheet.paste(
        Image.merge("RGB", [garment, garment.point(lambda v: v * 0.97), garment.point(lambda v: v * 0.9)]), (90, 50)
    )
    page.goto(f"{sites}/lenet/index.html")
    answer = page.evaluate(
        """async (file) => {
            const { predict } = await import("./predictor.js");
            const found = await predict(await (await fetch(`data:image/png;base64,${file}`)).blob());
            return { ...found, pixels: Array.from(found.pixels) };
        }""",
        as_base64(encoded(sheet)),
    )
    expected = to_pixels(sheet)

    assert (answer["label"], answer["inverted"]) == ("Ankle boot", True)
    assert np.abs(np.array(answer["pixels"]) - expected.array.reshape(-1)).max() <= 2


def test_the_page_names_its_first_example_and_a_file_that_is_no_picture_gets_a_sentence(page, sites):
    page.goto(f"{sites}/lenet/")
    page.wait_for_function("document.getElementById('where').textContent.includes('ms')")

    assert page.text_content("#label") == "Ankle boot"
    assert page.text_content("#where").startswith("lenet on this browser, WebAssembly")

    page.set_input_files("#file", {"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.wait_for_selector("#error:not([hidden])")

    assert page.text_content("#error") == "This browser cannot read the picture; PNG and JPEG always work."


def test_a_photo_model_is_shown_its_pixels_and_names_three_of_its_thousand_classes(page, sites, test_images, tmp_path):
    page.goto(f"{sites}/thousand/")
    page.wait_for_selector("#model:not([disabled])")
    assert page.locator("#examples").is_hidden()
    assert page.text_content("#label").strip() == ""

    picture = Image.fromarray(test_images[:3].transpose(1, 2, 0).copy()).resize((200, 130), Image.Resampling.BICUBIC)
    content = encoded(picture)
    page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": content})
    page.wait_for_function("document.getElementById('where').textContent.includes('ms')")
    seen = page.evaluate(
        """() => {
            const { width, height } = document.getElementById("seen");
            const { data } = document.getElementById("seen").getContext("2d").getImageData(0, 0, width, height);
            return { shape: [height, width, 4], data: Array.from(data) };
        }"""
    )
    levels = np.reshape(seen["data"], seen["shape"])[..., :3].transpose(2, 0, 1)
    with Classifier(random_model(tmp_path / "thousand.onnx", PHOTOS, 1000), device="cpu") as classifier:
        expected = classifier.predict(content).label

    assert np.abs(levels - to_levels(content, PHOTOS).astype(int)).max() <= 1
    assert page.text_content("#label") == expected
    assert page.locator("#bars tbody tr").count() == 3
    page.fill("#search", expected)
    assert page.text_content("#bars tbody tr:last-child th").startswith(expected)
    assert page.text_content("#bars tbody tr th") == expected
    assert page.text_content("#how") == "60 × 40 pixels, as the network gets them."


# Without a browser: what is written, and what is refused


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder in which npm has installed an onnxruntime-web, as far as its files' names go."""
    package = tmp_path / "app" / "node_modules" / "onnxruntime-web"
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text(json.dumps({"version": ONNXRUNTIME_WEB}))
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (package / "dist" / name).write_bytes(name.encode())
    return tmp_path / "app"


def test_the_folder_holds_the_very_file_and_what_it_says_of_itself(installed, tmp_path):
    stored = find_model("lenet")
    site = write_web(stored, tmp_path / "site", installed)
    description = json.loads((site / "model.json").read_text())

    assert (site / "model.onnx").read_bytes() == stored.path.read_bytes()
    assert description["sha256"] == (stored.entry or {})["sha256"]
    assert description["metadata"]["labels"] == (stored.entry or {})["labels"]
    assert (site / "onnxruntime" / "ort.wasm").read_bytes() == b"ort-wasm-simd-threaded.wasm"


def test_every_file_that_the_pages_and_modules_name_is_in_the_folder(installed, tmp_path):
    site = write_web(find_model("lenet"), tmp_path / "site", installed)
    for source in [*site.glob("*.js"), *site.glob("*.html")]:
        text = source.read_text()
        assert not re.findall(r"https?://|@import|<style", text), source.name
        for target in re.findall(r'(?:from |import\(|src=|href=|here\()"([^"]+)"', text):
            assert (site / target).is_file(), (source.name, target)


def test_a_file_that_travels_alone_is_written_without_golden_answers(installed, tmp_path):
    shutil.copy(ROOT / "weights" / "lenet" / "model.onnx", tmp_path / "alone.onnx")
    site = write_web(find_model(tmp_path / "alone.onnx"), tmp_path / "site", installed)

    assert json.loads((site / "model.json").read_text())["golden"] is None
    assert not (site / "golden.json").exists()


def test_onnxruntime_web_is_found_in_the_nearest_folder_above(installed):
    below = installed / "src" / "pages"
    below.mkdir(parents=True)

    assert find_onnxruntime_web(below) == installed / "node_modules" / "onnxruntime-web"


def test_without_the_npm_package_one_sentence_names_the_install_line(tmp_path, monkeypatch):
    monkeypatch.setattr(web, "repository_weights", lambda: None)
    monkeypatch.chdir(tmp_path)
    done = call("zoo", "export", "lenet", "--layout", "web", "-o", "site")

    assert done.exit_code == 1
    assert f"npm install --ignore-scripts onnxruntime-web@{ONNXRUNTIME_WEB}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "site").exists()


def test_another_version_of_the_npm_package_is_refused(installed):
    (installed / "node_modules" / "onnxruntime-web" / "package.json").write_text('{"version": "1.0.0"}')

    with pytest.raises(LayoutRefused, match=r"is version 1\.0\.0, and .* is the one tested"):
        find_onnxruntime_web(installed)


def test_a_damaged_npm_package_is_refused(installed):
    (installed / "node_modules" / "onnxruntime-web" / "dist" / "ort-wasm-simd-threaded.wasm").unlink()

    with pytest.raises(LayoutRefused, match="lacks dist/ort-wasm"):
        find_onnxruntime_web(installed)


def test_an_older_folder_is_replaced_and_what_the_new_one_lacks_is_gone(installed, tmp_path):
    shutil.copy(ROOT / "weights" / "lenet" / "model.onnx", tmp_path / "alone.onnx")
    site = write_web(find_model("lenet"), tmp_path / "site", installed)
    assert (site / "golden.json").exists()
    write_web(find_model(tmp_path / "alone.onnx"), site, installed)

    assert not (site / "golden.json").exists()
    assert json.loads((site / "model.json").read_text())["files"] == sorted(
        path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.onnx", "app", "site"]


FOREIGN: dict[str, Callable[[Path], object]] = {
    "CNAME": lambda path: path.write_text("zoo.example"),
    ".git": lambda path: path.mkdir(),
    "onnxruntime/own/notes.txt": lambda path: (path.parent.mkdir(), path.write_text("mine")),
    "photographs": lambda path: path.symlink_to(path.parents[1]),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_to_which_something_was_added_is_refused_and_stays_as_it_is(installed, tmp_path, name):
    site = write_web(find_model("lenet"), tmp_path / "site", installed)
    FOREIGN[name](site / name)
    before = tree(site)
    with pytest.raises(LayoutRefused, match=f"holds other files, which would be lost, {re.escape(name)} among them"):
        write_web(find_model("lenet-modern"), site, installed)

    assert tree(site) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app", "site"]


@pytest.mark.parametrize(
    "description",
    [
        '{"format": "layers-model", "modelTopology": {}, "weightsManifest": []}',
        '{"files": ["model.json", "group1-shard1of1.bin"]}',
        '{"onnxruntime_web": "1.30.0", "files": 3}',
        '["onnxruntime_web", "files"]',
        "no JSON",
    ],
)
def test_a_foreign_model_json_does_not_make_a_folder_ours(installed, tmp_path, description):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "model.json").write_text(description)
    (mine / "group1-shard1of1.bin").write_bytes(b"years of work")
    before = tree(mine)
    with pytest.raises(LayoutRefused, match="holds other files, which would be lost"):
        write_web(find_model("lenet"), mine, installed)

    assert tree(mine) == before


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder by its path; the content of files."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_a_failed_write_leaves_the_old_folder(installed, tmp_path, monkeypatch):
    site = write_web(find_model("lenet"), tmp_path / "site", installed)

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("export.deploy.web.write_synced", full)
    with pytest.raises(OSError, match="No space left"):
        write_web(find_model("lenet-modern"), site, installed)

    assert json.loads((site / "model.json").read_text())["metadata"]["model"] == "lenet"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app", "site"]


def test_a_layout_needs_a_folder():
    done = call("zoo", "export", "lenet", "--layout", "web")

    assert done.exit_code == 2
    assert "--layout needs -o" in done.stderr


def test_package_json_pins_the_version_that_is_asked_for():
    dependencies = json.loads((ROOT / "package.json").read_text())["dependencies"]
    locked = json.loads((ROOT / "package-lock.json").read_text())["packages"]

    assert dependencies == {"onnxruntime-web": ONNXRUNTIME_WEB}
    assert locked["node_modules/onnxruntime-web"]["version"] == ONNXRUNTIME_WEB
    assert all("integrity" in package for path, package in locked.items() if path.startswith("node_modules/@"))
