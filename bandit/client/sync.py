"""The same client for programs without an event loop: each call is run on a loop of our own, in a thread.

Every method is the coroutine of `Client` of that name, with its signature and words.
"""

import asyncio
import atexit
import functools
import os
import selectors
import socket
import threading
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypedDict, TypeVar, Unpack

from bandit.client.client import Client
from bandit.client.queue import Counts, Lost

P = ParamSpec("P")
R = TypeVar("R")

ENDING: Final = 5.0  # seconds the thread may take to end


class _Loop(asyncio.SelectorEventLoop):
    """A loop that goes on while the interpreter ends, and of which a fork has a copy that does no harm.

    Of epoll it would have no copy but the thing itself: what the child throws away, its parent would no longer hear.
    """

    def __init__(self) -> None:
        super().__init__(getattr(selectors, "PollSelector", selectors.SelectSelector)())
        self._of = os.getpid()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """As everywhere; what a child throws away of its parent's is no fault."""
        if os.getpid() == self._of:
            super().call_exception_handler(context)

    async def getaddrinfo(self, host: Any, port: Any, **how: Any) -> Any:
        """As everywhere; blocking, where no thread can be started any more."""
        try:
            return await super().getaddrinfo(host, port, **how)
        except RuntimeError:
            return socket.getaddrinfo(host, port, **how)


class Options(TypedDict, total=False):
    """The keyword arguments of `Client`."""

    api_key: str | None
    timeout: float
    deadline: float
    decision_deadline: float
    close_deadline: float
    connections: int
    queue_size: int
    on_lost: Callable[[Lost], None] | None


def _blocking(
    of: Callable[Concatenate[Client, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate["SyncClient", P], R]:
    """The coroutine of a client as a method that waits for its end."""

    @functools.wraps(of)
    def method(self: "SyncClient", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(of(self._opened(), *args, **kwargs))

    return method


def _at_once(of: Callable[Concatenate[Client, P], R]) -> Callable[Concatenate["SyncClient", P], R]:
    """A method of a client that does not wait for anything."""

    @functools.wraps(of)
    def method(self: "SyncClient", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return of(self._opened(), *args, **kwargs)

    return method


class SyncClient:
    """`Client` for programs without an event loop; it may be used from many threads, and after a fork.

        client = SyncClient("http://127.0.0.1:8080")
        choice = client.recommend("home", {"age": 41.0}, fallback="newest")
        if choice.logged:
            client.enqueue_feedback("home", decision_id=choice.decision_id, event="click")

    It opens with the first call. Enqueued feedback is sent before the interpreter ends; `close`, or leaving a `with`
    block, does so earlier. The arguments are those of `Client`.
    """

    def __init__(self, url: str, **options: Unpack[Options]) -> None:
        self._make = functools.partial(Client, url, **options)
        self._client, self._pid = self._make(), 0
        self._lock = threading.Lock()

    put_experiment = _blocking(Client.put_experiment)
    patch_experiment = _blocking(Client.patch_experiment)
    get_experiment = _blocking(Client.get_experiment)
    experiments = _blocking(Client.experiments)
    delete_experiment = _blocking(Client.delete_experiment)
    arms = _blocking(Client.arms)
    put_arms = _blocking(Client.put_arms)
    get_arm = _blocking(Client.get_arm)
    put_arm = _blocking(Client.put_arm)
    patch_arm = _blocking(Client.patch_arm)
    delete_arm = _blocking(Client.delete_arm)
    features = _blocking(Client.features)
    evaluation = _blocking(Client.evaluation)
    decision = _blocking(Client.decision)
    recommend = _blocking(Client.recommend)
    recommend_several = _blocking(Client.recommend_several)
    recommend_batch = _blocking(Client.recommend_batch)
    feedback = _blocking(Client.feedback)
    feedback_batch = _blocking(Client.feedback_batch)
    feedback_everywhere = _blocking(Client.feedback_everywhere)
    activate = _blocking(Client.activate)
    activate_batch = _blocking(Client.activate_batch)
    ready = _blocking(Client.ready)
    flush = _blocking(Client.flush)
    enqueue_feedback = _at_once(Client.enqueue_feedback)

    @property
    def feedback_counts(self) -> Counts:
        """What became of the events that were enqueued: each is counted once."""
        return self._client.feedback_counts

    def close(self) -> None:
        """Send what is enqueued, and end; it may be called again, and a further call opens it again."""
        with self._lock:
            if self._pid != os.getpid():
                return
            asyncio.run_coroutine_threadsafe(self._client.__aexit__(None, None, None), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(ENDING)
            self._pid = 0
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        self._opened()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _opened(self) -> Client:
        """The client of this process, opened in its thread; after a fork there is none, and the child makes its own."""
        if self._pid == os.getpid():
            return self._client
        with self._lock:
            if self._pid == os.getpid():
                return self._client
            self._client, self._loop = self._make(), _Loop()
            self._thread = threading.Thread(target=self._turn, args=(self._loop,), name="bandit-client", daemon=True)
            self._thread.start()
            asyncio.run_coroutine_threadsafe(self._client.__aenter__(), self._loop).result()
            self._pid = os.getpid()
        atexit.register(self.close)
        return self._client

    @staticmethod
    def _turn(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _run(self, call: Coroutine[Any, Any, R]) -> R:
        if threading.current_thread() is self._thread:
            call.close()
            raise RuntimeError("on_lost may not wait for the client that calls it: enqueue, or use another thread")
        running = asyncio.run_coroutine_threadsafe(call, self._loop)
        try:
            return running.result()
        except BaseException:  # Ctrl-C, too: the call ends with its caller
            running.cancel()
            raise
