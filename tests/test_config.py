"""What a client is told is checked when it is made."""

import copy
import math
import pickle
import traceback

import msgspec
import pytest
from yarl import URL

from asyncsfk import (
    Archive,
    Budget,
    Client,
    ClientStateError,
    Config,
    ConfigurationError,
    InvalidArgumentError,
    Retry,
    Timeout,
)
from asyncsfk.simulator import Simulator
from tests.support import KEY, failure, raw_server

NOT_POSITIVE = [0, -1, -0.5, math.nan, math.inf, -math.inf, True, False]
SETTINGS = [
    *("base_url", "concurrency", "rate", "max_credits", "timeout", "retry", "session"),
    *("max_body_bytes", "trust_env", "proxy", "user_agent", "on_event", "allow_insecure_http"),
]
NOT_COUNTS = [2**63, -1, 1.5, 2.0, "1", None, True, math.nan]


def test_the_defaults():
    """Without options, a client has the documented defaults."""
    config = Client().config
    assert config == Config()
    assert config.base_url == "https://api.socialfetch.dev"
    assert config.api_key is None
    assert (config.concurrency, config.rate, config.burst) == (100, None, None)
    assert (config.trust_env, config.proxy, config.allow_insecure_http) == (False, None, False)
    assert config.timeout == Timeout(total=120, connect=10, read=60)
    retry = config.retry
    assert (retry.attempts, retry.server_errors, retry.lost) == (5, 2, 1)
    assert retry.max_retry_after == 120
    assert config.max_body_bytes == 16 * 1024 * 1024


@pytest.mark.parametrize("name", ["total", "connect", "read"])
@pytest.mark.parametrize("value", NOT_POSITIVE)
def test_timeouts_are_positive(name, value):
    """A timeout that is not a positive number of seconds is refused, and named."""
    with pytest.raises(ConfigurationError, match=name):
        Timeout(**{name: value})


@pytest.mark.parametrize("name", ["attempts", "server_errors", "lost", "quota"])
@pytest.mark.parametrize("value", NOT_COUNTS)
def test_retry_counts_are_whole(name, value):
    """A number of retries that is not a whole number is refused, and named."""
    with pytest.raises(ConfigurationError, match=name):
        Retry(**{name: value})


def test_retry_has_at_least_one_attempt():
    """A policy of no attempts at all is refused; one of no retries is fine."""
    with pytest.raises(ConfigurationError, match="attempts"):
        Retry(attempts=0)
    none = Retry.none()
    assert (none.attempts, none.server_errors, none.lost) == (1, 0, 0)


@pytest.mark.parametrize("name", ["backoff", "max_backoff", "max_retry_after"])
@pytest.mark.parametrize("value", NOT_POSITIVE)
def test_retry_waits_are_positive(name, value):
    """A wait that is not a positive number of seconds is refused, and named."""
    with pytest.raises(ConfigurationError, match=name):
        Retry(**{name: value})


REFUSED = {
    "concurrency": [0, *NOT_COUNTS],
    "max_body_bytes": [0, *NOT_COUNTS],
    "rate": NOT_POSITIVE,
    "user_agent": ["", " ", "a\nb", "a\r\nX: y", "caf\u00e9", "\0", "a "],
    "proxy": [
        *("", "proxy:3128", "socks5://proxy", "file:///x", "http://", "http://[::1", "http://h\n"),
        *("http://h:99999", "http://h:x", "http://user:word@"),
    ],
    "base_url": [
        "api.socialfetch.dev",
        "//api.socialfetch.dev",
        "ftp://api.socialfetch.dev",
        "https://",
        "https:///v1",
        "https://api.socialfetch.dev/v1",
        "https://api.socialfetch.dev/v1/",
        "https://api.socialfetch.dev/?x=1",
        "https://api.socialfetch.dev#x",
        "https://api.socialfetch.dev?",
        "https://user@api.socialfetch.dev",
        "https://api.socialfetch.dev:99999",
        "https://api.socialfetch.dev:x",
        "https://api .socialfetch.dev",
        "https://api.socialfetch.dev/\n",
        "https://\u00e4pi.socialfetch.dev",
        "https://[::1",
        "https://[::1]x",
        "https://h\\x",
        "javascript:alert(1)",
    ],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values]
)
def test_an_unusable_setting_is_refused(name, value):
    """Every setting that cannot work is refused when the client is made, and named."""
    with pytest.raises(ConfigurationError, match=name):
        Client(KEY, **{name: value})


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("timeout", lambda: Client(KEY, timeout="5")),
        ("timeout", lambda: Client(KEY, timeout=True)),
        ("timeout", lambda: Client(KEY, timeout=0)),
        ("timeout", lambda: Client(KEY, timeout=None)),
        ("retry", lambda: Client(KEY, retry=3)),
        ("retry", lambda: Client(KEY, retry=None)),
        ("rate", lambda: Client(KEY, rate="5")),
        ("burst", lambda: Client(KEY, rate=5, burst="5")),
        ("base_url", lambda: Client(KEY, base_url=5)),
        ("proxy", lambda: Client(KEY, proxy=5)),
        ("user_agent", lambda: Client(KEY, user_agent=b"x")),
        ("total", lambda: Timeout(total=None)),
        ("total", lambda: Timeout(total="5")),
        ("grace", lambda: Timeout(grace=-1)),
        ("grace", lambda: Timeout(grace=math.nan)),
        ("grace", lambda: Timeout(grace=False)),
        ("backoff", lambda: Retry(backoff=None)),
        ("backoff", lambda: Retry(backoff="5")),
        ("rate", lambda: Client(KEY, rate=10**400)),
        ("total", lambda: Timeout(total=10**400)),
        ("config", lambda: Client.from_config(None)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_of_a_wrong_type_is_refused(name, make):
    """A setting of a type that cannot work is refused at once and by name, like any other."""
    with pytest.raises(ConfigurationError, match=name):
        make()


async def test_what_a_client_is_told_is_a_setting_and_all_else_an_argument(tmp_path):
    """The error's class tells who can mend a mistake: the one who sets up, or who calls."""
    wrong = {"max_credits": 0, "concurrency": 0}
    for name, value in wrong.items():
        with pytest.raises(ConfigurationError, match=name):
            Client(KEY, **{name: value})
    with pytest.raises(ConfigurationError, match="max_credits"):
        Client.from_config(Config(), max_credits=0)
    with pytest.raises(InvalidArgumentError, match="max_credits"):
        Budget(0)
    with pytest.raises(InvalidArgumentError, match="wait"):
        Archive(tmp_path / "job.sfk", wait=-1)
    async with Client(KEY) as client:
        for name, value in wrong.items():
            with pytest.raises(InvalidArgumentError, match=name):
                client.showcases(["x"], **{name: value})
            for call in (client.fetch_showcases, client.plan):
                await failure(call(["x"], **{name: value}), InvalidArgumentError)


class Unprintable:
    """Something whose repr raises."""

    def __repr__(self):
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("name", "make"),
    [
        *((name, lambda name=name: Client(KEY, **{name: Unprintable()})) for name in SETTINGS),
        ("rate", lambda: Client(KEY, rate=-(10**5_000))),
        ("max_credits", lambda: Client(KEY, max_credits=-(10**5_000))),
        ("max_credits", lambda: Client(KEY, max_credits=[0] * 10_000)),
        ("retry", lambda: Client(KEY, retry="a" * 10_000)),
        ("on_event", lambda: Client(KEY, on_event="a" * 10_000)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_setting_is_refused_for_is_shown_in_a_line(name, make):
    """A refusal names the setting, whatever was given for it, however long that would be."""
    with pytest.raises(ConfigurationError, match=name) as raised:
        make()
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("name", ["proxy", "base_url"])
@pytest.mark.parametrize("kind", [URL, str.encode], ids=["URL", "bytes"])
def test_a_url_of_a_wrong_type_is_not_shown(name, kind):
    """It can hold a password, whatever its type is; only the type is told."""
    with pytest.raises(ConfigurationError, match=f"{name} must be a string") as raised:
        Client(KEY, **{name: kind("http://user:hunter2@proxy:3128")})
    assert "hunter2" not in repr(raised.value)


@pytest.mark.parametrize("name", ["proxy", "base_url"])
@pytest.mark.parametrize(
    "url",
    ["https://user:hunter2@ex\u2100mple", "https://user:hunter2/@host", "https://user:hunter2@[x"],
)
def test_a_url_that_is_none_is_not_shown(name, url):
    """Nor Python's message, which quotes the password, or what it took for a port."""
    with pytest.raises(ConfigurationError, match=name) as raised:
        Client(KEY, **{name: url})
    error = raised.value
    assert "hunter2" not in repr((error, error.__cause__, error.__context__))


@pytest.mark.parametrize("end", "/?#")
def test_a_base_url_with_a_password_that_ends_its_host_is_not_shown(end):
    """Nor is it taken for a port and a path, which would send the key to a host named `user`."""
    with pytest.raises(ConfigurationError, match="base_url must not hold") as raised:
        Client(KEY, base_url=f"https://user:123{end}hunter2@host")
    assert "hunter2" not in repr(raised.value)


def test_an_async_callback_is_told_what_is_wrong_with_it():
    """A coroutine function would never be awaited: the refusal says so, not only that it is one."""

    async def on_event(event): ...

    with pytest.raises(ConfigurationError, match=r"on_event must be a plain function.*awaits.*on_"):
        Client(KEY, on_event=on_event)


def test_a_number_of_seconds_is_a_timeout():
    """It is the total for a request, as with other clients."""
    assert Client(KEY, timeout=300).config.timeout == Timeout(total=300, read=300)
    assert Client(KEY, timeout=0.5).config.timeout == Timeout(total=0.5, read=0.5)


async def test_a_client_that_is_opened_without_a_with():
    """`open` and `aclose` are what the `async with` does."""
    client = Client(KEY)
    await client.open()
    await failure(client.open(), ClientStateError)
    await client.aclose()
    await failure(client.whoami(), ClientStateError)


@pytest.mark.parametrize("burst", [0, 0.5, -1, math.nan, math.inf])
def test_a_burst_is_at_least_one(burst):
    """A burst that would let nothing out is refused."""
    with pytest.raises(ConfigurationError, match="burst"):
        Client(KEY, rate=10, burst=burst)


def test_a_burst_needs_a_rate():
    """A burst without a rate would do nothing, which the caller cannot mean."""
    with pytest.raises(ConfigurationError, match="rate"):
        Client(KEY, burst=10)


@pytest.mark.parametrize(
    "options",
    [
        {"concurrency": 1},
        {"concurrency": 100_000},
        {"rate": 0.1},
        {"rate": 10, "burst": 1},
        {"rate": 10, "burst": 2.5},
        {"max_body_bytes": 1},
        {"user_agent": "my app/1.0 (x)"},
        {"proxy": "http://user:pass@proxy.example:3128"},
        {
            "proxy": "http://proxy.example",
            "base_url": "http://gateway.example",
            "allow_insecure_http": True,
        },
        {"base_url": "https://gateway.example/socialfetch"},
        {"base_url": "https://api.socialfetch.dev:8443"},
        {"timeout": Timeout(total=0.1, connect=1, read=2)},
        {"retry": Retry(attempts=1, lost=0, server_errors=0, quota=0)},
        {"trust_env": True},
    ],
)
def test_a_usable_setting_is_kept(options):
    """Settings that work are what the config says; it pickles to the same."""
    config = Client(**options).config
    for name, value in options.items():
        assert getattr(config, name) == value
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301 - our own
    assert hash(config.timeout) == hash(pickle.loads(pickle.dumps(config.timeout)))  # noqa: S301


def test_a_slash_at_the_end_is_no_matter():
    """The origin may be given with a slash at its end."""
    assert Client(base_url="https://api.example/").config.base_url == "https://api.example"


def test_key_and_origin_come_from_the_environment(monkeypatch):
    """The environment fills in what is not given, and yields to what is."""
    monkeypatch.setenv("SOCIALFETCH_API_KEY", "sfk_env")
    monkeypatch.setenv("SOCIALFETCH_BASE_URL", "https://env.example/")
    assert Client().config == Client("sfk_env", base_url="https://env.example").config
    given = Client("sfk_given", base_url="https://given.example").config
    assert given.base_url == "https://given.example"
    assert given.api_key == Client("sfk_given").config.api_key
    monkeypatch.setenv("SOCIALFETCH_API_KEY", "")
    monkeypatch.setenv("SOCIALFETCH_BASE_URL", "")
    assert Client().config == Config()


async def test_a_config_of_ones_own_has_key_and_origin_of_the_environment(monkeypatch):
    """As with a client: a program that makes a config can be aimed at a simulator too."""
    async with Simulator() as sim:
        monkeypatch.setenv("SOCIALFETCH_API_KEY", sim.api_key)
        monkeypatch.setenv("SOCIALFETCH_BASE_URL", f"{sim.url}/")
        assert Config() == Client().config
        assert Config(api_key=None).api_key is None
        async with Client.from_config(Config(concurrency=3)) as client:
            assert (await client.whoami()).user.id


@pytest.mark.parametrize("url", ["", 0, False])
def test_an_origin_that_is_nothing_is_not_the_public_one(url):
    """An empty variable must not lead to the public API, where requests cost."""
    with pytest.raises(ConfigurationError, match="base_url"):
        Client(KEY, base_url=url)


@pytest.mark.parametrize("value", [Config(), Timeout(), Retry()])
def test_settings_are_frozen(value):
    """Nothing that a client was told changes under it."""
    for name in value.__struct_fields__:
        with pytest.raises(AttributeError):
            setattr(value, name, 1)


def test_a_changed_config_is_checked_again():
    """A copy with a change is held to the same rules."""
    with pytest.raises(ConfigurationError):
        Config(concurrency=0)
    with pytest.raises(ConfigurationError):
        msgspec.structs.replace(Config(), rate=-1)


async def test_the_environment_is_read_once(monkeypatch):
    """A client made before the environment changed keeps its key."""
    async with Simulator() as sim:
        monkeypatch.setenv("SOCIALFETCH_API_KEY", sim.api_key)
        monkeypatch.setenv("SOCIALFETCH_BASE_URL", sim.url)
        client = Client()
        monkeypatch.setenv("SOCIALFETCH_API_KEY", "sfk_other")
        async with client:
            assert (await client.whoami()).user.id


def test_a_client_that_could_not_be_made_can_be_shown():
    """Debuggers and error trackers show variables: a client refused half-way has a repr, too."""
    with pytest.raises(ConfigurationError) as caught:
        Client(KEY, concurrency=0)
    frames = []
    trace = caught.value.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    (half_made,) = {
        frame.f_locals["self"]
        for frame in frames
        if "self" in frame.f_locals and isinstance(frame.f_locals["self"], Client)
    }
    assert "Client" in repr(half_made)


async def test_a_run_without_a_key_is_refused_at_once():
    """A missing key is one error, not a failed outcome for each of a million creators."""
    async with raw_server(b"") as server, Client(base_url=server.url) as client:
        with pytest.raises(ConfigurationError, match="SOCIALFETCH_API_KEY"):
            client.showcases(["a", "b"])
        with pytest.raises(ConfigurationError, match="SOCIALFETCH_API_KEY") as caught:
            await client.showcase_page("a")
        assert caught.value.route.endswith("/showcase-products")
        assert server.hits == 0


@pytest.mark.parametrize("given", [KEY.encode(), [KEY]], ids=["bytes", "list"])
def test_a_key_that_is_no_string_is_refused_by_its_type(given):
    """The error names the type, as of a secret whose text must be asked for, and not the key."""
    with pytest.raises(ConfigurationError, match=f"not of type {type(given).__name__}") as caught:
        Client(given)
    assert KEY not in str(caught.value)


def test_a_config_takes_no_key_that_can_be_seen():
    """A key in a plain string would be in the config's repr, and in its pickle."""
    with pytest.raises(ConfigurationError, match="give it to a Client") as caught:
        Config(api_key=KEY)
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    ours = [frame for frame in told.stack if frame.filename != __file__]
    assert ours
    assert KEY not in repr([frame.locals for frame in ours])


def test_a_config_makes_a_client_again(monkeypatch):
    """A client's config, pickled or not, makes another client that is told the same."""
    client = Client(KEY, base_url="http://127.0.0.1:9", concurrency=7, retry=Retry.none())
    assert Client.from_config(client.config).config == client.config
    assert Client.from_config(copy.deepcopy(client.config)).config == client.config
    pickled = pickle.dumps(client.config)
    assert Client.from_config(pickle.loads(pickled)).config.api_key is None  # noqa: S301
    monkeypatch.setenv("SOCIALFETCH_API_KEY", KEY)
    assert Client.from_config(pickle.loads(pickled)).config == client.config  # noqa: S301
    # With a config given, the environment is not asked.
    monkeypatch.setenv("SOCIALFETCH_API_KEY", "no key\n")
    assert Client.from_config(client.config).config == client.config
