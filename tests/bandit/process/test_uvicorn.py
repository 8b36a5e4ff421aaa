"""What our protocol takes for granted of uvicorn's: a release that changes it fails here, by name."""

import asyncio
import inspect
from collections.abc import Iterator

import pytest
from uvicorn import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

METHODS = (
    "connection_made", "connection_lost", "data_received", "on_message_begin", "on_url", "on_header",
    "on_headers_complete", "on_body", "on_message_complete", "on_response_complete", "timeout_keep_alive_handler",
    "_unset_keepalive_if_required", "_start_asgi_task", "shutdown",
)  # fmt: skip
ATTRIBUTES = (
    "loop", "transport", "flow", "cycle", "pipeline", "parser", "headers", "expect_100_continue", "connections",
    "timeout_keep_alive", "timeout_keep_alive_task", "app", "tasks", "server_state",
)  # fmt: skip


async def app(scope: object, receive: object, send: object) -> None:
    """Answers nothing."""


@pytest.fixture
def protocol() -> Iterator[HttpToolsProtocol]:
    """uvicorn's own, before a connection is made."""
    config = Config(app, lifespan="off")
    config.load()
    loop = asyncio.new_event_loop()
    yield HttpToolsProtocol(config, ServerState(), {}, loop)
    loop.close()


@pytest.mark.parametrize("name", METHODS)
def test_it_has_the_methods_that_we_extend(name: str) -> None:
    """Each is called by the parser or the event loop, and ours call it."""
    assert callable(getattr(HttpToolsProtocol, name))


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_it_has_the_attributes_that_we_read_or_set(protocol: HttpToolsProtocol, name: str) -> None:
    """From the start, so that none of ours is one that nobody looks at."""
    assert hasattr(protocol, name)


def test_its_answers_and_its_flow_are_as_we_know_them() -> None:
    """A request's cycle tells whether it is over; reading can be paused; a request begins with an empty address."""
    assert "url" in HttpToolsProtocol.on_message_begin.__code__.co_names
    assert {"response_complete", "more_body", "keep_alive"} <= set(RequestResponseCycle.__init__.__code__.co_names)
    assert STATUS_LINE[200] == b"HTTP/1.1 200 OK\r\n"
    assert ServerState().default_headers == []
    assert {"write_paused", "read_paused"} <= set(FlowControl.__init__.__code__.co_names)
    assert callable(FlowControl.pause_reading)
    assert callable(FlowControl.resume_reading)
    assert list(inspect.signature(HttpToolsProtocol.__init__).parameters)[1:] == [
        "config", "server_state", "app_state", "_loop",
    ]  # fmt: skip
