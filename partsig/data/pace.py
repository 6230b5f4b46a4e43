"""Connections to web servers that may not take for ever: what comes too slowly is given up.

``requests`` bounds the time between two bytes. A server that sends one now and then, or endless
"100 Continue", keeps within that. Here the head of an answer has a time of its own, and its body a
least pace.
"""

import http.client
import io
import socket
import time

import requests.adapters
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from partsig.errors import DataError

# Until an answer's head is there; bytes per second that are the least of its body, after a while.
HEAD_S, WHILE_S, SLOWEST = 120.0, 120.0, 1000.0


class SlowError(DataError):
    """A server sends so slowly that it would never be done."""


class _Paced(io.RawIOBase):
    """What comes from a socket, as long as it comes at a pace."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock, self._raw = sock, sock.makefile("rb", buffering=0)
        self._begun, self._came, self.head = time.monotonic(), 0, True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int | None:
        allowed = HEAD_S if self.head else HEAD_S + WHILE_S + self._came / SLOWEST
        left = self._begun + allowed - time.monotonic()
        if left <= 0:
            self._give_up()
        between = self._sock.gettimeout()
        self._sock.settimeout(left if between is None else min(between, left))
        try:
            n = self._raw.readinto(buffer)
        except TimeoutError:
            if between is None or left < between:
                self._give_up()
            raise
        finally:
            self._sock.settimeout(between)
        self._came += n or 0
        return n

    def _give_up(self) -> None:
        what = "has not begun to answer" if self.head else f"has sent {self._came:,} bytes"
        took = time.monotonic() - self._begun
        raise SlowError(f"the server {what} in {took:.0f} s; it is too slow, and was given up")

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: object, **options: object) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self._paced = _Paced(sock)
        self.fp = io.BufferedReader(self._paced)

    def begin(self) -> None:
        super().begin()
        self._paced.head = False


class _Connection(HTTPConnection):
    response_class = _Response


class _SecureConnection(HTTPSConnection):
    response_class = _Response


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class PacedAdapter(requests.adapters.HTTPAdapter):
    """What a session of ``requests`` is given for ``http://`` and ``https://``."""

    def init_poolmanager(self, *arguments: object, **options: object) -> None:
        """Make the pools of connections."""
        super().init_poolmanager(*arguments, **options)
        _use_pools(self.poolmanager)

    def proxy_manager_for(self, *arguments: object, **options: object) -> urllib3.ProxyManager:
        """Return the pools of connections of a proxy."""
        manager = super().proxy_manager_for(*arguments, **options)
        if type(manager) is urllib3.ProxyManager:
            _use_pools(manager)  # one for SOCKS has connections of its own
        return manager


def _use_pools(manager: urllib3.PoolManager) -> None:
    manager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
