"""`runtime predict`: answers on stdout and nothing else there, in every form, whatever the pictures are."""

import csv
import io
import json
from pathlib import Path

import pytest
from PIL import Image
from support.command_line import call, python

pytestmark = pytest.mark.usefixtures("empty_home")


def test_predict_names_what_is_in_a_picture(picture_folder):
    result = call("runtime", "predict", "-m", "lenet", picture_folder / "0.png", "--device", "cpu")

    assert result.exit_code == 0
    assert result.stdout.startswith(f"{picture_folder / '0.png'}: Ankle boot ")
    assert result.stderr == ""


def test_predict_json_is_the_designs_document_and_a_bad_picture_does_not_stop_the_others(picture_folder):
    result = call("runtime", "predict", "-m", "lenet", picture_folder, "-r", "--json", "--topk", "2")
    answers = json.loads(result.stdout)

    assert result.exit_code == 1
    assert [Path(answer["source"]).name for answer in answers] == ["0.png", "1.png", "2.png", "bad.png", "photo.jpg"]
    assert [answer.get("label") for answer in answers] == ["Ankle boot", "Pullover", "Trouser", None, "Trouser"]
    good, bad, photo = answers[0], answers[3], answers[4]
    rest = {"in_distribution", "inverted", "top", "warnings"}
    assert set(good) == {"source", "ok", "label", "index", "confidence"} | rest
    assert (good["ok"], good["index"], len(good["top"])) == (True, 9, 2)
    assert set(good["top"][0]) == {"label", "index", "probability"}
    assert set(bad) == {"source", "ok", "error"}
    assert bad["ok"] is False
    assert bad["error"]["kind"] == "not_an_image"
    assert (good["inverted"], photo["inverted"]) == (False, True)
    assert "1 of 5 pictures could not be read" in result.stderr


def test_predict_jsonl_and_csv_say_the_same_as_json(picture_folder):
    Image.new("L", (60, 60), 128).save(picture_folder / "flat.png")
    whole = json.loads(call("runtime", "predict", picture_folder, "--json").stdout)
    lines = [json.loads(line) for line in call("runtime", "predict", picture_folder, "--jsonl").stdout.splitlines()]
    rows = list(csv.DictReader(io.StringIO(call("runtime", "predict", picture_folder, "--csv").stdout)))

    assert lines == whole
    assert [row["label"] for row in rows] == [answer.get("label", "") for answer in whole]
    assert rows[3]["error_kind"] == "not_an_image"
    assert [row["warnings"] for row in rows] == ["; ".join(answer.get("warnings", [])) for answer in whole]
    assert any(row["warnings"] for row in rows)


def test_a_source_without_pictures_does_not_stop_the_others(picture_folder, tmp_path):
    (tmp_path / "empty").mkdir()
    sources = [picture_folder / "0.png", tmp_path / "empty", "@missing.txt", "zz*.png", picture_folder / "1.png"]
    results = {form: call("runtime", "predict", *sources, *form.split()) for form in ("--json", "--jsonl", "--csv", "")}
    answers = json.loads(results["--json"].stdout)
    rows = list(csv.DictReader(io.StringIO(results["--csv"].stdout)))

    assert {result.exit_code for result in results.values()} == {1}
    assert [answer["source"] for answer in answers] == [str(source) for source in sources]
    assert [answer.get("label") for answer in answers] == ["Ankle boot", None, None, None, "Pullover"]
    assert [answer["error"]["kind"] for answer in answers[1:4]] == ["empty", "missing", "missing"]
    assert "the list missing.txt cannot be read" in answers[2]["error"]["message"]
    assert [json.loads(line) for line in results["--jsonl"].stdout.splitlines()] == answers
    assert [row["error_kind"] for row in rows] == ["", "empty", "missing", "missing", ""]
    assert [line.split()[1] for line in results[""].stdout.splitlines()] == ["Ankle", "Pullover"]
    assert "3 of 5 pictures could not be read" in results[""].stderr


def test_predict_reads_stdin_lists_and_patterns(picture_folder, tmp_path):
    picture = (picture_folder / "1.png").read_bytes()
    listed = tmp_path / "list.txt"
    listed.write_text(f"{picture_folder / '2.png'}\n\n# a remark\n{picture_folder / '0.png'}\n")

    assert call("runtime", "predict", "-", stdin=picture).stdout.startswith("-: Pullover")
    answers = json.loads(call("runtime", "predict", f"@{listed}", picture_folder / "[01].png", "--json").stdout)
    assert [Path(answer["source"]).name for answer in answers] == ["2.png", "0.png", "0.png", "1.png"]


def test_a_light_background_is_inverted_and_said_to_be_unless_forbidden(picture_folder):
    photo = picture_folder / "more" / "photo.jpg"
    as_is = json.loads(call("runtime", "predict", photo, "--json").stdout)[0]
    forbidden = json.loads(call("runtime", "predict", photo, "--json", "--invert", "no").stdout)[0]

    assert (as_is["inverted"], forbidden["inverted"]) == (True, False)
    assert "light background, inverted" in call("runtime", "predict", photo).stdout


@pytest.mark.parametrize(
    "option", [["--threads", "99999999999"], ["-b", "99999999999999999999"], ["--topk", "99999999999999999999999"]]
)
def test_a_number_beyond_all_sense_is_refused_or_does_no_harm(picture_folder, option):
    result = call("runtime", "predict", picture_folder / "0.png", *option)

    assert result.exit_code == (0 if option[0] == "--topk" else 2)
    assert "Traceback" not in result.stderr


def test_nothing_that_a_library_prints_reaches_stdout(picture_folder):
    program = (
        "import os, sys\nfrom runtime.imaging import preprocess as images\nfrom runtime.cli import runtime\n"
        "original = images.to_pixels\n"
        "def chatty(*a, **k):\n    print('python chatter'); os.write(1, b'native chatter')\n"
        "    return original(*a, **k)\n"
        "import runtime.pipeline as s\ns.to_pixels = chatty\n"
        f"runtime(['predict', {str(picture_folder / '0.png')!r}, '--json', '--device', 'cpu'])"
    )
    done = python("-c", program)

    assert json.loads(done.stdout)[0]["label"] == "Ankle boot"
    assert "python chatter" in done.stderr
    assert "native chatter" in done.stderr
