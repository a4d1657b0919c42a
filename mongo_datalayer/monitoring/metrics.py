"""Metrics for Prometheus: calls, errors, retries, waiting writes, latencies.

Importing this module needs the extra ``metrics``, and makes the metrics. What is measured in a
process is in prometheus-client's default registry, beside what the app measures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pymongo import monitoring
from starlette.responses import Response
from starlette.routing import Route

from mongo_datalayer.errors import ConfigurationError
from mongo_datalayer.files.mount import add_routes
from mongo_datalayer.mongodb.retries import Retries
from mongo_datalayer.mongodb.write_queue import WriteQueue

try:
    from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, Histogram, generate_latest
except ImportError as exc:
    raise ConfigurationError(
        'Metrics need prometheus-client: pip install "mongo-datalayer[metrics]"'
    ) from exc

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request

PATH = "/metrics"

# From what a lookup takes beside the server, to the bound on a whole operation.
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30)

CALLS = Histogram(
    "mongo_datalayer_call_seconds",
    "Time of the calls to MongoDB, each with its retries.",
    buckets=_BUCKETS,
)
ERRORS = Counter(
    "mongo_datalayer_call_errors",
    "Calls that failed for good, by the class of the error.",
    ["error"],
)
RETRIES = Counter(
    "mongo_datalayer_retries", "Attempts that failed and were retried, by class.", ["error"]
)
IN_PROGRESS = Gauge("mongo_datalayer_calls_in_progress", "Calls that have not ended yet.")
WAITING = Gauge(
    "mongo_datalayer_waiting_writes", "Writes that wait behind earlier writes to the same thread."
)
COMMANDS = Histogram(
    "mongo_datalayer_command_seconds",
    "Time of MongoDB's commands, as the driver measures it, by name.",
    ["command"],
    buckets=_BUCKETS,
)
COMMAND_ERRORS = Counter(
    "mongo_datalayer_command_errors", "Commands that failed, by name.", ["command"]
)


def mount_metrics(app: Starlette | None = None) -> None:
    """Measure from now on, and serve ``/metrics`` in Prometheus' text format.

    Call it before you make the data layer or the store: only clients that are made afterwards
    report their commands. All else is measured in any case. Several processes are scraped one by
    one.

    Args:
        app: A Starlette or FastAPI app; None for Chainlit's own.

    Raises:
        ConfigurationError: prometheus-client is not installed.
    """
    if not isinstance(Retries.observer, _Calls):
        Retries.observer = _Calls()
        WAITING.set_function(WriteQueue.count_all_queued)
        monitoring.register(CommandMetrics())
    add_routes(lambda prefix: [metrics_route(prefix)], app)


def metrics_route(prefix: str = "") -> Route:
    """The route, for any Starlette or FastAPI app; ``prefix`` is the path before ``/metrics``."""

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(), headers={"content-type": CONTENT_TYPE_LATEST})

    path = f"{prefix.rstrip('/')}{PATH}"
    return Route(
        path, metrics, methods=["GET"], name="mongo_datalayer_metrics", include_in_schema=False
    )


class _Calls:
    """Counts what :class:`Retries` tells."""

    def begun(self) -> None:
        IN_PROGRESS.inc()

    def retried(self, error: Exception) -> None:
        RETRIES.labels(type(error).__name__).inc()

    def ended(self, seconds: float, error: BaseException | None) -> None:
        IN_PROGRESS.dec()
        CALLS.observe(seconds)
        if error is not None:
            ERRORS.labels(type(error).__name__).inc()


class CommandMetrics(monitoring.CommandListener):
    """Measures the commands of a client.

    :func:`mount_metrics` registers one for all clients that are made afterwards.
    """

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        """Nothing: the driver measures the time."""

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Count the command and its time."""
        COMMANDS.labels(event.command_name).observe(event.duration_micros / 1e6)

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Count the command, its time and the failure."""
        COMMANDS.labels(event.command_name).observe(event.duration_micros / 1e6)
        COMMAND_ERRORS.labels(event.command_name).inc()
