"""`runtime bench --sweep`: every session setting is measured, and one that fails spoils no other."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.command_line import call

from runtime import Classifier
from runtime.errors import FashionZooError
from runtime.evaluation import sweep
from runtime.session.session import Tuning

LENET = Path(__file__).resolve().parents[3] / "weights" / "lenet"


def test_a_sweep_measures_every_setting_and_prefers_the_default_unless_another_is_faster():
    arguments = ["-m", str(LENET), "--device", "cpu", "--threads", "2", "-b", "1", "-b", "8"]
    result = call("runtime", "bench", *arguments, "--min-seconds", "0", "--min-runs", "6", "--sweep", "--json")
    report = json.loads(result.stdout)
    settings = [tuple(row["settings"].values()) for row in report["rows"]]

    assert result.exit_code == 0
    assert settings == [(2, 100), (2, 0), (1, 100), (1, 0)]
    assert report["rows"][0]["times_default"] == 1.0
    assert all(set(row["images_per_second"]) == {"1", "8"} for row in report["rows"])
    best = next(row for row in report["rows"] if row["settings"] == report["best"])
    assert best["times_default"] == 1.0 or best["times_default"] == max(row["times_default"] for row in report["rows"])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["bench", "-m", "lenet", "--compare", "torch"], "zoo bench lenet --compare torch"),
        (["parity", "-m", "lenet", "--live"], "zoo parity lenet"),
    ],
)
def test_flags_that_moved_name_the_command_to_type(old, new):
    result = call("runtime", *old)

    assert (result.exit_code, new in result.stderr) == (2, True)


def sweep_of(classifier: Classifier) -> dict[str, Any]:
    return sweep.measure_sweep(classifier, threads=2, batch_sizes=[1], min_seconds=0, min_runs=6)


def test_a_setting_that_fails_is_neither_the_measure_of_others_nor_the_best(monkeypatch):
    opened = sweep._opened

    def refuse_the_default(classifier: Classifier, tuning: Tuning, threads: int | None) -> Classifier:
        if tuning == Tuning() and threads == 2:
            raise FashionZooError("says the test")
        return opened(classifier, tuning, threads)

    monkeypatch.setattr(sweep, "_opened", refuse_the_default)
    with Classifier(LENET, device="cpu") as classifier:
        report = sweep_of(classifier)

    assert report["rows"][0]["error"] == "says the test"
    assert report["best"] != report["rows"][0]["settings"]
    assert [row["times_default"] is None for row in report["rows"]] == [True, False, False, False]


def test_a_setting_that_fails_while_it_is_measured_leaves_the_others(monkeypatch):
    opened = sweep._opened

    def without_sleeping(classifier: Classifier, tuning: Tuning, threads: int | None) -> Classifier:
        candidate = opened(classifier, tuning, threads)
        if tuning.spin_us == 0:
            candidate.close()  # from now on it raises
        return candidate

    monkeypatch.setattr(sweep, "_opened", without_sleeping)
    with Classifier(LENET, device="cpu") as classifier:
        report = sweep_of(classifier)

    assert [row["error"] is None for row in report["rows"]] == [True, False, True, False]
    assert report["best"]["spin_us"] == 100


def test_a_sweep_in_which_nothing_works_is_an_error(monkeypatch):
    def refuse(*_: object) -> Classifier:
        raise FashionZooError("says the test")

    monkeypatch.setattr(sweep, "_opened", refuse)
    with (
        Classifier(LENET, device="cpu") as classifier,
        pytest.raises(FashionZooError, match="not one setting works here; with the default one: says the test"),
    ):
        sweep_of(classifier)
