"""The page of `runtime serve` in a real browser: what a reader does, and what the reader then sees."""

import io
import re
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from support.page_files import EXAMPLES
from support.running_server import RunningServer

from runtime import Classifier
from runtime.imaging.preprocess import to_pixels

pytestmark = pytest.mark.slow

Images = npt.NDArray[np.uint8]
ARIA_PRESSED = "aria-pressed"
ANSWERS = re.compile(r"/predict\?")


@pytest.fixture
def open_page(browser: Any, server: RunningServer) -> Iterator[Callable[..., Any]]:
    """Opens the page, and fails the test if the console says anything, or another server is asked for anything."""
    contexts: list[Any] = []
    complaints: list[str] = []

    def opened(**context: Any) -> Any:
        contexts.append(browser.new_context(**context))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(server.url) or complaints.append(asked.url))
        page.goto(server.url)
        page.locator("#label", has_text="Ankle boot").wait_for()  # the first example
        return page

    yield opened
    for context in contexts:
        context.close()
    # Chromium itself notes every answer that is an error; what the page makes of it is what is tested.
    assert [line for line in complaints if "Failed to load resource" not in line] == []


def seen_pixels(page: Any) -> Images:
    """What the canvas of the network's view holds: uint8 (28, 28)."""
    levels = page.evaluate(
        "Array.from(document.getElementById('seen').getContext('2d').getImageData(0, 0, 28, 28).data)"
    )
    return np.array(levels, np.uint8).reshape(28, 28, 4)[:, :, 0]


def shares(page: Any) -> dict[str, float]:
    """The table of probabilities, in percent."""
    rows = page.evaluate(
        "Array.from(document.querySelectorAll('#bars tr'), (r) => [r.cells[0].textContent, r.cells[2].textContent])"
    )
    return {label: float(share.removesuffix(" %")) for label, share in rows}


def photo_file(image: npt.NDArray[np.uint8], format: str = "JPEG") -> bytes:
    page = Image.new("L", (600, 800), 240)
    page.paste(Image.fromarray(255 - image).resize((420, 420)), (90, 190))
    file = io.BytesIO()
    page.save(file, format)
    return file.getvalue()


def test_the_page_is_a_few_kilobytes_and_names_its_first_example(open_page):
    """Lost otherwise: seconds on a slow line before the page can be used."""
    page = open_page()
    loaded = page.evaluate(
        "performance.getEntriesByType('resource').map(({ name, decodedBodySize }) => [name, decodedBodySize])"
    )

    assert {name.rsplit("/", 1)[1] for name, _ in loaded} >= {"style.css", "page.js", "predictor.js"}
    assert sum(size for _, size in loaded) < 60_000
    assert page.title() == "Fashion Zoo"
    assert re.fullmatch(r"lenet on cpu, [\d.]+ ms", page.locator("#where").inner_text())


def test_every_example_is_named_rightly_by_each_model(open_page):
    page = open_page()
    for model in ("lenet", "lenet-modern"):
        page.select_option("#model", model)
        page.locator("#where", has_text=f"{model} on cpu").wait_for()
        for _, label in EXAMPLES:
            button = page.get_by_role("button", name=label, exact=True)
            button.click()
            page.locator("#label", has_text=label).wait_for()

            assert button.get_attribute(ARIA_PRESSED) == "true"


def test_a_chosen_photo_is_shown_as_the_network_sees_it(open_page, test_images):
    page = open_page()
    photo = photo_file(test_images[2])
    page.set_input_files("#file", {"name": "legs.jpg", "mimeType": "image/jpeg", "buffer": photo})
    page.locator("#label", has_text="Trouser").wait_for()
    prediction = Classifier("lenet", device="cpu").predict(photo, topk=10)

    np.testing.assert_array_equal(seen_pixels(page), to_pixels(photo).array)
    assert "light and dark were exchanged" in page.locator("#how").inner_text()
    assert shares(page) == pytest.approx(
        {candidate.label: 100 * candidate.probability for candidate in prediction.top}, abs=0.06
    )
    assert page.locator(f'#examples [{ARIA_PRESSED}="true"]').count() == 0
    assert page.locator("#pad").get_attribute("aria-label") == "legs.jpg"


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_may_be_dropped_or_pasted_anywhere(open_page, test_images, way):
    page = open_page()
    page.evaluate(
        """([way, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([Uint8Array.from(bytes)], "given.png", { type: "image/png" }));
            const event = way === "drop"
                ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true });
            document.body.dispatchEvent(event);
        }""",
        [way, list(photo_file(test_images[2], "PNG"))],
    )
    page.locator("#label", has_text="Trouser").wait_for()


def test_what_is_drawn_is_named_while_it_is_drawn(open_page):
    page = open_page()
    box = page.locator("#pad").bounding_box()

    def at(x: float, y: float) -> tuple[float, float]:
        return box["x"] + x * box["width"], box["y"] + y * box["height"]

    for x in (0.4, 0.43, 0.57, 0.6):  # two legs
        page.mouse.move(*at(x, 0.1))
        page.mouse.down()
        page.mouse.move(*at(x, 0.9), steps=10)
        page.mouse.up()
    page.mouse.move(*at(0.4, 0.12))
    page.mouse.down()
    page.mouse.move(*at(0.6, 0.12), steps=10)
    page.mouse.up()
    page.locator("#label", has_text="Trouser").wait_for()

    seen = seen_pixels(page)
    assert seen.max() == 255
    assert seen[0, 0] == seen[20, 14] == 0  # black paper, and between the legs
    assert page.locator("#pad").get_attribute("aria-label") == "Your drawing"
    page.get_by_role("button", name="Clear").click()
    assert page.locator("#label").inner_text().strip() == ""
    assert shares(page) == {}


def test_what_is_no_picture_is_said_in_one_sentence_and_does_not_stay(open_page):
    page = open_page()
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"})
    page.get_by_role("alert").filter(has_text="the picture is none of PNG").wait_for()
    assert shares(page) == {}
    page.get_by_role("button", name="Bag", exact=True).click()
    page.locator("#label", has_text="Bag").wait_for()

    assert page.get_by_role("alert").count() == 0


def test_all_is_reached_and_used_with_the_keyboard(open_page):
    page = open_page()
    reached = []
    for _ in range(13):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                """(() => {
                    const focused = document.activeElement;
                    return focused.id || focused.querySelector("img")?.alt || focused.tagName;
                })()"""
            )
        )
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", reached[-1]
    page.keyboard.press("Enter")
    page.locator("#label", has_text="Bag").wait_for()

    assert reached == ["model", "choose", "clear", *(label for _, label in EXAMPLES)]
    with page.expect_file_chooser():
        page.locator("#choose").press("Enter")


def test_everything_that_is_operated_or_shown_has_a_name(open_page):
    page = open_page()
    snapshot = page.locator("body").aria_snapshot()

    assert 'combobox "Model"' in snapshot
    assert 'img "Example: Ankle boot"' in snapshot
    assert 'img "The picture at 28 by 28 pixels, taken for: Ankle boot"' in snapshot
    assert 'table "Probability of each class"' in snapshot
    for unnamed in re.findall(r"- (button|img|combobox|textbox)(?: \[[^]]*\])*:?$", snapshot, re.MULTILINE):
        pytest.fail(f"there is a {unnamed} without a name")


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (390, "dark"), (820, "light"), (1280, "dark")])
def test_it_fits_any_screen_and_can_be_read_on_it(open_page, width, scheme):
    page = open_page(viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=width < 500)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for text in ("#label", "#where", "#how", "#bars th", "h2", ".small", "#choose"):
        assert contrast(page, text) >= 4.5, text  # WCAG AA
    for button in page.get_by_role("button").all():
        size = button.bounding_box()
        assert min(size["width"], size["height"]) >= 24  # WCAG 2.5.8


def contrast(page: Any, selector: str) -> float:
    """WCAG's contrast ratio of an element's text to the page."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    text, paper = page.evaluate(
        "(s) => [getComputedStyle(document.querySelector(s)).color, getComputedStyle(document.body).backgroundColor]",
        selector,
    )
    light, dark = sorted((luminance(text), luminance(paper)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def change_answers(page: Any, change: dict[str, Any]) -> None:
    """Have the server's next answers say something else as well."""

    def answer(route: Any) -> None:
        response = route.fetch()
        route.fulfill(response=response, json=response.json() | change)

    page.route(ANSWERS, answer)


def test_doubt_and_warnings_are_shown_as_text_and_go_with_the_next_answer(open_page):
    """Lost otherwise: a chair is called a bag, and nobody says that it is none."""
    page = open_page()
    change_answers(page, {"in_distribution": False, "warnings": ["the background is not plain <b>"]})
    page.get_by_role("button", name="Bag", exact=True).click()
    page.locator("#label", has_text="Not sure").wait_for()

    assert page.locator("#warnings li").all_inner_texts() == ["The closest is Bag.", "the background is not plain <b>"]
    page.unroute(ANSWERS)
    page.get_by_role("button", name="Coat", exact=True).click()
    page.locator("#label", has_text="Coat").wait_for()
    assert page.locator("#warnings li").count() == 0


def test_of_a_thousand_classes_three_are_shown_and_all_can_be_found(open_page):
    """Lost otherwise: a table of a thousand rows, or a class whose probability nobody can see."""
    page = open_page()
    assert page.get_by_role("searchbox").count() == 0  # ten are shown at once
    top = [{"label": f"class {index:03}", "index": index, "probability": 0.5 ** (index + 1)} for index in range(1000)]
    change_answers(page, {"label": "class 000", "top": top})
    page.get_by_role("button", name="Bag", exact=True).click()
    page.locator("#label", has_text="class 000").wait_for()
    assert list(shares(page)) == ["class 000", "class 001", "class 002"]

    page.get_by_role("searchbox", name="Find one of 1000 classes").fill("SS 73")
    assert list(shares(page)) == [f"class {index}" for index in range(730, 740)]
    page.get_by_role("searchbox").fill("")
    assert len(shares(page)) == 3


def test_a_photograph_from_the_camera_is_named(browser, server):
    """Lost otherwise: whoever has the shoe, and no picture of it."""
    flags = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    other = browser.browser_type.launch(executable_path=shutil.which("chromium"), args=flags)
    page = other.new_page(bypass_csp=True)  # wait_for_function evaluates text in the page
    page.set_default_timeout(60_000)
    page.goto(server.url)
    # The first example, which the page shows by itself, would close a camera that is opened before it has come.
    page.wait_for_function("document.getElementById('where').textContent.includes('ms')")
    page.get_by_role("button", name="Camera").click()
    page.wait_for_function("document.getElementById('view').videoWidth > 0")
    page.get_by_role("button", name="Take it").click()
    page.get_by_role("img", name="Photograph").wait_for()

    assert page.locator("#view").is_hidden()
    assert page.evaluate("document.getElementById('view').srcObject") is None  # the camera is off
    page.wait_for_function("document.getElementById('seen').getAttribute('aria-label').includes('taken for')")
    other.close()


def test_when_the_server_has_gone_the_reader_is_told(open_page):
    page = open_page()
    page.route("**/predict*", lambda route: route.abort())
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"x"})
    page.get_by_role("alert").filter(has_text="The server does not answer").wait_for()
