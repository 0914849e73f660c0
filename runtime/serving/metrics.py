"""What the server counts, for Prometheus: `GET /metrics`."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """A registry of its own, so that several servers may live in one process."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "fashion_zoo_requests",
            "Requests answered, by endpoint and status.",
            ["endpoint", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "fashion_zoo_request_seconds",
            "From a request's headers to the end of its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "fashion_zoo_batch_pictures", "Pictures in a batch.", ["model"], buckets=_ROWS, registry=registry
        )
        self._dropped = Counter(
            "fashion_zoo_dropped_requests",
            "Requests whose client had left before their turn; they were not computed.",
            ["model"],
            registry=registry,
        )
        self.queue = Gauge("fashion_zoo_queue_pictures", "Accepted and not yet answered.", registry=registry)
        self.connections = Gauge("fashion_zoo_connections", "Open connections.", registry=registry)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def batches(self, model: str) -> Callable[[int, int], None]:
        """Return what to tell of each batch of a model: its images, and the requests dropped since the last."""
        batches, dropped = self._batches.labels(model), self._dropped.labels(model)

        def count(rows: int, gone: int) -> None:
            if rows:
                batches.observe(rows)
            dropped.inc(gone)

        return count

    def text(self) -> bytes:
        """Return all of them in Prometheus' text format, version 0.0.4."""
        return generate_latest(self._registry)
