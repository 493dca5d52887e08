"""What `asyncsfk` exports, and that asking for it late is all it costs."""

import importlib
import inspect
import pickle
import pkgutil
import subprocess
import sys
import typing
from unittest import mock

import pytest
from msgspec import Struct

import asyncsfk
from asyncsfk import Client, Config, Listing, Progress, Retry, ShowcaseRun, Timeout

#: The public modules: every name in their `__all__` is exported from the top.
PUBLIC = [
    *("archive", "budget", "client", "config", "errors", "events", "handles", "models"),
    *("outcomes", "plan", "records", "usage"),
]


def run(program):
    """Run a program in a fresh Python; give what it printed."""
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_all_is_sorted_and_without_doubles():
    """The list of exports is in order."""
    assert list(asyncsfk.__all__) == sorted(set(asyncsfk.__all__))
    assert {"Client", "Outcome", "Product", "Retry", "SfkError", "Timeout"} <= {*asyncsfk.__all__}


def test_every_export_is_there():
    """Every exported name can be asked for, again with the same answer."""
    for name in asyncsfk.__all__:
        assert getattr(asyncsfk, name) is getattr(asyncsfk, name)


def test_all_json_is_in_one_case():
    """Reports are camelCase in JSON, the API's and ours alike; settings keep their names."""
    exports = {getattr(asyncsfk, name) for name in asyncsfk.__all__} - {Config, Retry, Timeout}
    structs = [each for each in exports if isinstance(each, type) and issubclass(each, Struct)]
    assert Progress in structs
    for each in structs:
        assert not [name for name in each.__struct_encode_fields__ if "_" in name], each


def test_an_unknown_name_is_an_attribute_error():
    """A name that is not there is refused as by any module."""
    with pytest.raises(AttributeError, match="Nonsense"):
        asyncsfk.Nonsense  # noqa: B018 - asking is the point


def test_dir_covers_all():
    """`dir()` names every export, loaded yet or not."""
    program = "import asyncsfk; print(sorted(set(asyncsfk.__all__) - set(dir(asyncsfk))))"
    assert run(program) == "[]"


def test_star_import_binds_all():
    """`from asyncsfk import *` binds every export."""
    program = "from asyncsfk import *; import asyncsfk; print(set(asyncsfk.__all__) - set(dir()))"
    assert run(program) == "set()"


@pytest.mark.parametrize("unit", PUBLIC)
def test_public_names_are_exported(unit):
    """Whatever is public in a public module is exported from the top, as the same object."""
    module = importlib.import_module(f"asyncsfk.{unit}")
    assert module.__all__
    for name in module.__all__:
        assert name in asyncsfk.__all__
        assert getattr(asyncsfk, name) is getattr(module, name)


def test_every_module_that_is_no_private_one_is_public():
    """Only these modules, the simulator and the command line have names without underscores."""
    found = {module.name for module in pkgutil.iter_modules(asyncsfk.__path__)}
    others = {"cli", "simulator"}
    assert {name for name in found if not name.startswith("_")} - others == {*PUBLIC}


def test_dir_tells_of_nothing_else():
    """Completing `asyncsfk.` gives the exports, and what every module has."""
    found = {name for name in dir(asyncsfk) if not name.startswith("__")}
    assert found == {name for name in asyncsfk.__all__ if not name.startswith("__")}


def test_classes_and_functions_show_a_public_home():
    """Users see no private module in reprs, and classes pickle from where they say they live."""
    for name in asyncsfk.__all__:
        value = getattr(asyncsfk, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__module__.split(".")[0] == "asyncsfk", name
            assert "._" not in value.__module__, f"{value.__module__}.{name}"
            assert pickle.loads(pickle.dumps(value)) is value  # noqa: S301 - our own


def test_what_a_constructor_takes_can_be_read_at_run_time():
    """Frameworks that build objects from annotations must be able to resolve ours."""
    exports = {getattr(asyncsfk, name) for name in asyncsfk.__all__} - {Listing, ShowcaseRun}
    makers = [each.__init__ for each in exports if inspect.isclass(each)]
    makers = [make for make in makers if inspect.isfunction(make)]
    assert Client.__init__ in makers
    for make in (*makers, Client.from_config):
        typing.get_type_hints(make)


@pytest.mark.parametrize("state", ["not opened", "closed"])
async def test_a_client_can_be_looked_at_whatever_its_state(state):
    """Tools that mock an object, or show all of it, ask for every attribute."""
    client = Client("sfk_somebody")
    if state == "closed":
        await client.aclose()
    assert state in repr(client)
    assert dict(inspect.getmembers(client)).keys() >= {"showcase_page", "usage"}
    double = mock.create_autospec(client, instance=True)
    double.showcase_page.return_value = "a page"
    assert await double.showcase_page("mrbeast") == "a page"


def test_importing_alone_loads_no_http_client():
    """`import asyncsfk` loads neither aiohttp nor the command line's libraries."""
    program = "import asyncsfk, sys; print({'aiohttp', 'click', 'rich'} & set(sys.modules))"
    assert run(program) == "set()"


def test_a_client_does_without_the_archive():
    """SQLite and all that is for archives is loaded when an archive is asked for, not before."""
    program = """
import sys
import asyncsfk
asyncsfk.Client
before = "asyncsfk.archive" in sys.modules
asyncsfk.Archive
print(before, "asyncsfk.archive" in sys.modules)
"""
    assert run(program) == "False True"
