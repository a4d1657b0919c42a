"""A mongod that lets nobody in without a login and without TLS."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import trustme
from click.testing import CliRunner
from pymongo import MongoClient

from mongo_datalayer.cli import main
from mongo_datalayer.server import LocalServer

DATABASE = "chat"
PASSWORD = "p@ss/w:rd%"


@dataclass(frozen=True)
class Secured:
    """The server, its authority's certificate and its logins.

    Attributes:
        port: Where it listens.
        authority: File with the certificate that the server's is signed with.
    """

    port: int
    authority: Path

    def uri(self, user: str, password: str = PASSWORD, source: str = DATABASE) -> str:
        """The URI for a login of the database ``source``."""
        return (
            f"mongodb://{quote(user, safe='')}:{quote(password, safe='')}@localhost:{self.port}/"
            f"?tls=true&tlsCAFile={quote(str(self.authority), safe='')}&authSource={source}"
        )

    @property
    def root(self) -> str:
        """The URI of the administrator."""
        return self.uri("root", source="admin")

    @property
    def without_login(self) -> str:
        """The URI of nobody."""
        return f"mongodb://localhost:{self.port}/?tls=true&tlsCAFile={self.authority}"


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """With the roles as they are printed, and a user of each: app, analyst, stranger."""
    folder = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    tls = ("--tlsMode", "allowTLS", "--tlsCertificateKeyFile", str(folder / "server.pem"))
    # Clients show no certificate: they log in with a password.
    trust = ("--tlsCAFile", str(folder / "ca.pem"), "--tlsAllowConnectionsWithoutCertificates")
    with LocalServer(arguments=["--auth", *tls, *trust]) as server:
        secured = Secured(server.port, folder / "ca.pem")
        with MongoClient[dict[str, Any]](secured.without_login) as client:
            # The first user may be made without a login.
            client.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])
        with MongoClient[dict[str, Any]](secured.root) as client:
            for mode in ("preferTLS", "requireTLS"):  # from now on nobody is let in without TLS
                client.admin.command("setParameter", 1, tlsMode=mode)
            _create_printed_roles(client, secured)
            roles = {"app": ["chainlitApp"], "analyst": ["chainlitAnalyst"], "stranger": []}
            roles["console"] = ["chainlitConsole"]
            for user, held in roles.items():
                client[DATABASE].command("createUser", user, pwd=PASSWORD, roles=held)
            client["other"].secrets.insert_one({"_id": "secret"})
        yield secured


def _create_printed_roles(client: MongoClient[dict[str, Any]], secured: Secured) -> None:
    """By the real mongo shell from the printed text; where there is none, from its JSON."""
    mongosh = shutil.which("mongosh")
    if mongosh is not None:
        script = secured.authority.parent / "roles.js"
        script.write_text(_printed(), encoding="utf-8")
        command = [mongosh, "--quiet", "--norc", secured.root, "--file", str(script)]
        subprocess.run(command, check=True, timeout=120, capture_output=True)
        return
    for definition in json.loads(_printed("--json")).values():
        arguments = {key: value for key, value in definition.items() if key != "role"}
        client[DATABASE].command("createRole", definition["role"], **arguments)


def _printed(*options: str) -> str:
    """What an administrator is given by the command."""
    done = CliRunner().invoke(main, ["role", "--database", DATABASE, *options])
    assert done.exit_code == 0
    return done.output
