"""Over 200 bad pictures among good ones: each is refused by kind, in its place, and every good one is answered."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from support.bad_pictures import lay_out

ROOT = Path(__file__).resolve().parents[3]
LEAST = 200  # bad ones


@pytest.fixture(scope="module")
def pictures(
    test_images: npt.NDArray[np.uint8], tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[bytes], dict[bytes, set[str]]]:
    """All paths, the good ones spread among the bad, and the kinds of error that each bad one may have."""
    bad, good = lay_out(tmp_path_factory.mktemp("pictures"), test_images[0])
    paths = list(bad)
    for number, path in enumerate(good):
        paths.insert(number * len(paths) // len(good), path)
    assert len(bad) >= LEAST
    assert len(good) >= 30
    return paths, bad


def test_on_the_command_line_each_is_a_line_of_its_own_and_no_traceback(pictures):
    paths, bad = pictures
    command: list[str | bytes] = [sys.executable, "-m", "runtime", "predict", "-m", "lenet", "--jsonl"]
    done = subprocess.run(
        [*command, "--device", "cpu", *paths], capture_output=True, cwd=ROOT, check=False, timeout=120
    )
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]

    assert done.returncode == 1
    assert done.stderr.decode() == f"{len(bad)} of {len(paths)} pictures could not be read\n"
    assert [os.fsencode(line["source"]) for line in lines] == paths
    assert {path for path, line in zip(paths, lines, strict=True) if not line["ok"]} == set(bad)
    for path, line in zip(paths, lines, strict=True):
        if path in bad:
            assert line["error"]["kind"] in bad[path]
            assert line["error"]["message"].isprintable()
        else:
            assert 0 < line["confidence"] <= 1
            assert line["label"] == "Ankle boot" or b" by " in path  # which is no garment
