"""How a client behaves: one frozen value, checked once."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from contextlib import suppress
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

import msgspec

from asyncsfk._checks import check_count, check_flag, check_seconds
from asyncsfk._text import described
from asyncsfk.errors import ConfigurationError

__all__ = ["Config", "Retry", "Timeout"]

DEFAULT_BASE_URL = "https://api.socialfetch.dev"
"""The API's public origin."""

KEY_VARIABLE = "SOCIALFETCH_API_KEY"
URL_VARIABLE = "SOCIALFETCH_BASE_URL"

DEFAULT_CONCURRENCY = 100
DEFAULT_MAX_BODY_BYTES = 16 * 1024 * 1024

_HEADER_VALUE = re.compile(r"[!-~]+(?: [!-~]+)*")
_KEY = re.compile(r"[!-~]+")
_HOST = re.compile(r"(?:\[[^\[\]]+\]|[\w.~-]+)(?::\d+)?")


def check_positive(name: str, value: object) -> None:
    """Refuse what is not a finite number above 0.

    Raises:
        ConfigurationError: It is not.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigurationError(f"{name} must be a number, not {described(value)}")
    if not 0 < value <= sys.float_info.max:
        raise ConfigurationError(f"{name} must be a positive number, not {described(value)}")


def _check_count(name: str, value: object, *, least: int) -> None:
    check_count(name, value, least=least, error=ConfigurationError)


def _check_string(name: str, value: object) -> None:
    if not isinstance(value, str):
        # Not shown: it may be a URL of some other type, with a password in it.
        raise ConfigurationError(f"{name} must be a string, not of type {type(value).__name__}")


def check_type(name: str, value: object, kind: type) -> None:
    """Refuse what is of another type.

    Raises:
        ConfigurationError: It is.
    """
    if not isinstance(value, kind):
        raise ConfigurationError(f"{name} must be of type {kind.__name__}, not {described(value)}")


class Timeout(msgspec.Struct, frozen=True, kw_only=True):
    """How long a request may take, in seconds.

    A request that is given up after it was sent may have been charged, so these are generous.
    Waiting for the client's own limits (width, rate, pauses, retries) does not count.

    Attributes:
        total: From the start of the connection to the end of the body.
        connect: For the connection alone; giving up there is free. With a borrowed session it
            covers neither the look-up of the host nor the time that a proxy takes to answer.
        read: The longest silence, before the answer's head and between two pieces of its body;
            noticed up to an eighth later.
        grace: With an archive: how long requests that were sent may take to land in it after
            everybody who asked for them has left; 0 for no time at all.

    Raises:
        ConfigurationError: A number is unusable.
    """

    total: float = 120.0
    connect: float = 10.0
    read: float = 60.0
    grace: float = 5.0

    def __post_init__(self) -> None:
        for name in ("total", "connect", "read"):
            check_positive(f"Timeout.{name}", getattr(self, name))
        check_seconds("Timeout.grace", self.grace, error=ConfigurationError)


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """Which failures are tried again, and how soon.

    Refusals (400, 401, 402, 403, 404) and answers that cannot be decoded are never tried again.
    Waits have full jitter: up to ``backoff``, then twice as much each time. The whole client pauses
    when it is refused (429, 503), cannot connect, or has had 20 failures in a row that were or may
    have been charged.

    Attributes:
        attempts: The most requests for one call, the first included. Failures that are free
            (no connection, 429, 503) are tried again up to this.
        server_errors: How often at most a call is tried again after 500, 502 and the like, each
            of which may have been charged.
        lost: How often at most a call is tried again when its answer was lost (timeout, broken
            connection), each of which may have been charged. 0 never pays for an answer again
            that was lost.
        backoff: The longest first wait, in seconds; doubles with each attempt.
        max_backoff: The longest wait, in seconds, on top of what the API asks for; also the longest
            pause of the whole client that it did not ask for, which is never over 30.
        max_retry_after: Longest ``Retry-After``, in seconds, that is waited for. A longer one
            ends the call with the time in the error's ``retry_after``.
        quota: Retries of failures that may have been charged which the whole client can make in a
            row without success. Each success earns half a retry back.
        outage: Seconds without any connection after which all calls end with an
            `UnreachableError`, which stops runs. A single call ends sooner, after its attempts.

    Raises:
        ConfigurationError: A number is unusable.
    """

    attempts: int = 5
    server_errors: int = 2
    lost: int = 1
    backoff: float = 0.5
    max_backoff: float = 30.0
    max_retry_after: float = 120.0
    quota: int = 500
    outage: float = 300.0

    def __post_init__(self) -> None:
        _check_count("Retry.attempts", self.attempts, least=1)
        for name in ("server_errors", "lost", "quota"):
            _check_count(f"Retry.{name}", getattr(self, name), least=0)
        for name in ("backoff", "max_backoff", "max_retry_after", "outage"):
            check_positive(f"Retry.{name}", getattr(self, name))

    @classmethod
    def none(cls) -> Self:
        """Return a policy that never tries anything again."""
        return cls(attempts=1, server_errors=0, lost=0, quota=0)


def _is_key(value: object) -> bool:
    return value is None or isinstance(value, ApiKey)


class _HeaderValue(str):
    """A header's value that does not show itself in a traceback's variables."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class ApiKey:
    """An API key that keeps itself to itself: no repr, str, pickle or copy shows it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = _HeaderValue(value)

    @classmethod
    def parse(cls, value: object) -> ApiKey | ConfigurationError:
        """Return the key, or the error that refuses it.

        The error is returned, so that the caller can first drop the value from its variables: a
        traceback may show them.
        """
        if not isinstance(value, str):
            # As settings have secrets, for example, whose texts must be asked for.
            return ConfigurationError(
                f"the API key must be a string, not of type {type(value).__name__}"
            )
        if _KEY.fullmatch(value):
            return cls(value)
        return ConfigurationError(
            "the API key cannot be sent as a header: it must be one or more visible ASCII "
            "characters without spaces or line ends"
        )

    def header_value(self) -> str:
        """Return the key itself, to be sent to its origin."""
        return self._value

    def redact(self, text: str) -> str:
        """Return a text of the API's with the key struck out; the same text if it is not there."""
        return text.replace(self._value, "***") if self._value in text else text

    def redact_bytes(self, data: bytes) -> bytes:
        """Return bytes of the API's with the key struck out; the same bytes if it is not there."""
        value = self._value.encode()
        # From the end: CPython takes less than half the time to find that a body lacks it.
        return data if data.rfind(value) < 0 else data.replace(value, b"***")

    def __repr__(self) -> str:
        return "ApiKey(***)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKey) and str.__eq__(self._value, other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Where it is unpickled, the key is taken from the environment.
        return key_from_environment, ()


def key_from_environment() -> ApiKey | None:
    """Return the key in ``SOCIALFETCH_API_KEY``, if there is one.

    Raises:
        ConfigurationError: It cannot be sent as a header.
    """
    key = ApiKey.parse(os.environ[KEY_VARIABLE]) if os.environ.get(KEY_VARIABLE) else None
    if isinstance(key, ConfigurationError):
        raise key
    return key


def url_from_environment() -> str:
    """Return the origin in ``SOCIALFETCH_BASE_URL``, or else that of the public API."""
    return os.environ.get(URL_VARIABLE) or DEFAULT_BASE_URL


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """All settings of a client; see `asyncsfk.Client` for what each means.

    As there, key and origin are those of the environment unless they are given. Pickles without
    the key, which is read from the environment where it is unpickled.

    Raises:
        ConfigurationError: A setting is unusable.
    """

    base_url: str = msgspec.field(default_factory=url_from_environment)
    api_key: ApiKey | None = msgspec.field(default_factory=key_from_environment)
    concurrency: int = DEFAULT_CONCURRENCY
    rate: float | None = None
    burst: float | None = None
    timeout: Timeout = Timeout()
    retry: Retry = Retry()
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES
    trust_env: bool = False
    proxy: str | None = None
    user_agent: str | None = None
    allow_insecure_http: bool = False

    def __post_init__(self) -> None:
        if not _is_key(self.api_key):
            # It is probably the key itself, and a traceback may show this object.
            msgspec.structs.force_setattr(self, "api_key", None)
            raise ConfigurationError(
                "a Config takes no key that could be seen: give it to a Client"
            )
        _check_count("concurrency", self.concurrency, least=1)
        if self.rate is not None:
            check_positive("rate", self.rate)
        if self.burst is not None:
            if self.rate is None:
                raise ConfigurationError("burst means nothing without rate")
            check_positive("burst", self.burst)
            if self.burst < 1:
                raise ConfigurationError(f"burst must be 1 or more, not {self.burst!r}")
        _check_count("max_body_bytes", self.max_body_bytes, least=1)
        check_type("timeout", self.timeout, Timeout)
        check_type("retry", self.retry, Retry)
        for name in ("trust_env", "allow_insecure_http"):
            check_flag(name, getattr(self, name), error=ConfigurationError)
        if self.user_agent is not None:
            _check_string("user_agent", self.user_agent)
            if not _HEADER_VALUE.fullmatch(self.user_agent):
                raise ConfigurationError(
                    f"user_agent cannot be sent as a header: {self.user_agent!r}"
                )
        _check_string("base_url", self.base_url)
        msgspec.structs.force_setattr(self, "base_url", self.base_url.rstrip("/"))
        _check_base_url(self.base_url, allow_insecure_http=self.allow_insecure_http)
        if self.proxy is not None:
            _check_string("proxy", self.proxy)
            self._check_proxy(self.proxy)

    def _check_proxy(self, proxy: str) -> None:
        if not _is_proxy(proxy):
            # Not shown: it can hold a password.
            raise ConfigurationError("proxy must be an http:// or https:// URL with a host")
        # An https origin is reached through a tunnel; a plain one would show the proxy the key.
        if not self.is_encrypted and not self.allow_insecure_http:
            raise ConfigurationError(
                "a proxy would see the key on its way to an http:// base_url; insist with "
                "allow_insecure_http=True"
            )

    @property
    def is_encrypted(self) -> bool:
        """Whether what is sent to the origin is encrypted."""
        return urlsplit(self.base_url).scheme == "https"

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # A proxy's URL can hold a password.
        proxy = "***" if self.proxy else None
        return list((msgspec.structs.asdict(self) | {"proxy": proxy}).items())


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL, if it is one."""
    with suppress(ValueError):
        parts = urlsplit(url)
        _ = parts.port
        return parts
    return None


def _is_proxy(url: str) -> bool:
    if (parts := _split(url)) is None:
        return False
    host = parts.netloc.rpartition("@")[2]
    return bool(parts.scheme in {"http", "https"} and _HOST.fullmatch(host) and url.isprintable())


def _check_base_url(url: str, *, allow_insecure_http: bool) -> None:
    if (parts := _split(url)) is None:
        # Not shown, nor what Python says of it: it can hold a password.
        raise ConfigurationError("base_url is not a URL: its host or port is invalid")
    if "@" in url:
        # Wherever it is: one of / ? # in a password ends the host for whoever parses it.
        raise ConfigurationError("base_url must not hold a user or password")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        # Not shown: it could be the key, in the wrong place.
        raise ConfigurationError("base_url must be an http:// or https:// URL with a host")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigurationError(f"base_url must be plain ASCII: {url!r}")
    if not _HOST.fullmatch(parts.netloc):
        raise ConfigurationError(f"base_url has no proper host: {url!r}")
    if "?" in url or "#" in url:
        raise ConfigurationError(f"base_url must have no query and no fragment: {url!r}")
    if parts.path.endswith("/v1"):
        # /v1 would be in each path twice, and every request a 404.
        raise ConfigurationError(f"base_url must end before the /v1 of the API's paths: {url!r}")
    if parts.scheme == "http" and not allow_insecure_http and not is_loopback(parts.hostname):
        raise ConfigurationError(
            f"base_url {url!r} would send the key unencrypted; use https://, or insist with "
            "allow_insecure_http=True"
        )


def is_loopback(host: str) -> bool:
    """Tell whether a host, in lower case, is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
