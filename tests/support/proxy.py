"""A proxy between a client and a real store that does what networks do: it loses replies after the store has acted."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

CHUNK = 1 << 16


class Swallowing:
    """Forwards to a store, and swallows some replies: the store has done what it was asked, the client never hears.

    Only commands with `marker` at their start are counted and lost; a lost reply ends its connection, as a timeout
    would. Listens on a socket in `directory`, or on a free port.

    Args:
        target: the store's address, unix:// or redis://.
        directory: where the proxy's own socket lives; None for TCP.
        every: the reply to every so many counted commands is lost; 0 loses none by itself.
        marker: what a counted command has in its first bytes.
    """

    def __init__(self, target: str, directory: Path | None = None, every: int = 0, marker: bytes = b"EVAL") -> None:
        self.target, self.every, self.marker = target, every, marker
        self.counted = self.swallowed = self.connected = 0
        self.rewrites: dict[bytes, bytes] = {}  # of replies; of equal length, or bulk lengths would lie
        self._drops, self._answers = 0, list[bytes]()
        self._lock, self._sockets = threading.Lock(), set[socket.socket]()
        if directory is None:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}"
        else:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(directory / "proxy"))
            self._listener.listen(512)
            self.url = f"unix://{directory / 'proxy'}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.cut()

    def drop_next(self, count: int = 1) -> None:
        """Lose the replies to the next commands that count."""
        with self._lock:
            self._drops = count

    def answer_next(self, *replies: bytes) -> None:
        """Answer the next commands that count with these instead of asking the store."""
        with self._lock:
            self._answers = list(replies)

    def cut(self) -> None:
        """End every connection there is."""
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.connected += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, self._connected() as store, self._known(client, store):
            doomed = False
            while True:
                ready, _, _ = select.select([client, store], [], [])
                if client in ready:
                    if not (data := client.recv(CHUNK)):
                        return
                    answer, lost = self._judge(data)
                    doomed = doomed or lost
                    if answer:
                        client.sendall(answer)
                    else:
                        store.sendall(data)
                if store in ready:
                    if not (data := store.recv(CHUNK)):
                        return
                    if doomed:
                        self.swallowed += 1
                        return
                    for old, new in self.rewrites.items():
                        data = data.replace(old, new)
                    client.sendall(data)

    def _judge(self, data: bytes) -> tuple[bytes, bool]:
        """(the answer to give instead of the store's, whether the store's is to be lost)."""
        if self.marker not in data[:64]:
            return b"", False
        with self._lock:
            self.counted += 1
            if self._answers:
                return self._answers.pop(0), False
            if self._drops:
                self._drops -= 1
                return b"", True
            return b"", bool(self.every) and self.counted % self.every == 0

    def _connected(self) -> socket.socket:
        address = urlsplit(self.target)
        if address.scheme != "unix":
            return socket.create_connection((address.hostname, address.port))
        store = socket.socket(socket.AF_UNIX)
        try:
            store.connect(address.path)
        except OSError:
            store.close()
            raise
        return store

    @contextmanager
    def _known(self, *pair: socket.socket) -> Iterator[None]:
        with self._lock:
            self._sockets.update(pair)
        try:
            yield
        finally:
            with self._lock:
                self._sockets.difference_update(pair)
