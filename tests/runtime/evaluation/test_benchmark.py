"""`runtime bench`: all figures, all conditions, and nothing left out of the count."""

import json

import pytest
from support.command_line import call

from runtime import Classifier, UsageError
from runtime.evaluation.benchmark import measure_bench


def test_bench_json_names_its_figures_and_its_conditions():
    arguments = ["-m", "lenet", "--device", "cpu", "--threads", "1", "-b", "1", "-b", "32"]
    result = call("runtime", "bench", *arguments, "--min-seconds", "0", "--min-runs", "20", "--json")
    report = json.loads(result.stdout)

    assert result.exit_code == 0
    assert (report["model"], report["device"], report["conditions"]["threads"]) == ("lenet", "cpu", 1)
    assert set(report["cold_start_ms"]) == {"import", "session", "first_run", "total"}
    assert report["cold_start_ms"]["total"] > report["cold_start_ms"]["import"] > 0
    assert [(row["batch_size"], row["runs"]) for row in report["batches"]] == [(1, 20), (32, 20)]
    for row in report["batches"]:
        latency = row["latency_ms"]
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p95"] <= latency["p99"] <= latency["max"]
        assert row["images_per_second"] == pytest.approx(1000 * row["batch_size"] / latency["mean"], rel=0.01)
    assert report["conditions"]["outliers"] == "none dropped"


def test_a_batch_size_is_measured_for_the_least_time_as_well_as_the_least_runs():
    with Classifier("lenet", device="cpu", threads=1) as classifier:
        report = measure_bench(classifier, threads=1, batch_sizes=[1], min_seconds=0.2, min_runs=1)

    row = report["batches"][0]
    assert row["runs"] > 10
    assert row["runs"] * row["latency_ms"]["mean"] > 100


@pytest.mark.parametrize("settings", [{"batch_sizes": []}, {"batch_sizes": [0]}, {"min_runs": 0}, {"min_seconds": -1}])
def test_numbers_that_make_no_sense_are_refused(settings):
    with (
        Classifier("lenet", device="cpu") as classifier,
        pytest.raises(UsageError, match="expected at least one batch"),
    ):
        measure_bench(classifier, **settings)  # type: ignore[arg-type]
