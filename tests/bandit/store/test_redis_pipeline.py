"""The event loop's connection: against real servers, and against one whose replies the test plays byte by byte."""

import asyncio
import gc
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import hiredis
import pytest
import redis
import uvloop
from conftest import opened, running
from proxy import Swallowing
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import InvalidResponse
from redis.exceptions import TimeoutError as Overdue
from trial import Trial

from bandit.errors import StoreUnavailable, StoreUnsuitable
from bandit.process.embedded import find_binary
from bandit.store import redis_pipeline
from bandit.store.keys import Keys
from bandit.store.protocol import Batch, Rules
from bandit.store.redis_pipeline import Pipelined, taken_over
from bandit.store.redis_store import RedisStore

NOBODYS = Batch("p", 1, Rules(1, 1, False, "last", 0, ()), [])
Run = Callable[[Coroutine[Any, Any, Any]], Any]
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Run:
    """Run a story on each kind of event loop, within ten seconds."""

    def runner(story: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as loop:
            return loop.run(asyncio.wait_for(story, 10))

    return runner


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose sockets' paths are short enough."""
    with tempfile.TemporaryDirectory(prefix="b", dir="/tmp") as directory:
        yield Path(directory)


@asynccontextmanager
async def piped(url: str, timeout: float = 5.0) -> AsyncIterator[Pipelined]:  # noqa: ASYNC109 - the store's
    """A pipeline to an address, closed at the end."""
    with opened(url, timeout) as store:
        yield store._appends
        await store.aclose()


class Played:
    """A store whose replies the test plays: it shakes hands by itself, and hands over each other command."""

    def __init__(self, place: Path) -> None:
        self.path, self.url = str(place / "played"), f"unix://{place / 'played'}"
        self.connected, self.mute, self.met = 0, False, asyncio.Event()
        self.handshake = b"+OK\r\n"
        self.asked: asyncio.Queue[tuple[list[bytes], asyncio.StreamWriter]] = asyncio.Queue()
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> "Played":
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected += 1
        self.met.set()
        self._writers.append(writer)
        parser = hiredis.Reader()
        while data := await reader.read(1 << 16):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                if command[0] == b"CLIENT":
                    writer.write(b"" if self.mute else self.handshake)
                else:
                    self.asked.put_nowait((command, writer))

    async def commands(self, count: int) -> asyncio.StreamWriter:
        """Wait for so many commands; where their replies go."""
        found = [await self.asked.get() for _ in range(count)]
        return found[0][1]


def start(pipe: Pipelined, *words: str) -> list[asyncio.Task[Any]]:
    """Ask for the echo of each word at once."""
    return [asyncio.ensure_future(pipe.ask("ECHO", word)) for word in words]


async def said(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    """What became of each: its reply, or the kind of its error."""
    found = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(each) if isinstance(each, BaseException) else each for each in found]


# replies go to those who asked


def test_a_thousand_at_once_get_their_own_replies_over_one_connection(url: str, run: Run) -> None:
    """In order, more than may be under way; of the many connections that the client library would make, one."""

    async def story() -> None:
        async with piped(f"{url}?client_name=counted") as pipe:
            words = [f"word-{i}" * (i % 7) for i in range(1000)]
            assert await said(start(pipe, *words)) == [word.encode() for word in words]
            assert (await pipe.ask("CLIENT", "LIST")).count(b"name=counted ") == 1

    run(story())


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_replies_may_come_in_any_pieces(short: Path, run: Run, size: int) -> None:
    """A byte at a time, across replies, and all of them at once; an error and a list among them."""

    async def story() -> None:
        async with Played(short) as played, piped(played.url) as pipe:
            tasks = start(pipe, "a", "b", "c", "d")
            writer = await played.commands(4)
            data = b"$3\r\none\r\n-NOSCRIPT none\r\n*2\r\n:1\r\n*1\r\n$-1\r\n$0\r\n\r\n"
            for at in range(0, len(data), size):
                writer.write(data[at : at + size])
                await asyncio.sleep(0)
            assert await said(tasks) == [b"one", redis.exceptions.NoScriptError, [1, [None]], b""]

    run(story())


def test_a_reply_of_tens_of_megabytes_comes_whole(url: str, run: Run) -> None:
    """And what is asked behind it is answered too; so large a command goes, though it is more than may be under way."""

    async def story() -> None:
        async with piped(url) as pipe:
            large = bytes(40 << 20)
            assert await pipe.ask("ECHO", large) == large
            replies = await asyncio.gather(pipe.ask("ECHO", large), pipe.ask("ECHO", "small"))
            assert replies == [large, b"small"]

    run(story())


def test_a_reply_to_one_who_was_cancelled_goes_to_nobody(short: Path, run: Run) -> None:
    """Not to the one behind, who would take another experiment's positions for his own."""

    async def story() -> None:
        async with Played(short) as played, piped(played.url) as pipe:
            tasks = start(pipe, "a", "b", "c")
            writer = await played.commands(3)
            tasks[1].cancel()
            await asyncio.sleep(0)
            writer.write(b"+one\r\n+two\r\n+three\r\n")
            assert await said(tasks) == [b"one", asyncio.CancelledError, b"three"]
            assert played.connected == 1

    run(story())


def test_an_append_that_is_cancelled_leaves_the_others_theirs(url: str, run: Run, name: str) -> None:
    """Of two experiments' appends one is given up; the other's answer is of its own log."""

    async def story(store: RedisStore, one: Trial, other: Trial) -> None:
        await store.append_async(other.name, other.batch(sequence=1))
        gone = asyncio.ensure_future(store.append_async(one.name, one.batch(one.decision(), one.decision())))
        stays = asyncio.ensure_future(store.append_async(other.name, other.batch(other.decision(), sequence=2)))
        await asyncio.sleep(0)
        gone.cancel()
        (logged,) = await stays
        assert other.log()[-1].position == logged.position
        assert one.tags() == "dd"
        await store.aclose()

    with opened(url) as store:
        run(story(store, Trial(store, name), Trial(store, name + "-other")))


# what ends a connection fails all that is under way


def test_a_reply_that_never_comes_ends_the_connection_at_its_deadline(short: Path, run: Run) -> None:
    """Everything under way fails, for nobody knows its fate; the next command goes over a new connection."""

    async def story() -> None:
        async with Played(short) as played, piped(played.url, timeout=0.3) as pipe:
            tasks = start(pipe, "a", "b", "c")
            writer = await played.commands(3)
            writer.write(b"+one\r\n")
            begun = time.monotonic()
            assert await said(tasks) == [b"one", Overdue, Overdue]
            assert 0.25 < time.monotonic() - begun < 2
            (again,) = start(pipe, "d")
            (await played.commands(1)).write(b"+four\r\n")
            assert await again == b"four"
            assert played.connected == 2

    run(story())


def test_each_command_has_a_deadline_of_its_own(short: Path, run: Run) -> None:
    """One that was sent later may wait as long, though the connection's only timer was set for the first."""

    async def story() -> None:
        async with Played(short) as played, piped(played.url, timeout=0.4) as pipe:
            (early,) = start(pipe, "a")
            writer = await played.commands(1)
            await asyncio.sleep(0.25)
            (late,) = start(pipe, "b")
            await played.commands(1)
            writer.write(b"+one\r\n")
            await asyncio.sleep(0.25)  # past the first one's
            writer.write(b"+two\r\n")
            assert await said([early, late]) == [b"one", b"two"]
            assert played.connected == 1

    run(story())


def test_what_came_while_the_loop_was_held_up_is_not_overdue(valkey: str, run: Run) -> None:
    """The reply lies in the socket when the event loop looks at its clock again, late."""

    async def story() -> None:
        async with piped(valkey, timeout=0.3) as pipe:
            await pipe.ask("ECHO", "a")
            (task,) = start(pipe, "b")
            await asyncio.sleep(0)
            time.sleep(0.5)  # noqa: ASYNC251 - it is what the test is about
            assert await task == b"b"

    run(story())


def test_a_connection_cut_in_the_middle_of_a_reply_fails_those_who_wait(short: Path, run: Run) -> None:
    """Half a reply is none; the next command connects anew and is not given the other half's remains."""

    async def story() -> None:
        async with Played(short) as played, piped(played.url) as pipe:
            tasks = start(pipe, "a", "b")
            writer = await played.commands(2)
            writer.write(b"$10\r\nhalf")
            await writer.drain()
            writer.close()
            assert await said(tasks) == [Disconnected, Disconnected]
            (again,) = start(pipe, "c")
            (await played.commands(1)).write(b"+three\r\n")
            assert await again == b"three"

    run(story())


def test_garbage_is_told_to_whose_reply_it_is_and_ends_the_connection(short: Path, run: Run) -> None:
    """Of those behind it nothing is known; a reply that nobody asked for ends it too."""

    async def story() -> None:
        async with Played(short) as played, piped(played.url) as pipe:
            tasks = start(pipe, "a", "b", "c")
            (await played.commands(3)).write(b"+one\r\nHTTP/1.1 400 Bad Request\r\n\r\n")
            assert await said(tasks) == [b"one", InvalidResponse, Disconnected]
            (again,) = start(pipe, "d")
            (await played.commands(1)).write(b"+four\r\n+five\r\n")
            assert await again == b"four"
            (last,) = start(pipe, "e")
            (await played.commands(1)).write(b"+six\r\n")
            assert await last == b"six"
            assert played.connected == 3

    run(story())


@pytest.mark.parametrize("code", ["READONLY", "MASTERDOWN", "LOADING"])
def test_those_behind_a_demoted_nodes_answer_ask_another_node(short: Path, run: Run, code: str) -> None:
    """It has refused one, so it would refuse all behind it: they fail at once, and the connection ends."""

    async def story() -> None:
        async with Played(short) as played, piped(played.url) as pipe:
            tasks = start(pipe, "a", "b")
            (await played.commands(2)).write(b"-%s no\r\n" % code.encode())
            first, second = await said(tasks)
            assert issubclass(first, redis.RedisError)
            assert second is Disconnected
            (again,) = start(pipe, "c")
            (await played.commands(1)).write(b"+three\r\n")
            assert await again == b"three"
            assert played.connected == 2

    run(story())


# bounds


def test_only_so_many_commands_and_bytes_are_under_way(short: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is more waits for room, and is sent as replies come; nothing is lost or mixed up."""
    monkeypatch.setattr(redis_pipeline, "COMMANDS", 3)
    monkeypatch.setattr(redis_pipeline, "BYTES", 1000)

    async def story() -> None:
        async with Played(short) as played, piped(played.url) as pipe:
            tasks = start(pipe, *"abcd")
            writer = await played.commands(3)
            await asyncio.sleep(0.05)
            assert played.asked.empty()
            writer.write(b"+a\r\n")
            await played.commands(1)
            writer.write(b"+b\r\n+c\r\n+d\r\n")
            assert await said(tasks) == [b"a", b"b", b"c", b"d"]
            large = start(pipe, "e" * 600, "f" * 600)
            await played.commands(1)
            await asyncio.sleep(0.05)
            assert played.asked.empty()
            writer.write(b"+e\r\n")
            await played.commands(1)
            writer.write(b"+f\r\n")
            assert await said(large) == [b"e", b"f"]

    run(story())


def test_who_finds_no_room_in_time_is_refused(short: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits longer than for a reply; what was never sent is refused too when the connection ends."""
    monkeypatch.setattr(redis_pipeline, "COMMANDS", 1)

    async def story() -> None:
        async with Played(short) as played, piped(played.url, timeout=0.3) as pipe:
            assert set(await said(start(pipe, "a", "b", "c"))) <= {Overdue, Disconnected}
            assert played.asked.qsize() == 1

    run(story())


def test_connecting_and_shaking_hands_are_bounded_together(short: Path, run: Run) -> None:
    """A server that accepts and says nothing: all who wait hear of it after one timeout, not each after its own."""

    async def story() -> None:
        async with Played(short) as played, piped(played.url, timeout=0.3) as pipe:
            played.mute = True
            begun = time.monotonic()
            assert await said(start(pipe, *"abcdefgh")) == [Overdue] * 8
            assert time.monotonic() - begun < 2
            assert played.connected == 1
            played.mute = False
            (task,) = start(pipe, "i")
            (await played.commands(1)).write(b"+now\r\n")
            assert await task == b"now"

    run(story())


# closing


def test_closing_fails_what_is_under_way_and_a_later_command_connects_anew(short: Path, run: Run) -> None:
    """Those who wait hear of it at once, as an error and not as their own cancellation."""

    async def story() -> None:
        async with Played(short) as played, piped(played.url) as pipe:
            await pipe.aclose()  # of nothing
            tasks = start(pipe, "a", "b")
            await played.commands(2)
            await pipe.aclose()
            assert await said(tasks) == [Disconnected, Disconnected]
            (again,) = start(pipe, "c")
            (await played.commands(1)).write(b"+three\r\n")
            assert await again == b"three"

    run(story())


def test_closing_while_connecting_tells_those_who_wait(short: Path, run: Run) -> None:
    """The half-made connection is ended; the waiters were not cancelled themselves."""

    async def story() -> None:
        async with Played(short) as played, piped(played.url) as pipe:
            played.mute = True
            tasks = start(pipe, "a", "b")
            await played.met.wait()
            await pipe.aclose()
            assert await said(tasks) == [Disconnected, Disconnected]

    run(story())


def test_one_who_loses_patience_while_connecting_takes_it_from_nobody(short: Path, run: Run) -> None:
    """The connection is made for all who wait."""

    async def story() -> None:
        async with Played(short) as played, piped(played.url) as pipe:
            tasks = start(pipe, "a", "b")
            await asyncio.sleep(0)
            tasks[0].cancel()
            (await played.commands(1)).write(b"+two\r\n")
            assert await said(tasks) == [asyncio.CancelledError, b"two"]
            assert played.connected == 1

    run(story())


@pytest.mark.filterwarnings("ignore:(unclosed|loop is closed):ResourceWarning")
def test_each_event_loop_has_its_own_connection(valkey: str, run: Run) -> None:
    """Tests run many, one after the other: also where one ended without closing what it had."""
    with opened(valkey) as store:

        async def asked() -> None:
            assert await store._appends.ask("ECHO", "a") == b"a"

        async def closed() -> None:
            await asked()
            await store.aclose()

        async def only_closed() -> None:
            await store.aclose()

        for story in (closed, asked, asked, only_closed, closed):
            run(story())
        gc.collect()  # what a loop left open is closed, and told, here


# the store's errors


@pytest.mark.parametrize(
    "line",
    [
        "LOADING wait", "BUSY wait", "OOM none", "MISCONF disk", "READONLY no", "NOREPLICAS few", "MASTERDOWN no",
        "CLUSTERDOWN no", "TRYAGAIN later", "NOPERM no", "NOAUTH who", "WRONGPASS who", "WRONGTYPE other", "ERR odd",
    ],
)  # fmt: skip
def test_both_clients_say_the_same_of_an_error(valkey: str, short: Path, name: str, line: str) -> None:
    """Class and text, whoever met it: the table of codes is the client library's, as far as it is needed."""
    with Swallowing(valkey, short) as proxy, opened(proxy.url) as store:
        trial = Trial(store, name)
        trial.decide()

        async def story() -> str:
            await store.append_async(name, trial.batch(trial.decision()))
            trial.sequence += 1
            proxy.answer_next(f"-{line}\r\n".encode())
            with pytest.raises(Exception, match="store") as caught:
                await store.append_async(name, trial.batch(trial.decision()))
            await store.aclose()
            return repr(caught.value)

        found = asyncio.run(story())
        proxy.answer_next(f"-{line}\r\n".encode())
        with pytest.raises(Exception, match="store") as caught:
            store.append(name, trial.batch(trial.decision()))
        assert found == repr(caught.value)


def test_a_restarted_server_without_scripts_is_connected_to_and_taught(short: Path, name: str, run: Run) -> None:
    """The append that finds the dead connection fails, or the next one connects: the same bytes count once."""

    async def appended(store: RedisStore, trial: Trial) -> None:
        batch = trial.batch(trial.decision())
        for _ in range(3):
            try:
                await store.append_async(trial.name, batch)
            except StoreUnavailable:
                continue
            trial.sequence += 1
            return
        pytest.fail("three attempts")

    async def story() -> None:
        with opened(f"unix://{short / 's'}") as store:
            with durable(short):
                trial = Trial(store, name)
                await appended(store, trial)
            with durable(short):
                await appended(store, trial)
                assert trial.tags() == "dd"
            await store.aclose()

    run(story())


@contextmanager
def durable(place: Path) -> Iterator[str]:
    """A server whose writes survive its kill."""
    with running(find_binary(), place) as url, redis.Redis.from_url(url) as client:
        client.config_set("appendfsync", "always")
        yield url


def test_a_master_that_became_a_replica_is_parted_from_until_it_is_one_again(short: Path, name: str, run: Run) -> None:
    """Really: every refused append ends its connection; the same bytes are taken once it is a master again."""

    async def story(store: RedisStore, raw: redis.Redis) -> None:
        trial = Trial(store, name)
        batch = trial.batch(trial.decision())
        await store.append_async(name, trial.batch(sequence=1))
        trial.sequence, batch = 2, batch._replace(sequence=2)
        before = raw.info("stats")["total_connections_received"]
        raw.replicaof("127.0.0.1", "1")
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="cannot write now"):
                await store.append_async(name, batch)
        assert raw.info("stats")["total_connections_received"] - before >= 2
        raw.replicaof("NO", "ONE")
        (logged,) = await store.append_async(name, batch)
        assert trial.log()[-1].position == logged.position
        assert trial.tags() == "d"
        await store.aclose()

    with running(find_binary(), short) as url, redis.Redis.from_url(url) as raw, opened(url) as store:
        run(story(store, raw))


# addresses


def append_once(url: str, name: str) -> None:
    """Log a decision by the event loop's client alone, its experiment made before."""

    async def story() -> None:
        with opened(url) as store:
            trial = Trial(store, name)
            assert len(await store.append_async(name, trial.batch(trial.decision()))) == 1
            assert trial.tags() == "d"
            await store.aclose()

    asyncio.run(story())


@pytest.fixture
def guarded(short: Path) -> Iterator[redis.Redis]:
    """A server with a password, and a user of its own."""
    with running(find_binary(), short) as url, redis.Redis.from_url(url) as raw:
        raw.execute_command("ACL", "SETUSER", "us%er", "on", ">p@s:s/w%41?", "~*", "&*", "+@all")
        raw.config_set("requirepass", "secret")
        raw.config_set("port", "0")
        raw.config_set("bind", "127.0.0.1")
        raw.config_set("port", str(free_port()))
        yield raw


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def test_a_user_a_password_and_a_database_of_an_address_are_used(guarded: redis.Redis, short: Path, name: str) -> None:
    """Percent signs are read once; by a unix socket and by TCP."""
    user, port = "us%25er:p%40s%3As%2Fw%2541%3F", guarded.config_get("port")["port"]
    append_once(f"redis://{user}@127.0.0.1:{port}/3", name)
    append_once(f"redis://:secret@127.0.0.1:{port}?db=4&protocol=3", name)
    append_once(f"unix://:secret@{short / 's'}?db=5", name)
    for database in (3, 4, 5):
        guarded.select(database)
        assert guarded.exists(Keys.of(name).log)


@pytest.mark.parametrize("by", ["unix", "tcp"])
@pytest.mark.parametrize("login", [":wrong@", "", "nobody:secret@"])
def test_a_wrong_password_is_said_to_be_one(guarded: redis.Redis, short: Path, run: Run, by: str, login: str) -> None:
    """By the event loop's client as by the other; nothing is sent again and again by itself."""
    trial = Trial(RedisStore(f"unix://:secret@{short / 's'}"), "e")
    trial.store.close()
    port = guarded.config_get("port")["port"]
    address = f"unix://{login}{short / 's'}" if by == "unix" else f"redis://{login}127.0.0.1:{port}"

    async def story() -> None:
        with opened(address) as store, pytest.raises(StoreUnavailable, match="refuses the user or password"):
            await store.append_async("e", trial.batch(trial.decision()))

    run(story())


def test_what_is_no_redis_is_said_to_be_none(short: Path, run: Run) -> None:
    """A web server at the store's address."""

    async def story() -> None:
        async with Played(short) as played:
            played.handshake = b"HTTP/1.1 400 Bad Request\r\n\r\n"
            with opened(played.url) as store, pytest.raises(StoreUnsuitable, match="neither Redis nor Valkey"):
                await store.append_async("e", NOBODYS)

    run(story())


def certificate(place: Path) -> Path:
    """A key and a certificate for localhost that nobody but itself vouches for, in one file."""
    if (program := shutil.which("openssl")) is None:
        pytest.skip("openssl is not installed")
    file = place / "pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", *names, "-keyout", file, "-out", place / "crt"]
    subprocess.run(command, check=True, capture_output=True)
    file.write_text(file.read_text() + (place / "crt").read_text())
    return file


@asynccontextmanager
async def encrypted(target: str, pem: Path) -> AsyncIterator[int]:
    """The port of a server that speaks TLS and hands on what it hears to a store."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs = await asyncio.open_unix_connection(target.removeprefix("unix://"))
        await asyncio.gather(pump(reader, theirs[1]), pump(theirs[0], writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0.05)  # the relays end


def test_tls_and_its_options_are_those_of_the_address(valkey: str, short: Path, run: Run) -> None:
    """With the certificate that vouches for it a store is reached, in replies of megabytes too; without, it is not."""
    pem = certificate(short)

    async def story() -> None:
        async with encrypted(valkey, pem) as port:
            async with piped(f"rediss://localhost:{port}/2?ssl_ca_certs={pem}") as pipe:
                large = bytes(3 << 20)
                assert await said([asyncio.ensure_future(pipe.ask("ECHO", each)) for each in (b"a", large)]) == [
                    b"a",
                    large,
                ]
                assert b"db=2" in await pipe.ask("CLIENT", "INFO")
            async with piped(f"rediss://localhost:{port}?ssl_cert_reqs=none&ssl_check_hostname=false") as pipe:
                assert await pipe.ask("ECHO", "b") == b"b"
            async with piped(f"rediss://localhost:{port}") as pipe:
                with pytest.raises(Disconnected, match="certificate"):
                    await pipe.ask("ECHO", "c")

    run(story())


def test_a_connection_of_the_client_library_is_still_what_is_taken_over(valkey: str, run: Run) -> None:
    """Its two private attributes are the streams, and without them it lets go: look here when a new version comes."""

    async def story() -> None:
        connection = redis.asyncio.ConnectionPool.from_url(valkey).make_connection()
        await connection.connect()
        assert isinstance(connection._reader, asyncio.StreamReader)
        assert isinstance(connection._writer, asyncio.StreamWriter)
        writer = taken_over(connection)
        assert not connection.is_connected
        await connection.disconnect(nowait=True)
        assert not writer.transport.is_closing()
        writer.transport.abort()

    run(story())
