"""The weights that a user trained are those that are measured and exported; which were taken is said, not guessed."""

import json
import os
import shutil
from pathlib import Path

import pytest
from support.command_line import ROOT, call

from zoo.runs import checkpoint, trained
from zoo.runs.checkpoint import checkpoint_in
from zoo.runs.trained import load_trained, runs_since

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("empty_home", "few_images")]

PUBLISHED = ROOT / "weights" / "lenet" / "checkpoint.safetensors"


def own_run(folder: Path, seed: int = 7) -> Path:
    """Put a run into a folder: the published weights under another seed, so that it is another file."""
    found = checkpoint.load(PUBLISHED)
    checkpoint.save(checkpoint_in(folder), found.header | {"seed": seed}, found.weights)
    return checkpoint_in(folder)


def evaluated(*options: object) -> tuple[str, str]:
    """Return the checkpoint that `zoo eval lenet` took, from its JSON, and what it said on stderr."""
    done = call("zoo", "eval", "lenet", "--json", *options)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["checkpoint"], done.stderr


def test_a_fresh_clone_takes_the_published_weights_and_says_so():
    assert evaluated() == (str(PUBLISHED), f"checkpoint of lenet: {PUBLISHED} (published)\n")


def test_ones_own_run_comes_before_the_published_weights(empty_home):
    own = own_run(empty_home / "runs" / "lenet")

    assert evaluated() == (str(own), f"checkpoint of lenet: {own} (your run)\n")


def test_the_only_seed_of_a_series_is_taken_and_between_several_none_is_chosen(empty_home, tmp_path):
    folder = empty_home / "runs" / "lenet"
    runs = [own_run(folder / "seed-9", 9)]
    assert evaluated()[0] == str(runs[0])

    runs.append(own_run(folder / "seed-10", 10))
    for words in (["eval", "lenet"], ["export", "lenet"], ["export", "lenet", "--layout", "triton", "-o", tmp_path]):
        refused = call("zoo", *words)

        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "there are 2 trained checkpoints of lenet: name one with --checkpoint" in refused.stderr
        assert f"{runs[0]}, {runs[1]}" in refused.stderr  # in the order of the seeds, not of their digits
    assert not (empty_home / "weights").exists()
    assert evaluated("--checkpoint", folder / "seed-10")[0] == str(runs[1])


def test_a_run_that_was_begun_again_beside_a_series_is_no_silent_winner_either(empty_home):
    for folder in (".", "seed-0"):
        own_run(empty_home / "runs" / "lenet" / folder)
    own_run(empty_home / "runs" / "lenet" / "before-20261128-120000")

    refused = call("zoo", "eval", "lenet")
    assert (refused.exit_code, "there are 2 trained" in refused.stderr) == (2, True)


def test_the_folder_of_a_run_stands_for_its_checkpoint(tmp_path):
    own = own_run(tmp_path / "one")
    given = (str(own), f"checkpoint of lenet: {own} (given)\n")

    assert evaluated("--checkpoint", tmp_path / "one") == evaluated("--checkpoint", own) == given
    for seed in (0, 1):
        own_run(tmp_path / "series" / f"seed-{seed}", seed)
    several = call("zoo", "eval", "lenet", "--checkpoint", tmp_path / "series")
    none = call("zoo", "eval", "lenet", "--checkpoint", tmp_path)
    assert (several.exit_code, str(tmp_path / "series" / "seed-1") in several.stderr) == (2, True)
    assert (none.exit_code, f"there is no checkpoint at {tmp_path}" in none.stderr) == (1, True)


def test_the_last_line_of_a_training_elsewhere_is_the_command_that_exports_it(tmp_path):
    """Of a run with -o nobody knows afterwards: without that line the published weights would be exported."""
    train = ["train", "lenet", "--recipe", "d2l", "--epochs", "1", "--json", "-o", tmp_path / "my run"]
    done = call("zoo", *train)
    last = done.stderr.splitlines()[-1]

    own = checkpoint_in(tmp_path / "my run")
    assert json.loads(done.stdout)["checkpoint"] == str(own)
    assert last == f"export it with: zoo export lenet --checkpoint '{own}'"


def test_an_unfinished_run_is_measured_by_name(empty_home):
    own = own_run(empty_home / "runs" / "lenet")
    found = checkpoint.load(own)
    checkpoint.save(own, found.header | {"epoch": 3}, found.weights)

    assert "(your run, epoch 3 of 60)" in evaluated()[1]


def test_an_export_names_its_weights_and_verify_its_file_and_weights(empty_home, monkeypatch):
    own = own_run(empty_home / "runs" / "lenet")
    exported = call("zoo", "export", "lenet", "--json")
    entry = json.loads(exported.stdout)
    file = empty_home / "weights" / "lenet" / "model.onnx"

    assert exported.stderr == f"checkpoint of lenet: {own} (your run)\n"
    assert entry["checkpoint"]["path"] == str(own)
    assert entry["checkpoint"]["sha256"] == checkpoint.sha256_of(own)
    assert "path" not in (empty_home / "weights" / "index.json").read_text()

    later = own_run(empty_home / "runs" / "lenet", 8)
    os.utime(later, (later.stat().st_atime, file.stat().st_mtime + 10))
    verified = call("zoo", "verify", "lenet", "--images", "50", "--json")
    document = json.loads(verified.stdout)

    assert (document["file"], document["checkpoint"]) == (str(file), str(file.parent / "checkpoint.safetensors"))
    assert f"file of lenet: {file} (your export)" in verified.stderr
    assert f"{later} was trained later and is not in this export" in verified.stderr
    shutil.rmtree(empty_home / "runs")
    assert evaluated()[1].endswith("(your export)\n")


def test_an_export_of_the_last_run_is_not_called_old(empty_home):
    own = own_run(empty_home / "runs" / "lenet")
    copy = empty_home / "weights" / "lenet" / "checkpoint.safetensors"
    copy.parent.mkdir(parents=True)
    shutil.copy(own, copy)
    os.utime(own, (0, copy.stat().st_mtime + 10))

    assert runs_since(checkpoint.load(copy)) == []
    checkpoint.save(copy, {"rounded_from": checkpoint.sha256_of(own)} | checkpoint.load(own).header, {})
    os.utime(copy, (0, 1))
    assert runs_since(checkpoint.load(copy)) == []


def test_a_user_without_a_home_folder_has_no_runs_and_takes_the_published_weights(monkeypatch):
    monkeypatch.setattr(trained, "known_home", lambda: None)
    monkeypatch.setattr(trained.run, "default_folder", lambda name: pytest.fail("there is no home folder"))

    assert load_trained("lenet").origin == "published"
