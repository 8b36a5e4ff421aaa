"""An API key: what it may do, and the hash by which it is known again.

The text is `bs_ID_SECRET`. The id is public; the secret is 256 random bits, which nobody can guess, so a fast keyed
hash of the whole text is all that has to be kept: stretching is for passwords.
"""

from __future__ import annotations

import re
import secrets
import string
from hashlib import blake2b
from hmac import compare_digest
from typing import Final

import msgspec

from bandit.core.document import NAME
from bandit.errors import Code, Problem
from bandit.settings import KEY

ADMIN, WRITE, READ = "admin", "write", "read"
ROLES: Final = ADMIN, WRITE, READ
ID, SECRET = 10, 43  # letters: 43 of 62 are 256 bits
TEXT = re.compile(KEY.pattern.encode())
KEYS_MAX = 1000
EXPERIMENTS_MAX = 100  # that one key may be for
NAME_LETTERS = 100
_LETTERS = string.digits + string.ascii_letters
_LIMIT = re.compile(r"([0-9]{1,9})/(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}


class Limit(msgspec.Struct, frozen=True):
    """So many requests in a window of so many seconds."""

    quota: int
    seconds: int

    @property
    def text(self) -> str:
        """As it was given."""
        return f"{self.quota}/{ {1: 's', 60: 'm', 3600: 'h'}[self.seconds] }"


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """A key as the store has it. Times are milliseconds since 1970.

    Attributes:
        id: public.
        name: what it is for, as its maker says.
        roles: what it may do.
        hash: of its text.
        created: when it was made.
        experiments: the only ones that it is for; None: all.
        expires: from when on it is refused; 0: never.
        revoked: when it was; 0: it is not. The row stays, so that the id is never used again.
        limit: how often it may be used; None: without a limit.
        place: where its requests are counted; no other key with a limit has it.
        replaces: the id of the key whose place it takes.
    """

    id: str
    name: str
    roles: tuple[str, ...]
    hash: bytes
    created: int
    experiments: tuple[str, ...] | None = None
    expires: int = 0
    revoked: int = 0
    limit: Limit | None = None
    place: int = 0
    replaces: str = ""

    def lives(self, now_ms: int) -> bool:
        """Whether it is accepted."""
        return not self.revoked and (not self.expires or now_ms < self.expires)

    @property
    def role(self) -> str:
        """Its roles in a word, such as `admin` or `read+write`."""
        return ADMIN if ADMIN in self.roles else "+".join(sorted(self.roles))


NOBODY = Row("", "", (), bytes(32), 0, revoked=1)  # an unknown id is compared with this


def digest(text: bytes, pepper: bytes) -> bytes:
    """The 32 bytes that a key is known by; `pepper` is the store's own secret."""
    return blake2b(text, key=pepper, digest_size=32).digest()


def is_same(row: Row, text: bytes, pepper: bytes) -> bool:
    """Whether this is the text of that key, in a time that does not depend on where they differ."""
    return compare_digest(digest(text, pepper), row.hash)


def id_in(text: bytes) -> str:
    """The id in a key's text, or nothing where it is no key's text."""
    found = TEXT.fullmatch(text)
    return found[1].decode() if found else ""


def new_text() -> str:
    """A new key's text."""
    drawn = "".join(secrets.choice(_LETTERS) for _ in range(ID + SECRET))
    return f"bs_{drawn[:ID]}_{drawn[ID:]}"


def limit_of(text: str) -> Limit:
    """The limit that a text like `100/s`, `6000/m` or `10000/h` asks for.

    Raises:
        Problem: it is no such text.
    """
    found = _LIMIT.fullmatch(text)
    if found is None or not int(found[1]):
        raise Problem(Code.INVALID_REQUEST, "a limit is requests/window, like 100/s, 6000/m or 10000/h")
    return Limit(int(found[1]), _SECONDS[found[2]])


def checked(name: str, roles: tuple[str, ...], experiments: tuple[str, ...] | None) -> None:
    """Refuse what no key can be.

    Raises:
        Problem: invalid_request, with what was expected.
    """
    if not name.strip() or len(name) > NAME_LETTERS or not name.isprintable():
        raise Problem(Code.INVALID_REQUEST, f"a key's name is 1 to {NAME_LETTERS} printable letters: what it is for")
    if not roles or set(roles) - set(ROLES):
        raise Problem(Code.INVALID_REQUEST, f"a key has one or more of the roles {', '.join(ROLES)}")
    if experiments is not None and not 0 < len(experiments) <= EXPERIMENTS_MAX:
        raise Problem(Code.INVALID_REQUEST, f"a key is for all experiments or for 1 to {EXPERIMENTS_MAX} of them")
    if experiments is not None and not all(map(NAME.fullmatch, experiments)):
        raise Problem(Code.INVALID_REQUEST, "an experiment's name is a-z, 0-9, dot, dash and underscore")
