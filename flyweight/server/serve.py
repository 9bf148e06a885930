"""A process that serves: its socket, its signals, its end."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI

from flyweight.core.errors import InputError
from flyweight.server.lifetime import Lifetime

BACKLOG = 1024
POLL_S = 0.05
KEEP_ALIVE_S = 10
# Of a request's first line and headers.
MOST_HEADER_BYTES = 16 * 1024


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens already.

    Args:
        port: 0 takes a free one.

    Raises:
        InputError: the port is taken, or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, the protocol is inherited by every connection, and asyncio switches Nagle's algorithm
    # off where it reads TCP there. `socket.create_server` leaves it 0: headers and body then go in
    # two packets, the second after the 40 ms for which clients delay their acknowledgements.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
        return listening
    except (OSError, OverflowError) as error:
        listening.close()
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise InputError(
            f"{host} port {port} cannot be listened on: {reason}",
            where="--port",
            fix="give another port, or 0 for a free one",
        ) from error


def is_loopback(listening: socket.socket) -> bool:
    """Whether only this machine can reach it."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def address(listening: socket.socket) -> str:
    """`http://HOST:PORT` of a socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: FastAPI, listening: socket.socket, *, idle_s: float, grace_s: float) -> None:
    """Serve until SIGTERM or Ctrl-C, finish what was accepted, and return.

    New requests are refused with 503 meanwhile. A second signal ends it at once.

    Args:
        app: of `flyweight.server.app.create_app`.
        listening: of `listen`.
        idle_s: how long a connection may be open without a whole request.
        grace_s: how long the rest may take.
    """
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        server_header=False,
        # Who the client is, nobody here asks.
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=1,
        h11_max_incomplete_event_size=MOST_HEADER_BYTES,
    )
    server = uvicorn.Server(config)
    lifetime: Lifetime = app.state.lifetime

    def stop(_signal: int, _frame: FrameType | None) -> None:
        server.should_exit = server.force_exit = lifetime.stopping
        lifetime.stopping = True

    server.handle_exit = stop  # type: ignore[assignment, method-assign]
    asyncio.run(_serve(server, listening, lifetime, idle_s=idle_s, grace_s=grace_s))


async def _serve(
    server: uvicorn.Server,
    listening: socket.socket,
    lifetime: Lifetime,
    *,
    idle_s: float,
    grace_s: float,
) -> None:
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    connections = IdleConnections(idle_s)
    stopped_at: float | None = None
    while not serving.done():
        await asyncio.sleep(POLL_S)
        connections.close(server.server_state.connections)
        if lifetime.stopping:
            stopped_at = stopped_at or time.monotonic()
            overdue = time.monotonic() - stopped_at > grace_s
            if lifetime.working == 0 or overdue:
                server.should_exit = True
    await serving


@dataclass
class IdleConnections:
    """Closes connections on which nobody asks anything, so that they cannot be hoarded.

    uvicorn's own timer runs only between one answer and the next byte: not before a first request,
    nor while one's headers come byte by byte.

    Args:
        idle_s: how long a connection may have no request.
    """

    idle_s: float
    _seen: dict[Any, tuple[Any, float]] = field(default_factory=dict)

    def close(self, connections: set[Any]) -> None:
        """Look at all `connections`, uvicorn's protocols; close those that are idle for long."""
        now = time.monotonic()
        seen = {}
        for connection in connections:
            # One cycle is one request with its answer: another since the last look is activity.
            cycle, since = self._seen.get(connection, (None, now))
            if cycle is not connection.cycle or not (cycle is None or cycle.response_complete):
                since = now
            seen[connection] = (connection.cycle, since)
            if now - since > self.idle_s:
                connection.transport.close()
        self._seen = seen
