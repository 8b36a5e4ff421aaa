"""One worker process: `python -m bandit.process.worker`, started by `bandit.process.supervisor` and by nobody else.

It serves on the socket that it inherited until its life pipe ends, then stops accepting, lets connections go with their
next answer, drains, flushes and writes the last checkpoint. A parent that is gone cannot kill it any more, so an alarm
does if all that takes too long.
"""

import asyncio
import gc
import logging
import math
import mmap
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import uvicorn
import uvloop

from bandit.access.limits import Limits
from bandit.errors import StoreUnsuitable
from bandit.process.direct import DirectProtocol, direct_protocol
from bandit.process.slots import Publisher, Slots
from bandit.process.workers import HANDOFF, SIGNALS
from bandit.serving.api.app import Front, build_app
from bandit.serving.api.hot import Hot
from bandit.serving.service import Service
from bandit.settings import Handoff, Phase
from bandit.store.redis_connection import CONNECTIONS
from bandit.telling import start_logging

log = logging.getLogger("bandit.process.worker")  # __name__ is __main__ here

KEEP_ALIVE_SECONDS = 75  # longer than the 60 s of the usual proxies: the one in front must be the first to hang up
DRAIN_SHARE = 0.4  # of the time to stop: 6 s of 15 for the requests under way; the last checkpoint has the next 4
RELIEVED_SHARE = 1 / 3  # of the time to stop, for idle connections to hear of it, where another worker serves already
GRACE_SECONDS = 0.2  # the same where none does: only what was being sent is waited for
LOOK_SECONDS = 0.02


class Server(uvicorn.Server):
    """uvicorn's server without its signal handlers (they are for the parent), and with a gentler end."""

    def __init__(self, config: uvicorn.Config, protocol: type[DirectProtocol]) -> None:
        super().__init__(config)
        self._protocol = protocol
        self.grace = GRACE_SECONDS

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield

    def let_go(self) -> None:
        """From now on each answer closes its connection."""
        if self._protocol.lasting:
            self._protocol.let_go()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops accepting, and closes idle connections only after a grace.

        Closing one at once would cut off a client that is just about to use it. Until then each request is answered,
        and its answer says that the connection ends.
        """
        for server in self.servers:
            server.close()
        self.let_go()
        until = time.monotonic() + self.grace
        await _until(lambda: not self.server_state.connections or time.monotonic() >= until)
        for connection in list(self.server_state.connections):
            connection.shutdown()
            await asyncio.sleep(0)  # one at a time: it has gone before the next one is looked at
        await super().shutdown(sockets)


class Life:
    """Says when the worker has to stop: its life pipe has ended, because the parent wants it to or is gone.

    relieved  another worker has taken its place
    """

    def __init__(self, descriptor: int, seconds: float) -> None:
        self.over = threading.Event()
        self.relieved = False
        self._descriptor = descriptor
        self._seconds = seconds
        threading.Thread(target=self._watch, name="life", daemon=True).start()

    def _watch(self) -> None:
        while os.read(self._descriptor, 1):
            self.relieved = True
        signal.alarm(math.ceil(self._seconds))  # ends the process by itself, whatever hangs
        self.over.set()


class Status:
    """Reports to the parent how the start went, one line for each event."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def ready(self) -> None:
        """The replica is folded up to the log's end."""
        self._write("ready")

    def failed(self, error: BaseException) -> None:
        """The worker ends because of this."""
        self._write(f"failed {' '.join(f'{type(error).__name__}: {error}'.split())}")

    def refused(self, error: BaseException) -> None:
        """The worker ends because of this, and so would every other one."""
        self._write(f"refused {' '.join(str(error).split())}")

    def _write(self, line: str) -> None:
        with suppress(OSError):  # the parent is gone: the life pipe says so too
            os.write(self._descriptor, f"{line[:4000]}\n".encode())


def main() -> int:
    """The exit code: 0 when the life pipe ended the worker, 1 when it failed."""
    if HANDOFF not in os.environ:
        sys.exit("bandit.process.worker is started by: bandit-server serve")
    _leave_signals_to_the_parent()
    handoff = Handoff.model_validate_json(os.environ.pop(HANDOFF))
    settings = handoff.settings
    life = Life(handoff.life, settings.stop_timeout)
    start_logging(settings.log_level, f"[{os.getpid()}] ", settings.log_format)
    sys.setswitchinterval(0.0001)  # the loop waits for the replica's thread no longer than this
    status = Status(handoff.status)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            failure = runner.run(_serve(handoff, life, status))
    except Exception as error:
        failure = error
    if failure is None:
        return 0
    if isinstance(failure, StoreUnsuitable):
        status.refused(failure)
    else:
        log.critical("the worker failed", exc_info=failure)
        status.failed(failure)
    return 1


def _leave_signals_to_the_parent() -> None:
    """Ignore the signals that were blocked since the process began, so that every thread ignores them."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


async def _serve(handoff: Handoff, life: Life, status: Status) -> BaseException | None:
    """Serve until the end: the error that the service failed from, or None."""
    limits = Limits(handoff.limits if handoff.limits >= 0 else None)
    service, phase = Service.open(handoff.settings, limits), _phase(handoff.flag)
    publisher = Publisher(Slots(*handoff.slots), handoff.slot, service.counters)
    publishing = asyncio.create_task(_publish(publisher))  # to the end: also while what is open is answered
    try:
        server = _server(build_app(service, phase, publisher.everyone), Hot(service), service)
        watch = asyncio.create_task(_watch(service, server, life, status, phase))
        if handoff.replaced:  # the others serve meanwhile: whoever connects to this one gets an answer at once
            await _until(lambda: service.ready.is_set() or service.stands_in or server.should_exit)
        if not server.should_exit:
            await server.serve(sockets=[socket.socket(fileno=handoff.listener)])
        server.should_exit = True
        await watch
    finally:
        await service.close()
        publishing.cancel()
        publisher.publish(gauges=False)  # the last of it: whoever goes on from here has it all
    return service.failed


async def _publish(publisher: Publisher) -> None:
    """Publishes what is counted, when it is asked for or has changed."""
    while True:
        try:
            publisher.look()
        except Exception:
            log.exception("what this worker counts cannot be published; metrics of others will lack it")
            await asyncio.sleep(60)
        await asyncio.sleep(LOOK_SECONDS)


async def _watch(service: Service, server: Server, life: Life, status: Status, phase: Callable[[], Phase]) -> None:
    """Reports to the parent when the replica is ready and the server listens, and stops it at the end."""
    reported = False
    while not server.should_exit:
        if service.ready.is_set() and server.started and not reported:
            reported = True
            gc.collect()
            gc.freeze()  # what was loaded stays: later collections need not walk it
            gc.set_threshold(10_000, 20, 20)  # requests leave no cycles: looking for them as often takes 5 % of a core
            status.ready()
        if phase() is Phase.CLOSING:
            server.let_go()
        over = life.over.is_set()  # first: what it says of a successor came before
        if life.relieved:
            server.grace = RELIEVED_SHARE * service.settings.stop_timeout
        server.should_exit = over or service.failed is not None
        await asyncio.sleep(LOOK_SECONDS)


async def _until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 - the events are of threads
        await asyncio.sleep(LOOK_SECONDS)


def _phase(descriptor: int) -> Callable[[], Phase]:
    """A function that says what all workers of this start do, by one look at a shared byte."""
    shared = mmap.mmap(descriptor, 1, prot=mmap.PROT_READ)
    return lambda: Phase(shared[0])


def _server(app: Front, hot: Hot, service: Service) -> Server:
    settings = service.settings
    most = _most_connections()
    protocol = direct_protocol(settings.request_timeout, most, hot, service.gate, short=service.spans is None)
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="debug" if settings.log_level == "debug" else "error",  # not a line for each client's bad request
        access_log=False,
        server_header=False,
        proxy_headers=False,  # `access.routes` reads the client address, where it is asked for
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.stop_timeout * DRAIN_SHARE),
        limit_concurrency=most + 1,  # reached only when every connection has a request under way
    )
    return Server(config, protocol)


OWN = 40 + CONNECTIONS  # descriptors: a worker's 22 and room for an evaluation, and the store's clients


def _most_connections() -> int:
    """Three quarters of the descriptors that a process may have, less those of its own, and 10,000 at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 10_000 if soft < 0 else max(8, min(10_000, soft * 3 // 4, soft - OWN))


if __name__ == "__main__":
    sys.exit(main())
