"""What commands that serve a web page share: the options, a free port, the page's address."""

from __future__ import annotations

import socket
from collections.abc import Callable

import click

from mongo_datalayer.cli.app import Failure, Function
from mongo_datalayer.demo.app_process import reachable


def listening_options(*, port: int) -> Callable[[Function], Function]:
    """Give a command ``--host`` and ``--port``, with this port as the default."""
    host_option = click.option(
        "--host", default="127.0.0.1", show_default=True, help="Address to listen on."
    )
    port_option = click.option(
        "--port",
        default=port,
        show_default=True,
        type=click.IntRange(0, 65535),
        help="Port to listen on. 0 takes a free one.",
    )

    def decorate(function: Function) -> Function:
        return host_option(port_option(function))

    return decorate


def free_port(host: str, port: int, option: str) -> int:
    """``port``, or a free one for 0.

    Raises:
        Failure: the port is taken, or the host is not one of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the server will: a port whose last connections are closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            chosen: int = probe.getsockname()[1]
            return chosen
    except OSError as exc:
        raise Failure(
            f"Cannot listen on {host}:{port}: {exc.strerror or exc}. "
            f"Stop what uses the port, or choose another one with {option}."
        ) from exc


def web_address(host: str, port: int) -> str:
    """What to open in a browser for a server that listens on ``host``."""
    name = reachable(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
