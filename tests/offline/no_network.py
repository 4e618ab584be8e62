"""Keep a Python process off the network: only this machine itself can be reached.

`attempts` lists what was tried, so that a test can fail on it even where the code under test forgave the error.
"""

import socket
from typing import Any

__all__ = ["NetworkBlockedError", "attempts"]

attempts: list[str] = []
_LOCAL = {None, "", "localhost", "0.0.0.0", "::", "::1", socket.gethostname()}


class NetworkBlockedError(OSError):
    """A connection beyond this machine was tried in a test run."""


def _is_local(host: Any) -> bool:
    host = host.decode() if isinstance(host, bytes) else host
    return host in _LOCAL or (isinstance(host, str) and host.startswith("127."))


def _check(host: Any) -> None:
    if not _is_local(host):
        attempts.append(str(host))
        raise NetworkBlockedError(f"tests run with the network off, and {host!r} was to be reached")


def _check_address(sock: socket.socket, address: Any) -> None:
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        _check(address[0])


def _install() -> None:
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    sendto, getaddrinfo = socket.socket.sendto, socket.getaddrinfo

    def guarded_connect(self: socket.socket, address: Any) -> None:
        _check_address(self, address)
        return connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        _check_address(self, address)
        return connect_ex(self, address)

    def guarded_sendto(self: socket.socket, data: Any, *rest: Any) -> int:
        _check_address(self, rest[-1])
        return sendto(self, data, *rest)

    def guarded_getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
        _check(host)
        return getaddrinfo(host, *rest, **options)

    socket.socket.connect = guarded_connect  # type: ignore[method-assign]
    socket.socket.connect_ex = guarded_connect_ex  # type: ignore[method-assign]
    socket.socket.sendto = guarded_sendto  # type: ignore[method-assign, assignment]
    socket.getaddrinfo = guarded_getaddrinfo


_install()
