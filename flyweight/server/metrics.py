"""What Prometheus may ask a server: counts and times, of this server alone."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

# Upper bounds, seconds: a small network takes a few milliseconds, a full queue some seconds.
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
PICTURES = (1, 2, 4, 8, 16, 32, 64)


class ServerMetrics:
    """A registry of its own: two servers in one process do not mix.

    Attributes:
        requests: by path and status.
        request_seconds: from a request's headers to the end of its answer, by path.
        decode_seconds: decoding and resizing of one picture.
        run_seconds: one run of the network with what follows it.
        batch: pictures of a run.
        queue: pictures that are accepted and not answered; `held()` is their number.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter(
            "flyweight_requests",
            "Requests by path and status.",
            ("path", "status"),
            registry=self.registry,
        )
        self.request_seconds = self._seconds("request", "Seconds of a request.", ("path",))
        self.decode_seconds = self._seconds("decode", "Seconds of decoding a picture.")
        self.run_seconds = self._seconds("run", "Seconds of a run of the network.")
        self.batch = Histogram(
            "flyweight_batch_pictures",
            "Pictures of a run of the network.",
            buckets=PICTURES,
            registry=self.registry,
        )
        self.queue = Gauge(
            "flyweight_queue_pictures",
            "Pictures that are accepted and not yet answered.",
            registry=self.registry,
        )
        self.held: Callable[[], int] = lambda: 0

    def watch_queue(self, held: Callable[[], int]) -> None:
        """`held` tells the pictures in the queue whenever it is asked."""
        self.held = held
        self.queue.set_function(held)

    def observe_run(self, pictures: int, seconds: float) -> None:
        """Count a run of the network."""
        self.batch.observe(pictures)
        self.run_seconds.observe(seconds)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self.registry)

    def _seconds(self, what: str, help_text: str, labels: tuple[str, ...] = ()) -> Histogram:
        return Histogram(
            f"flyweight_{what}_seconds", help_text, labels, buckets=SECONDS, registry=self.registry
        )
