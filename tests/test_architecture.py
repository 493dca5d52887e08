"""Which module may import what, held against the source."""

import ast
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import asyncsfk

PACKAGE = Path(asyncsfk.__file__).parent

#: Our modules and packages from the bottom up: each imports only those before it.
LAYERS = [
    "_version",
    "_text",
    "usage",
    "errors",
    "_checks",
    "budget",
    "models",
    "outcomes",
    "plan",
    "events",
    "handles",
    "config",
    "_retry",
    "_packing",
    "_messages",
    "_wire",
    "_routes",
    "_reading",
    "_shield",
    "_store",
    "_page_cache",
    "_result",
    "_terms",
    "_turn_limiter",
    "_outage",
    "_gate",
    "_flight",
    "_watchdog",
    "_exchange",
    "_session",
    "_pool",
    "_transport",
    "_attempt",
    "_call",
    "_paging",
    "_replay",
    "records",
    "_origin",
    "_opening",
    "archive",
    "_showcase_cache",
    "_listing",
    "_api",
    "_single_calls",
    "_fanout",
    "_seen",
    "_options",
    "_forecast",
    "_resources",
    "_creator",
    "_run",
    "_bulk_calls",
    "client",
    "_public",
    "__init__",
    "simulator",
    "cli",
    "__main__",
]
#: Those that import nothing of ours but themselves, wherever they stand.
APART = {"simulator"}

#: The client has a session in its signature, which is read at run time.
AIOHTTP = {"_exchange", "_pool", "_session", "_transport", "client", "simulator"}
BASE = {"aiohttp", "aiolimiter", "anyio", "msgspec"}
FOREIGN = {  # others: BASE
    # aiohttp's own types of URLs and headers, in its signatures.
    **dict.fromkeys(AIOHTTP - {"client"}, BASE | {"multidict", "yarl"}),
    "_packing": BASE | {"isal"},
    "cli": BASE | {"click", "rich", "uvloop"},
}
MAX_LINES = 400

#: Features of SQLite that are newer than its version 3.26, and that might tempt us.
NEWER_SQL = re.compile(
    r"\bFILTER \(|ON CONFLICT DO UPDATE|\bRETURNING\b|\bDROP COLUMN\b|\biif\(|\bNULLS FIRST\b|"
    r"\bNULLS LAST\b|\bMATERIALIZED\b|\b(RIGHT|FULL) JOIN\b|\bIS NOT DISTINCT\b|\) STRICT\b"
)


@dataclass(frozen=True)
class Import:
    """A name that a module imports, from which line, and whether only for type checkers."""

    name: str
    line: int
    typing_only: bool


def imports_of(path, package):
    """Give every import of a source file, relative ones made absolute."""
    module = [package.name, *path.relative_to(package).with_suffix("").parts]
    tree = ast.parse(path.read_text("utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test).endswith("TYPE_CHECKING")
        for statement in block.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = [*module[: -node.level]] if node.level else []
            origin = ".".join([*parts, *([node.module] if node.module else [])])
            names = [f"{origin}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            yield Import(name, node.lineno, id(node) in typing_only)


def unit_of(path, package):
    """Give the entry of LAYERS that a source file belongs to."""
    return path.relative_to(package).parts[0].removesuffix(".py")


def breaches(package):
    """Give a line for each rule that a module of the package breaks."""
    units = {unit_of(path, package) for path in sources(package)}
    for path in sources(package):
        unit = unit_of(path, package)
        if unit not in LAYERS:
            yield f"{unit} is not in LAYERS"
            continue
        for found in imports_of(path, package):
            top, *rest = found.name.split(".")
            if top == package.name:
                target = rest[0] if rest and rest[0] in units else "__init__"
                breach = breach_inside(unit, target)
            else:
                breach = breach_outside(unit, top, typing_only=found.typing_only)
            if breach:
                yield f"{path.relative_to(package)}:{found.line}: {breach}"


def breach_inside(unit, target):
    if target == unit:
        return None
    if unit in APART:
        return f"{unit} stands apart and imports {target}"
    if target not in LAYERS or LAYERS.index(target) > LAYERS.index(unit):
        return f"{unit} imports {target}, which is above it"
    return None


def breach_outside(unit, top, *, typing_only):
    if top in sys.stdlib_module_names:
        return None
    if top not in FOREIGN.get(unit, BASE):
        return f"{unit} imports {top}, no dependency of its"
    if top == "aiohttp" and unit not in AIOHTTP and not typing_only:
        return f"{unit} imports aiohttp"
    return None


def sources(package):
    return sorted(package.rglob("*.py"))


def test_modules_import_only_from_below():
    """Modules import what stands below them, their dependencies and the standard library."""
    assert sources(PACKAGE)
    assert list(breaches(PACKAGE)) == []


def test_the_table_is_current():
    """Every name of the table is a module or package of ours."""
    assert {*LAYERS} - {unit_of(path, PACKAGE) for path in sources(PACKAGE)} == set()


def test_modules_stay_small():
    """No module is longer than 400 lines."""
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in sources(PACKAGE)}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_LINES} == {}


def test_sql_is_what_older_systems_know():
    """RHEL 8 has SQLite 3.26 under Python 3.11: a newer word would fail once a page is paid."""
    texts = [
        node.value
        for path in sources(PACKAGE)
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert [text for text in texts if "ON CONFLICT" in text]
    assert [text for text in texts if NEWER_SQL.search(text)] == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("newcomer.py", ""),
        ("errors.py", "from asyncsfk.client import Client"),
        ("errors.py", "from asyncsfk import client"),
        ("errors.py", "from asyncsfk import Client"),
        ("errors.py", "import asyncsfk.client"),
        ("errors.py", "from . import client"),
        ("errors.py", "from .client import Client"),
        ("errors.py", "def late():\n    from asyncsfk.client import Client"),
        (
            "errors.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .client import C",
        ),
        ("models/page.py", "from ..client import Client"),
        ("simulator/data.py", "from asyncsfk.errors import SfkError"),
        ("simulator/data.py", "from ..errors import SfkError"),
        ("client.py", "from asyncsfk.cli import main"),
        ("errors.py", "import aiohttp"),
        ("errors.py", "def late():\n    from aiohttp import ClientSession"),
        ("client.py", "import yarl"),
        ("client.py", "import click"),
        ("client.py", "import requests"),
        ("cli/main.py", "import aiohttp"),
        ("cli/main.py", "import typer"),
    ],
)
def test_a_breach_is_seen(tmp_path, path, source):
    """Each kind of forbidden import is reported, once."""
    package = make_package(tmp_path, path, source)
    assert len(list(breaches(package))) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("client.py", "from asyncsfk.errors import SfkError\nfrom . import errors"),
        (
            "errors.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from aiohttp import Payload",
        ),
        ("_transport.py", "import aiohttp.web"),
        ("models/page.py", "from . import other\nfrom .other import Thing"),
        ("simulator/data.py", "from aiohttp import web\nfrom . import other"),
        ("cli/main.py", "import asyncsfk\nimport click, rich.table\nfrom asyncsfk import Client"),
    ],
)
def test_what_is_allowed_is_not_reported(tmp_path, path, source):
    """Imports from below, and of dependencies where they belong, are no breach."""
    package = make_package(tmp_path, path, source)
    assert list(breaches(package)) == []


def make_package(tmp_path, path, source):
    package = tmp_path / "asyncsfk"
    files = dict.fromkeys(("__init__.py", "errors.py", "client.py", "cli/__init__.py"), "")
    for name, text in (files | {path: source}).items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text, "utf-8")
    return package


def test_importing_has_no_side_effects():
    """Importing every module but the command line adds no log handler, warning filter or thread."""
    modules = [
        ".".join(["asyncsfk", *path.relative_to(PACKAGE).with_suffix("").parts])
        for path in sources(PACKAGE)
        if unit_of(path, PACKAGE) != "cli"
    ]
    program = f"""
import importlib, logging, sys, threading, warnings
import aiohttp.web, aiolimiter, anyio, msgspec, asyncio  # what these do is theirs

def state():
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = [h for one in loggers for h in getattr(one, "handlers", ())]
    return handlers, logging.root.level, list(warnings.filters), threading.enumerate()

before = state()
for name in {modules!r}:
    importlib.import_module(name.removesuffix(".__init__"))
assert state() == before, (before, state())
print(sorted({{"click", "rich"}} & set(sys.modules)))
"""
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
