"""The HTTP server: socket, connections and shutdown."""

import socket
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import UserError

IDLE = 60
"""Seconds after which an idle connection is closed."""


class Connection(H11Protocol):
    """uvicorn's connection with a time limit: uvicorn waits forever for slow requests and for clients that do not read."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.deadline = self.loop.call_later(IDLE, self.cut)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.deadline.cancel()
        self.deadline = self.loop.call_later(IDLE, self.cut)

    def connection_lost(self, exc: Exception | None) -> None:
        self.deadline.cancel()
        super().connection_lost(exc)

    def cut(self) -> None:
        """Close the connection if no request is being processed."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that listens at a name or address, IPv4 or IPv6.

    Raises:
        UserError: the address cannot be used.
    """
    if not 0 <= port < 65536:
        raise UserError(f"seg serve: --port {port}: must be from 0 to 65535; 0 chooses a free port")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server((address[0], port), family=family, backlog=512)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(f"seg serve: {host} port {port}: {why}; choose another --host or --port") from error


def address(opened: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def configuration(app: FastAPI, quiet: bool) -> uvicorn.Config:
    """Configure the server; it logs a line for each request to standard error unless `quiet`, and errors always."""
    log = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(message)s", "datefmt": "%H:%M:%S"}},
        "handlers": {"error": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {
            "uvicorn.error": {"handlers": ["error"], "level": "WARNING"},
            "uvicorn.access": {"handlers": ["error"], "level": "INFO"},
            "python_multipart": {"level": "CRITICAL"},  # the client gets the error of a damaged form
        },
    }
    return uvicorn.Config(
        app,
        http=Connection,
        ws="none",
        lifespan="off",
        log_config=log,
        access_log=not quiet,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=5,
    )


def run(app: FastAPI, opened: socket.socket, quiet: bool) -> None:
    """Serve until Ctrl-C, which raises KeyboardInterrupt."""
    uvicorn.Server(configuration(app, quiet)).run(sockets=[opened])
