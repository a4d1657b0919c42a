from __future__ import annotations

from hypothesis import HealthCheck, settings

# What is tested is what comes out, not how fast a busy machine is.
settings.register_profile(
    "mongo_datalayer", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("mongo_datalayer")
