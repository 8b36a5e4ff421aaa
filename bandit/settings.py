"""Settings of a server: from the command line, else from BANDIT_* in the environment, else the default."""

import ipaddress
import os
import re
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bandit.errors import EmbeddedError

Durability = Literal["everysec", "always"]
Auth = Literal["auto", "on", "off"]
LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
MIB = 1 << 20
KEY = re.compile(r"bs_([0-9A-Za-z]{10})_([0-9A-Za-z]{43})")  # an API key: id and secret
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/?#,@]+")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# Kubernetes tells a container of every service beside it: of one called `bandit`, BANDIT_PORT=tcp://10.0.0.1:8080
LINK = re.compile(r"(tcp|udp|sctp)://")
LINKED = re.compile(r"(^|_)port$")  # fields whose variable may be such a link


class Settings(BaseSettings):
    """How one server runs; every field can be set as BANDIT_NAME in the environment.

    A store somewhere else (redis_url) and a directory for our own (data_dir) exclude each other, so that nobody
    believes their data to be in a directory that is not used. None stands for "not given".
    """

    # inputs are hidden from error messages: a redis_url may carry a password
    model_config = SettingsConfigDict(
        env_prefix="BANDIT_", frozen=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False
    )

    redis_url: str | None = Field(None, repr=False, description="a Redis or Valkey to use instead of starting our own")
    data_dir: Path = Field(Path("bandit-data"), description="directory of the store that we start ourselves")
    store_binary: Path | None = Field(None, description="valkey-server or redis-server to start; else it is looked for")
    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    workers: int = Field(1, ge=1, le=256, description="worker processes, each with a replica of everything learned")
    durability: Durability = Field("everysec", description="how often our own store syncs its file to the disk")
    store_memory: int | None = Field(
        None, ge=16, description="memory that our own store may take, in MiB; by default half of the machine's"
    )
    model_memory: int | None = Field(
        None, ge=1, description="memory that all models may take in a worker, in MiB; by default a quarter, shared"
    )
    log_level: LogLevel = Field("info", description="what is logged to stderr: debug, info, warning or error")
    auth: Auth = Field(
        "auto", description="whether API keys are asked for: on, off, or auto, which is off on a loopback address"
    )
    admin_key: str | None = Field(None, repr=False, description="an admin key to begin with, instead of a made one")
    admin_key_file: Path | None = Field(None, description="a file with such keys, one a line")
    first_key_file: Path | None = Field(
        None, description="where the first admin key is written where there is no terminal; by default in data_dir"
    )
    cors_origins: str | None = Field(None, description="origins whose pages may use the server from a browser, or *")
    trusted_proxies: str | None = Field(None, description="addresses or networks whose X-Forwarded-For is believed")
    audit_entries: int = Field(
        10_000, ge=100, description="entries that the audit log keeps, about; 4 KiB at most each"
    )
    log_format: LogFormat = Field("console", description="how it is logged: console, for people, or json, one a line")
    otel: bool = Field(False, description="whether requests are traced by OpenTelemetry, as OTEL_* variables say")
    request_timeout: float = Field(
        30, gt=0, description="seconds within which a request's headers and body must arrive"
    )
    body_limit: int = Field(1 * MIB, gt=0, description="largest body of a request, in bytes")
    batch_limit: int = Field(8 * MIB, gt=0, description="largest body of a batch request, in bytes")
    stop_timeout: float = Field(15, gt=0, description="seconds within which a server that is told to stop has stopped")
    drain_seconds: float = Field(
        0, ge=0, description="seconds after SIGTERM in which /readyz answers 503 and requests are still served"
    )
    keep_store: bool = Field(False, description="whether our own store goes on running when the server stops")
    late_grace: float = Field(86400, ge=0, description="seconds that a decision is kept for after its deadline")
    checkpoint_seconds: float = Field(60, gt=0, description="longest time between two checkpoints, in seconds")
    store_patience: float = Field(
        0.25, gt=0, description="seconds of silence of the store after which it is answered without it, where it may be"
    )
    queue_wait: float = Field(
        0.025, gt=0, description="seconds that a request may wait to be begun; where it would be longer it is refused"
    )
    snapshot_dir: Path | None = Field(
        None, description="directory of snapshots to decide by where a server starts while the store is away"
    )
    lease_seconds: float = Field(
        3, gt=0, description="seconds without a heartbeat after which another worker is elected"
    )

    @property
    def model_bytes(self) -> int:
        """Bytes that the models of all experiments may take in one worker."""
        return machine_memory() // 4 // self.workers if self.model_memory is None else self.model_memory * MIB

    @property
    def store_bytes(self) -> int | None:
        """Bytes that our own store may take; None: by the machine's memory."""
        return None if self.store_memory is None else self.store_memory * MIB

    @property
    def auth_on(self) -> bool:
        """Whether API keys are asked for."""
        return self.auth == "on" or (self.auth == "auto" and not is_loopback(self.host))

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of `cors_origins`."""
        return tuple(_words(self.cors_origins or ""))

    @property
    def proxies(self) -> tuple[Network, ...]:
        """The networks of `trusted_proxies`."""
        return tuple(map(ipaddress.ip_network, _words(self.trusted_proxies or "")))

    def admin_keys(self) -> list[str]:
        """The admin keys that are given.

        Raises:
            OSError: the file cannot be read.
            EmbeddedError: what is given is no key.
        """
        found = _words(self.admin_key or "")
        if self.admin_key_file is not None:
            found += _words(self.admin_key_file.read_text(errors="replace"))
        if wrong := [key for key in found if KEY.fullmatch(key) is None]:
            detail = (
                "an admin key is bs_ID_SECRET with 10 and 43 letters and digits, as `bandit-server keys new` prints"
            )
            raise EmbeddedError(f"{detail}; {len(wrong)} of those given are not")
        return found

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, given: str | None) -> str | None:
        """Refused unless each is an origin as browsers send it."""
        if any(word != "*" and ORIGIN.fullmatch(word) is None for word in _words(given or "")):
            raise ValueError(
                "expected origins such as https://shop.example, separated by commas, or *; got another value"
            )
        return given

    @field_validator("trusted_proxies")
    @classmethod
    def _proxies(cls, given: str | None) -> str | None:
        """Refused unless each is an address or a network."""
        try:
            for word in _words(given or ""):
                ipaddress.ip_network(word)
        except ValueError:
            raise ValueError("expected addresses or networks such as 10.0.0.0/8, separated by commas") from None
        return given

    @field_validator("durability", "log_level", "log_format", "auth", mode="before")
    @classmethod
    def _in_any_case(cls, given: Any) -> Any:
        """A word, however it is written: INFO is info."""
        return given.strip().lower() if isinstance(given, str) else given

    @model_validator(mode="before")
    @classmethod
    def _one_place_for_the_data(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The settings given, without those given as None; refused if they name two places for the data."""
        given = {name: value for name, value in given.items() if value is not None and value != ""}
        given = {name: value for name, value in given.items() if not (LINKED.search(name) and _is_link(value))}
        if "redis_url" in given and "data_dir" in given:
            raise ValueError("expected redis_url or data_dir, got both: a store of its own, or one that we start there")
        return given


def _words(text: str) -> list[str]:
    return text.replace(",", " ").split()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# what a value should have been, by the type of pydantic's error
_EXPECTED = {
    "greater_than_equal": "a number of at least {ge:.15g}",
    "greater_than": "a number above {gt:.15g}",
    "less_than_equal": "a number of at most {le:.15g}",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "literal_error": "{expected}",
}


def expected_by(error: Any) -> str | None:
    """What one of pydantic's errors expected, in our words; None of an error that has words of its own."""
    words = _EXPECTED.get(error["type"])
    return words and words.format(**error.get("ctx", {}))


def _is_link(value: Any) -> bool:
    return isinstance(value, str) and LINK.match(value) is not None


def port_is_linked() -> bool:
    """Whether BANDIT_PORT is no setting of ours: Kubernetes sets it to tcp://... beside a service called `bandit`."""
    return any(name.upper() == "BANDIT_PORT" and _is_link(value) for name, value in os.environ.items())


def overridden(options: dict[str, Any]) -> Settings:
    """Settings with the options of a command line on top; an option not given is None.

    An option for one place of the data hides the environment's other place, as any option hides its variable.

    Raises:
        pydantic.ValidationError: if a value is out of its range, or both places were given as options.
    """
    given = {name: value for name, value in options.items() if value is not None}
    hidden = {"redis_url": "data_dir", "data_dir": "redis_url"}
    return Settings(**{hidden[name]: None for name in given if name in hidden} | given)


class Phase(IntEnum):
    """What all workers of a start do, as the one byte that they share says."""

    STARTING = 0
    READY = 1  # all of them have been ready
    DRAINING = 2  # the end was asked for: /readyz says so, and requests are served as before
    CLOSING = 3  # it is near: each answer closes its connection


class Handoff(BaseModel):
    """What the parent hands to a worker: its settings and the numbers of the descriptors that it inherits.

    listener  the listening socket, bound once for all workers
    life      read end of a pipe of its own that only the parent can write to: at its end the worker stops; a byte
              before that says that another one has taken its place
    status    write end of a pipe: `ready`, `failed WHY`, or `refused WHY` by a store, one line each
    flag      a file of one byte, the `Phase` of all workers
    slots     the file of what all workers have counted, and how many slots it has (`bandit.process.slots`)
    slot      the worker's own
    limits    a file in memory in which all workers count the requests of keys that have a limit
    replaced  the worker accepts connections only once it is ready: others serve meanwhile, or clients wait
    """

    # hidden here too: an error within the settings is told by the model around them
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, hide_input_in_errors=True)

    settings: Settings
    listener: int
    life: int
    status: int
    flag: int
    slots: tuple[int, int]
    slot: int = 0
    limits: int = -1
    replaced: bool = False


def machine_memory() -> int:
    """Bytes of memory that this machine, or the container that we run in, has."""
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            has = min(has, int(Path(limit).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return has
