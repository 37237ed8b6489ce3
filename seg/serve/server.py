"""The server: its socket, its connections, its end."""

import socket

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from ..errors import UserError

IDLE = 60
"""Seconds after which a connection without a request in work is cut: one that sends no whole request, or takes no answer."""


class Connection(H11Protocol):
    """uvicorn's, which waits for ever for the head of a request, and for a client that does not read."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.deadline = self.loop.call_later(IDLE, self.cut)

    def on_response_complete(self):
        super().on_response_complete()
        self.deadline.cancel()
        self.deadline = self.loop.call_later(IDLE, self.cut)

    def connection_lost(self, exc):
        self.deadline.cancel()
        super().connection_lost(exc)

    def cut(self):
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens at a name or address, IPv4 or IPv6. Raises UserError where it cannot be had."""
    if not 0 <= port < 65536:
        raise UserError(f"seg serve: --port {port}: ports go from 0 to 65535, and 0 takes a free one")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server((address[0], port), family=family, backlog=512)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(f"seg serve: {host} port {port}: {why}; choose another --host or --port") from error


def address(opened: socket.socket) -> str:
    """Where a browser finds what listens."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def configuration(app: FastAPI, quiet: bool) -> uvicorn.Config:
    """A line a request goes to standard error unless `quiet`; what fails goes there always."""
    log = {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(message)s", "datefmt": "%H:%M:%S"}},
        "handlers": {"error": {"class": "logging.StreamHandler", "formatter": "line"}},
        "loggers": {
            "uvicorn.error": {"handlers": ["error"], "level": "WARNING"},
            "uvicorn.access": {"handlers": ["error"], "level": "INFO"},
            "python_multipart": {"level": "CRITICAL"},  # what is wrong with a form is told to who sent it
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
