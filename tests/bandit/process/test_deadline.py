"""Half-sent requests do not hold connections, against a real uvicorn on a real socket."""

import asyncio
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
import uvicorn
import uvloop

from bandit.process.deadline import deadline_protocol

WHOLE = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
HALF = b"GET / HTTP/1.1\r\nhost: x\r\nx-rest: "
GET = b"GET %b HTTP/1.1\r\nhost: x\r\n\r\n"
LARGE = 50_000_000
POST = b"POST /%b HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the body's length; /slow after 0.5 s, /early before the body, /large at length."""
    length, more = 0, scope["path"] != "/early"
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        length, more = length + len(message["body"]), message["more_body"]
    if scope["path"] == "/slow":
        await asyncio.sleep(0.5)
    body = b"x" * LARGE if scope["path"] == "/large" else b"%d" % length
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serving(seconds: float = 0.3, most: int = 1000, keep_alive: float = 60) -> Iterator[int]:
    """The port of a server in a thread, with this deadline and so many connections."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        config = uvicorn.Config(
            app,
            http=deadline_protocol(seconds, most),
            ws="none",
            lifespan="off",
            log_level="critical",
            timeout_keep_alive=keep_alive,  # type: ignore[arg-type] # any number of seconds will do
            timeout_graceful_shutdown=1,
            limit_concurrency=most + 1,
        )
        server = uvicorn.Server(config)
        loop = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        thread = threading.Thread(target=_run, args=(loop, server, listener))
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


def _run(runner: asyncio.Runner, server: uvicorn.Server, listener: socket.socket) -> None:
    with runner:
        runner.run(server.serve(sockets=[listener]))


@contextmanager
def connected(port: int, said: bytes = b"") -> Iterator[socket.socket]:
    """A connection over which something was said already."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(said)
        yield connection


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    received = b""
    with suppress(ConnectionResetError):
        while more := connection.recv(65536):
            received += more
    return received


def answered(connection: socket.socket) -> bool:
    """Whether the next answer is 200; it comes in one piece or two."""
    received = b""
    while b"\r\n\r\n" not in received or received.endswith(b"\r\n\r\n"):
        if not (more := connection.recv(65536)):
            return False
        received += more
    return received.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("half", [b"G", HALF, POST % (b"", 10) + b"12345"])
def test_a_request_that_does_not_arrive_in_time_is_answered_408(half: bytes) -> None:
    """From the first byte to the last of the body: one deadline, then the connection ends."""
    with serving() as port, connected(port, half) as connection:
        begun = time.monotonic()
        assert rest(connection).startswith(b"HTTP/1.1 408 ")
        assert 0.2 < time.monotonic() - begun < 2.0


def test_bytes_now_and_then_do_not_put_the_deadline_off() -> None:
    """A client that sends a byte every moment has no more time than a silent one."""
    with serving() as port, connected(port, POST % (b"", 1000)) as connection:
        connection.settimeout(0.02)
        begun = time.monotonic()
        received = b""
        while not received:
            assert time.monotonic() - begun < 2.0
            connection.sendall(b"x")
            with suppress(TimeoutError):
                received = connection.recv(65536)
        assert received.startswith(b"HTTP/1.1 408 ")


def test_a_request_in_pieces_within_its_time_is_answered() -> None:
    """Slow is fine as long as it is in time, and each request on a connection has the whole time."""
    with serving(seconds=0.6) as port, connected(port) as connection:
        for _ in range(4):  # 0.8 s in all: more than one deadline
            for piece in (HALF, b"x\r\n\r\n"):
                time.sleep(0.1)  # the client's pace, not a wait for the server
                connection.sendall(piece)
            assert answered(connection)


def test_a_slow_answer_is_not_cut_off() -> None:
    """The deadline is for the request; the answer takes as long as it takes, and so may the next request wait."""
    with serving() as port, connected(port, (POST % (b"slow", 3)) + b"123" + HALF) as connection:
        assert answered(connection)
        connection.sendall(b"x\r\n\r\n")
        assert answered(connection)


def test_who_takes_no_answer_is_let_go() -> None:
    """Its answer is as large as it asked for: sixty such connections held 3 GB for two minutes."""
    with serving() as port, connected(port) as connection, connected(port) as slow:
        for each in (connection, slow):
            each.sendall(GET % b"/large")
        begun = time.monotonic()
        taken = 0
        while time.monotonic() - begun < 2.0:
            taken += len(slow.recv(100_000))
            time.sleep(0.02)
        assert taken > 50_000  # who takes it slowly gets it
        assert len(slow.recv(20_000)) > 0
        assert len(rest(connection)) < LARGE


def test_who_leaves_while_pipelined_answers_wait_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one whose turn it is waits for the client, which goes: its answer goes nowhere, and nothing is raised."""
    own, begun, ended = app, list[int](), list[BaseException | None]()

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        begun.append(1)
        try:
            await own(scope, receive, send)
        except BaseException as error:
            ended.append(error)
        else:
            ended.append(None)

    monkeypatch.setitem(globals(), "app", watched)
    limit = time.monotonic() + 20
    with serving(seconds=30) as port:
        with connected(port, 3 * (GET % b"/large")) as connection:
            while len(begun) < 2:  # the first is all with the transport, and the second waits for that
                assert time.monotonic() < limit
                time.sleep(0.01)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        while len(ended) < len(begun):
            assert time.monotonic() < limit
            time.sleep(0.01)
    assert ended == [None, None]


def test_who_takes_one_answer_after_the_other_is_not_cut_off() -> None:
    """More is left of the next one than was of the last: that is no sign that nothing was taken."""
    with serving() as port, connected(port, GET % b"/large") as connection:
        first, left = connection.recv(1 << 16), LARGE
        left -= len(first) - first.index(b"\r\n\r\n") - 4
        while left > 30_000_000:
            left -= len(connection.recv(1 << 20))
        for _ in range(30):  # 0.6 s: at least one look at what is left
            left -= len(connection.recv(100_000))
            time.sleep(0.02)
        while left > 0:
            left -= len(connection.recv(1 << 20))
        connection.sendall(GET % b"/large")
        for _ in range(60):
            assert connection.recv(100_000)
            time.sleep(0.02)


def test_an_idle_connection_outlives_the_deadline_and_ends_after_keep_alive() -> None:
    """Between two requests the keep-alive rule holds: 0.8 s here, the deadline being 0.1 s."""
    with serving(seconds=0.1, keep_alive=0.8) as port, connected(port, WHOLE) as connection:
        assert answered(connection)
        connection.settimeout(0.4)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.sendall(WHOLE)
        assert answered(connection)
        connection.settimeout(5)
        begun = time.monotonic()
        assert rest(connection) == b""
        assert 0.6 < time.monotonic() - begun < 3.0


def test_a_connection_that_never_speaks_ends_after_keep_alive() -> None:
    """uvicorn alone would keep it for ever."""
    with serving(keep_alive=0.3) as port, connected(port) as connection:
        assert rest(connection) == b""


def test_line_ends_between_requests_do_not_hold_a_connection() -> None:
    """They begin no request, and uvicorn stops its keep-alive clock for them."""
    with serving() as port, connected(port, WHOLE) as connection:
        assert answered(connection)
        connection.sendall(b"\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 408 ")


def test_a_request_answered_before_its_body_does_not_hold_a_connection() -> None:
    """When the rest of a refused body comes after the answer, the connection is idle and ends as such."""
    with serving(keep_alive=0.3) as port, connected(port, POST % (b"early", 4)) as connection:
        assert answered(connection)
        connection.sendall(b"rest")
        assert rest(connection) == b""


def test_pipelined_requests_are_answered_in_order() -> None:
    """Many requests in one piece: each is whole, none is overdue."""
    with serving() as port, connected(port, b"".join((POST % (b"", n)) + b"x" * n for n in range(1, 6))) as connection:
        received = b""
        while received.count(b"HTTP/1.1 200") < 5 or not received.endswith(b"\r\n\r\n5"):
            received += connection.recv(65536)
        assert [part.rpartition(b"\r\n\r\n")[2] for part in received.split(b"HTTP/1.1 200 OK")[1:]] == [
            b"%d" % n for n in range(1, 6)
        ]


def test_half_sent_requests_do_not_keep_others_out() -> None:
    """More of them than there is room for, far from their deadline: an old client and a new one are served at once."""
    with serving(seconds=60, most=20) as port, ExitStack() as stack:
        for _ in range(19):
            stack.enter_context(connected(port, HALF))
        with connected(port, WHOLE) as client:
            assert answered(client)
            for _ in range(15):  # they push out their own kind, which has owed a request for longer
                stack.enter_context(connected(port, HALF))
            client.sendall(WHOLE)
            assert answered(client)
            with connected(port, WHOLE) as other:
                assert answered(other)


def test_who_is_being_answered_is_not_pushed_out() -> None:
    """Room is made by closing connections that owe a request, not those that are owed an answer."""
    with serving(seconds=60, most=3) as port, ExitStack() as stack:
        served = [stack.enter_context(connected(port, (POST % (b"slow", 1)) + b"1")) for _ in range(2)]
        for _ in range(10):
            stack.enter_context(connected(port, HALF))
        assert all(answered(connection) for connection in served)


FEW_DESCRIPTORS = """
import resource, socket, sys
sys.path.insert(0, sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (512, 512))
import test_deadline
with test_deadline.serving(seconds=60, most=384) as port:
    print(port, flush=True)
    sys.stdin.read()
"""


def test_700_half_sent_requests_at_512_descriptors_do_not_starve_a_client() -> None:
    """The measured attack, with a deadline that does not help: normal clients are answered all the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < 1000:
        pytest.skip("this process may not have 1,000 descriptors itself")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1000), hard))
    command = [sys.executable, "-c", FEW_DESCRIPTORS, str(__file__).rpartition("/")[0]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        port = int(server.stdout.readline())
        with ExitStack() as stack:
            for number in range(700):
                stack.enter_context(connected(port, HALF))
                if number % 50 == 49:
                    with connected(port, WHOLE) as client:
                        assert answered(client)
        server.communicate("")
