"""What `asyncsfk` exports, and that asking for it late is all it costs."""

import ast
import importlib
import inspect
import pickle
import subprocess
import sys

import pytest

import asyncsfk

#: Modules whose every public name is exported from the top.
PUBLIC = ["errors", "events", "models", "outcomes", "usage"]

#: Public in their module for other modules of ours only.
OURS = {
    "errors.is_account_wide": "what the account says to every further request",
    "errors.stops_a_run": "what keeps a run from buying more",
    "events.Emitter": "tells on_event, and survives it",
    "events.log_event": "the default of on_event",
    "events.logger": "what log_event writes to",
    "usage.Meter": "a client's running total",
}


def public_names(unit):
    """Give a module's `__all__`, or else the public names that its source binds at its top."""
    module = importlib.import_module(f"asyncsfk.{unit}")
    if hasattr(module, "__all__"):
        return {*module.__all__}
    bound = set()
    for node in ast.parse(inspect.getsource(module)).body:
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                bound.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                bound.add(name)
    return {name for name in bound if not name.startswith("_")}


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
    names = public_names(unit)
    assert names
    ours = {name for name in names if f"{unit}.{name}" in OURS}
    assert names - ours - {*asyncsfk.__all__} == set()
    module = importlib.import_module(f"asyncsfk.{unit}")
    for name in names - ours:
        assert getattr(asyncsfk, name) is getattr(module, name)


def test_the_exceptions_to_the_rule_are_current():
    """Each name excepted above exists and is not exported."""
    for path in OURS:
        unit, name = path.split(".")
        assert name in public_names(unit)
        assert name not in asyncsfk.__all__


def test_classes_and_functions_show_a_public_home():
    """Users see no private module in reprs, and classes pickle from where they say they live."""
    for name in asyncsfk.__all__:
        value = getattr(asyncsfk, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__module__.split(".")[0] == "asyncsfk", name
            assert "._" not in value.__module__, f"{value.__module__}.{name}"
            assert pickle.loads(pickle.dumps(value)) is value  # noqa: S301 - our own


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
