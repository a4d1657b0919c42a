"""What a load balancer, Kubernetes and Prometheus ask an app: is it live, is it ready, how is it?

The public names are loaded on first use: only the metrics need prometheus-client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mongo_datalayer.monitoring.health import health_routes, mount_health
    from mongo_datalayer.monitoring.metrics import metrics_route, mount_metrics

__all__ = ["health_routes", "metrics_route", "mount_health", "mount_metrics"]

_HOMES = {
    "health_routes": "health",
    "metrics_route": "metrics",
    "mount_health": "health",
    "mount_metrics": "metrics",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
