"""A client that leaves with answers unread is no error of the server's."""

import logging
import socket
import time

import pytest
from live import Live, ok, until


def test_a_client_that_leaves_its_answers_writes_nothing_into_the_log(
    server: Live, caplog: pytest.LogCaptureFixture
) -> None:
    """Many large answers that nobody takes, then the connection's end: no traceback, and no error."""
    with caplog.at_level(logging.INFO):
        for _ in range(5):
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
                time.sleep(0.3)
        until(lambda: ok(server.client.get("/healthz")))
        time.sleep(0.3)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []
