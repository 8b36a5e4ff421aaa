"""The errors of Redis or Valkey, of its client library and of its address, mapped to our own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qs, urlsplit

import redis

from bandit.errors import CorruptLog, StoreUnavailable, StoreUnsuitable

ADDRESSES = (
    "redis://HOST:PORT[/DATABASE], rediss://... or unix:///PATH (USER:PASSWORD@ before HOST, signs in them as %XX)"
)
NO_DATABASE = "DB index is out of range"
MOVED = "READONLY", "MASTERDOWN", "LOADING"  # of a node that is no longer, or not yet, the one to ask
REFUSALS = "LOADING", "BUSY", "OOM", "MISCONF", "READONLY", "NOREPLICAS"
# the client library removes the code from the text of errors that it has a class for
DEMOTED = redis.exceptions.ReadOnlyError, redis.exceptions.MasterDownError
MOVING = *DEMOTED, redis.exceptions.BusyLoadingError
CANNOT_WRITE = (
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
)


# errors that are told by their code; those of redis-py's own table which scripts and a handshake can meet
CODES: dict[str, type[redis.RedisError]] = {
    "ERR": redis.exceptions.ResponseError,
    "LOADING": redis.exceptions.BusyLoadingError,
    "NOSCRIPT": redis.exceptions.NoScriptError,
    "NOAUTH": redis.exceptions.AuthenticationError,
    "WRONGPASS": redis.exceptions.AuthenticationError,
    "NOPERM": redis.exceptions.NoPermissionError,
    "OOM": redis.exceptions.OutOfMemoryError,
    "READONLY": redis.exceptions.ReadOnlyError,
    "MASTERDOWN": redis.exceptions.MasterDownError,
    "CLUSTERDOWN": redis.exceptions.ClusterDownError,
    "TRYAGAIN": redis.exceptions.TryAgainError,
}


def fault(text: str) -> redis.RedisError:
    """An error reply as redis-py's own clients raise it: those with a class lose their code."""
    code, _, rest = text.partition(" ")
    kind = CODES.get(code)
    return kind(rest) if kind else redis.exceptions.ResponseError(text)


def is_moved(reply: object) -> bool:
    """Whether a reply says that its node is no longer, or not yet, the one to ask."""
    return isinstance(reply, MOVING)


class StoreMoved(StoreUnavailable):
    """The node that answered does not take writes, or not yet: a new connection may lead to another one."""


def refused(error: redis.exceptions.ResponseError) -> bool:
    """Whether the store as a whole refuses, rather than one experiment's data being unreadable."""
    text, kinds = str(error), (*DEMOTED, *CANNOT_WRITE, redis.exceptions.NoPermissionError)
    return text.startswith((*MOVED, *REFUSALS)) or isinstance(error, kinds)


@contextmanager
def understood(url: str) -> Iterator[None]:
    """Check a store's address beyond what the client library does. The error leaves it out, as it may hold a password.

    Raises:
        StoreUnsuitable: it is not a store's address.
    """
    try:
        parts = urlsplit(url)
        there = parts.scheme == "unix" or (parts.hostname and re.fullmatch(r"(/\d*)?", parts.path))
        if parts.fragment or "@" in parts.query or not there:
            raise ValueError  # the library would take localhost, database 0, or half of a password for host and port
        if "decode_responses" in parse_qs(parts.query):
            raise TypeError("replies are read as bytes, without decode_responses")
        yield
    except (TypeError, ValueError, redis.RedisError) as error:
        option = f": {error}" if isinstance(error, TypeError) else ""
        raise StoreUnsuitable(f"expected a store's address, {ADDRESSES}, got another{option}") from None


@contextmanager
def mapped() -> Iterator[None]:
    """Raise the client library's errors as ours; those that may pass by themselves as `StoreUnavailable`."""
    try:
        yield
    except redis.exceptions.BusyLoadingError as error:
        raise StoreMoved("the store is loading its data.") from error
    except redis.exceptions.AuthenticationError as error:
        raise StoreUnavailable("the store refuses the user or password in its address, or asks for one.") from error
    except (redis.exceptions.ConnectionError, redis.exceptions.TimeoutError, OSError) as error:
        why = str(error).rstrip(".")
        raise StoreUnavailable(f"the store does not answer ({why}): is it running, is its address right?") from error
    except redis.exceptions.ResponseError as error:
        if str(error).startswith(MOVED) or isinstance(error, DEMOTED):
            raise StoreMoved(f"the store cannot write now: {str(error).rstrip('.')}.") from error
        if isinstance(error, redis.exceptions.NoPermissionError):
            raise StoreUnsuitable(f"the store's user may not do what is needed here: {error}") from error
        if unknown := re.match(r"unknown command ['`]?(\w+)", str(error)):
            message = (
                f"the store has no command {unknown[1]}: its provider took it away, or it is another kind of store"
            )
            raise StoreUnsuitable(message) from error
        if str(error).startswith(NO_DATABASE):
            raise StoreUnsuitable("the store has no database of the number in its address") from error
        if refused(error):
            raise StoreUnavailable(f"the store cannot write now: {str(error).rstrip('.')}.") from error
        raise CorruptLog(f"a key of the store does not hold our data: {error}") from error  # of another type or length
    except redis.exceptions.InvalidResponse as error:
        raise StoreUnsuitable(f"what answers at the store's address is neither Redis nor Valkey: {error}") from error
