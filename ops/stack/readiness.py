"""Does a server answer in its own protocol?

A port that accepts connections is not enough: PostgreSQL may still recover, Redis may still load its file, RabbitMQ
may still start its plugins. Each probe takes one short connection and raises nothing.
"""

import http.client
import socket
import struct
from contextlib import closing

PROBE_SECONDS = 2.0


def postgres_answers(host: str, port: int, *, user: str, database: str) -> bool:
    """PostgreSQL takes a connection to this database; a request for a password counts, too."""
    words = f"user\0{user}\0database\0{database}\0\0".encode()
    startup = struct.pack("!ii", len(words) + 8, 196608) + words  # protocol 3.0
    try:
        with socket.create_connection((host, port), timeout=PROBE_SECONDS) as connection:
            connection.sendall(startup + b"X\0\0\0\x04")  # and good-bye: a dropped connection is a line in its log
            answer = b""
            while more := connection.recv(4096):
                answer += more
    except OSError:
        return False
    return answer[:1] == b"R"


def redis_answers(host: str, port: int) -> bool:
    """Redis has loaded its data and answers PING, if only to ask for a password."""
    return _first_bytes(host, port, ask=b"PING\r\n", count=5) in (b"+PONG", b"-NOAU")


def rabbitmq_answers(host: str, port: int) -> bool:
    """RabbitMQ opens an AMQP 0-9-1 conversation: a method frame on channel 0."""
    return _first_bytes(host, port, ask=b"AMQP\0\0\x09\x01", count=3) == b"\x01\0\0"


def smtp_answers(host: str, port: int) -> bool:
    """A mail server greets."""
    return _first_bytes(host, port, ask=b"", count=3) == b"220"


def http_status(host: str, port: int, path: str) -> int | None:
    """The status with which an HTTP server answers this path; None when it does not answer."""
    try:
        with closing(http.client.HTTPConnection(host, port, timeout=PROBE_SECONDS)) as connection:
            connection.request("GET", path)
            return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None


def http_text(host: str, port: int, path: str) -> str:
    """What an HTTP server answers with 200 at this path; nothing when it does not."""
    try:
        with closing(http.client.HTTPConnection(host, port, timeout=PROBE_SECONDS)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == 200 else ""
    except (OSError, http.client.HTTPException):
        return ""


def _first_bytes(host: str, port: int, *, ask: bytes, count: int) -> bytes:
    try:
        with socket.create_connection((host, port), timeout=PROBE_SECONDS) as connection:
            connection.sendall(ask)
            return connection.recv(count, socket.MSG_WAITALL)
    except OSError:
        return b""
