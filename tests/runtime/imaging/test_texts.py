"""What people give in place of a picture is recognised, and a message says what to do instead."""

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.command_line import call
from support.pictures import Grey, encoded

from runtime.cli.predict import Nothing, expand
from runtime.errors import ImageError, UsageError
from runtime.evaluation.image_folder import labelled_pictures
from runtime.imaging.load import Source
from runtime.imaging.preprocess import to_pixels

HEIC = b"\0\0\0\x18ftypheic" + bytes(200)


def message_of(source: Source) -> str:
    with pytest.raises(ImageError) as caught:
        to_pixels(source)
    assert len(str(caught.value)) < 500
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("https://example.org/shoe.png?size=2", "download it first"),
        ("file:///home/me/shoe.png", "give the path alone"),
        ("S3://bucket/shoe.png", "download it first"),
        ("iVBORw0KGgoAAAANSUhEUgAA" + "A" * 400_000, "base64 -d"),
        ("/9j/4AAQSkZJRgABAQ" + "A" * 4000, "base64 -d"),
        ("data:text/plain,hello", "without base64"),
        ('{"image": "shoe.png"}', "JSON"),
    ],
)
def test_a_text_is_recognised_as_a_path_and_as_content(text, advice):
    assert advice in message_of(text)
    assert advice in message_of(text.encode())


def test_a_data_url_is_decoded(shirt):
    png = encoded(Image.fromarray(shirt), format="PNG")
    url = "data:image/png;base64," + base64.b64encode(png).decode()
    for source in (url, url.encode(), io.BytesIO(url.encode() + b"\n")):
        np.testing.assert_array_equal(to_pixels(source).array, shirt)


def test_a_png_that_went_through_text_is_told_from_noise(shirt):
    png = encoded(Image.fromarray(shirt), format="PNG")
    stripped, newlines = png.replace(b"\r", b"").replace(b"\n", b""), png.replace(b"\r\n", b"\n")
    for damaged in (stripped, newlines, png.decode("utf-8", "replace").encode()):
        assert "--data-binary" in message_of(damaged)
    assert "none of PNG" in message_of(b"\x89QNG\r\n\x1a\n" + bytes(90))


def test_a_phones_heic_names_the_plugin():
    assert "pillow-heif" in message_of(HEIC)
    assert "JPEG XL" in message_of(b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(50))


def test_a_closed_picture_and_a_closed_stream_are_called_closed(shirt, tmp_path):
    for kind in ("png", "jpg", "gif"):
        path = tmp_path / f"shirt.{kind}"
        Image.fromarray(shirt).save(path)
        with Image.open(path) as picture:
            pass
        assert "closed" in message_of(picture)
    stream = io.BytesIO(b"x")
    stream.close()
    assert "closed" in message_of(stream)


def test_sixteen_bits_have_one_scale(shirt):
    dim = np.zeros((28, 28), np.uint16)
    for level in (255, 256, 4096):
        dim[8:20, 8:20] = level
        array = to_pixels(encoded(Image.fromarray(dim), format="PNG"), fit="exact").array
        assert int(array.max()) == round(level / 257)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16-le", "utf-16-be", "utf-16"])
def test_a_list_by_powershell_is_read(encoding, tmp_path):
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    (tmp_path / "list.txt").write_bytes(f"{mark}boot.png\r\nmüller.png\r\n".encode(encoding))
    assert list(expand([f"@{tmp_path / 'list.txt'}"])) == ["boot.png", "müller.png"]


@pytest.fixture
def phone(shirt: Grey, tmp_path: Path) -> Path:
    """A class's folder as a phone and a Mac leave it."""
    folder = tmp_path / "photos" / "shirt"
    (folder / "__MACOSX").mkdir(parents=True)
    Image.fromarray(shirt).save(folder / "a.png")
    for name in ("1.HEIC", "2.heic", "IMG", "._a.png", ".DS_Store", "Thumbs.db", "__MACOSX/b.png"):
        (folder / name).write_bytes(HEIC)
    return folder


def test_a_folders_other_files_are_named_in_one_note_and_litter_is_not(phone):
    result = call("runtime", "predict", phone, "-r", "--device", "cpu", "-m", "lenet")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    assert "3 files passed over: .heic (save as JPEG, or pip install pillow-heif), without a suffix" in result.stderr
    measured = call("runtime", "accuracy", phone.parent, "--device", "cpu", "-m", "lenet")
    assert "3 files passed over" in measured.stderr


def test_a_folder_of_nothing_but_heic_says_so(phone):
    (phone / "a.png").unlink()
    with pytest.raises(UsageError, match=r"holds no pictures.*passed over: \.heic"):
        list(expand([str(phone)]))
    assert [type(found) for found in expand([str(phone), "x.png"])] == [Nothing, str]
    with pytest.raises(UsageError, match=r"passed over: \.heic"):
        labelled_pictures(phone.parent, ("shirt",))
