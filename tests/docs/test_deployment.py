"""The recipes of the deployment page: what they name exists, and what can run here runs."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from mongo_datalayer.config import CLOSE_SECONDS
from mongo_datalayer.monitoring import health, metrics
from tests.compose import make_replica_set, read_compose_file
from tests.docs.pages import DOCS, code_blocks, table_rows

PAGE = DOCS / "deployment.md"
COMPOSE, KUBERNETES, RULES = code_blocks(PAGE, "yaml")
CHATKIT_HEALTH, METRICS, TRACES = code_blocks(PAGE, "python")


def test_the_probes_ask_the_routes_that_there_are() -> None:
    deployment, service = yaml.safe_load_all(KUBERNETES)
    pod = deployment["spec"]["template"]
    (chat,) = pod["spec"]["containers"]
    probes = {name: chat[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    port = chat["ports"][0]["containerPort"]

    paths = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    assert paths == {
        "startup": health.LIVE_PATH,
        "liveness": health.LIVE_PATH,
        "readiness": health.READY_PATH,
    }
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {port}
    assert probes["readiness"]["timeoutSeconds"] > health.ANSWER_SECONDS
    assert pod["metadata"]["annotations"]["prometheus.io/path"] == metrics.PATH
    assert service["spec"]["selector"] == pod["metadata"]["labels"]
    pause = int(chat["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["spec"]["terminationGracePeriodSeconds"] > pause + CLOSE_SECONDS


def test_compose_starts_one_after_the_other() -> None:
    services = yaml.safe_load(COMPOSE)["services"]

    assert health.READY_PATH in services["app"]["healthcheck"]["test"][-1]
    assert set(services["setup"]["depends_on"]) == {"mongo"}
    assert set(services["app"]["depends_on"]) == {"setup"}
    assert int(services["app"]["stop_grace_period"].rstrip("s")) > CLOSE_SECONDS
    assert services["app"]["environment"] == services["setup"]["environment"]


def test_docker_understands_the_compose_file(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(COMPOSE)
    make_secret, start = code_blocks(PAGE, "sh")[0].splitlines()
    assert start.startswith("docker compose up")
    subprocess.run(["bash", "-ec", make_secret], cwd=tmp_path, check=True)

    app = read_compose_file(tmp_path)["services"]["app"]

    assert len(app["environment"]["CHAINLIT_AUTH_SECRET"]) == 64


def test_the_health_check_makes_a_replica_set_that_takes_writes(tmp_path: Path) -> None:
    mongo = yaml.safe_load(COMPOSE)["services"]["mongo"]

    make_replica_set(mongo, "mongo:27017", tmp_path)


def test_the_image_starts_chainlit_itself() -> None:
    (dockerfile,) = code_blocks(PAGE, "dockerfile")
    lines = dockerfile.strip().splitlines()

    # Not through a shell, which would keep the signal to itself.
    assert lines[-1].startswith('CMD ["chainlit", "run", ')
    assert "USER app" in lines


def test_every_metric_is_described_and_no_other() -> None:
    described = {cells[0].strip("`"): cells[1] for cells in table_rows(PAGE)}
    measured = {}
    for metric in vars(metrics).values():
        for family in metric.collect() if isinstance(metric, MetricWrapperBase) else ():
            end = "_total" if family.type == "counter" else ""
            measured[f"{family.name}{end}"] = family.type

    shown = {name: kind for name, kind in described.items() if name.startswith("mongo_")}
    assert {name: kind.partition(",")[0] for name, kind in shown.items()} == measured
    used = set(re.findall(r"mongo_datalayer_\w+", RULES))
    assert {re.sub("_bucket$", "", name) for name in used} <= set(measured)


RUN = """
import asyncio, sys
{code}

async def main():
    import httpx
    from chainlit.server import app
    from mongo_datalayer import MongoDataLayer
    layer = MongoDataLayer(sys.argv[1])
    await layer.get_user("nobody")
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://app.test") as browser:
        print((await browser.get("/metrics")).text)
    await layer.close()

asyncio.run(main())
"""


async def test_the_snippets_measure_and_trace(mongo_uri: str, tmp_path: Path) -> None:
    code = RUN.format(code="\n".join((METRICS, TRACES)))

    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-c", code, mongo_uri),
        env={**os.environ, "CHAINLIT_APP_ROOT": str(tmp_path)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    printed = out.decode()

    assert process.returncode == 0, err.decode()
    assert re.search(
        r'^mongo_datalayer_command_seconds_count\{command="find"\} [1-9]', printed, re.MULTILINE
    )
    assert '"db.system": "mongodb"' in printed or '"db.system.name": "mongodb"' in printed


async def test_a_chatkit_server_is_ready(mongo_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MONGODB_URI", mongo_uri)
    names: dict[str, Any] = {}
    exec(compile(CHATKIT_HEALTH, "example", "exec"), names)  # noqa: S102 - our own documentation

    paths = [getattr(route, "path", "") for route in names["app"].router.routes[:2]]
    assert paths == [health.LIVE_PATH, health.READY_PATH]
    await names["store"].close()
