"""The screenshots of docs/images: `python -m tools.screenshots` makes them anew, of a running server and real commands.

    page.png       the page of `runtime serve`, with the picture examples/shoe.png, in Chromium
    predict.svg    `runtime predict` on a terminal
    verify.svg     `zoo verify` on a terminal

Needs the extra `dev`, and chromium on the PATH. `--page` makes the first alone, `--terminal` the others.
"""

import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from PIL import Image
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
COMMANDS = {
    "predict": "runtime predict examples/shoe.png runtime/serving/static/examples -m lenet-modern --device cpu",
    "verify": "zoo verify lenet",
}
# Rich's own template names a font on another server.
FONT_FACE = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def terminal(name: str, command: str) -> Path:
    """Run a command, draw what it prints as on a terminal, and return the SVG's path."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", *shlex.split(command)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"FORCE_COLOR": "1"},
    )
    printed = [Text(f"$ {command}", style="bold"), *map(Text.from_ansi, done.stdout.rstrip().splitlines())]
    console = Console(record=True, width=max(len(line.plain.rstrip()) for line in printed), file=io.StringIO())
    for line in printed:
        line.rstrip()
        console.print(line, highlight=False, no_wrap=True)
    path = IMAGES / f"{name}.svg"
    text = console.export_svg(title=command.split()[0], unique_id=name)
    path.write_text(FONT_FACE.sub("", text).replace("Fira Code", "ui-monospace"), "utf-8")
    return path


def page(path: Path) -> Path:
    """Photograph the page with a shoe on it, and return the PNG's path."""
    from playwright.sync_api import sync_playwright

    command = [sys.executable, "-P", "-m", "runtime", "serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        try:
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                opened = browser.new_page(viewport={"width": 1000, "height": 640}, device_scale_factor=1.5)
                opened.goto(url)
                for _ in range(5):  # the first answers are slower
                    with opened.expect_response(re.compile(r"/predict\?")):
                        opened.set_input_files("#file", ROOT / "examples" / "shoe.png")
                opened.locator("#how", has_text="exchanged").wait_for()
                opened.wait_for_timeout(500)  # until the bars stand still
                shot = opened.screenshot()
                browser.close()
        finally:
            server.terminate()
    Image.open(io.BytesIO(shot)).convert("RGB").quantize(128).save(path, optimize=True)
    return path


def main() -> None:
    """Make them."""
    IMAGES.mkdir(exist_ok=True)
    if "--terminal" not in sys.argv:
        print(page(IMAGES / "page.png").relative_to(ROOT))
    if "--page" not in sys.argv:
        for name, command in COMMANDS.items():
            print(terminal(name, command).relative_to(ROOT))


if __name__ == "__main__":
    main()
