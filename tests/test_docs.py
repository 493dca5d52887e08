"""README, docs and examples, run as they stand against a simulator.

A ```python fence runs, unless it is marked `no-run` (signatures only). It may await, and finds
`handles`; the fences of one file share their names. A ```console fence marked `run` runs its lines
`$ asyncsfk ...` in a directory with a `handles.txt`.
"""

import ast
import asyncio
import dataclasses
import inspect
import itertools
import os
import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Union, get_args, get_origin

import msgspec
import pytest

import asyncsfk.client  # loads what else a fence would load inside of the event loop
from asyncsfk import models
from asyncsfk.cli._app import app
from asyncsfk.cli._exit import EXIT_CODES, ExitCode
from asyncsfk.simulator import Entry, Fault, Route, Simulator, When
from tests.test_architecture import LAYERS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
LINKED = [page for page in [*PAGES, ROOT / "CHANGELOG.md"] if page.exists()]
PASTED = ("recipes.md", "simulator.md")
EXAMPLES = sorted(ROOT.glob("examples/*.py"))

FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CALL = re.compile(r"^\| `(?:await )?(\w+)\((.*?)\)` \|", re.MULTILINE)

#: The arguments that every paid call takes besides its own.
OF_ARCHIVES = {"archive", "max_age", "refresh"}


@dataclass(frozen=True)
class Fence:
    """A fenced block of a page: its marks, its text, and the line before its first."""

    marks: list[str]
    text: str
    line: int


def fences(text, language):
    return [
        Fence(marks, match[2], text.count("\n", 0, match.start(2)))
        for match in FENCE.finditer(text)
        if language in (marks := match[1].split())[:1]
    ]


def slug(heading):
    """Give the anchor that GitHub makes of a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def name(path):
    return str(path.relative_to(ROOT))


@pytest.fixture
async def simulator(monkeypatch):
    async with Simulator(seed=0) as simulator:
        monkeypatch.setenv("SOCIALFETCH_API_KEY", simulator.api_key)
        monkeypatch.setenv("SOCIALFETCH_BASE_URL", simulator.url)
        yield simulator


async def run_fence(fence, names, page="page.md"):
    source = "\n" * fence.line + fence.text  # tracebacks then show the page's own lines
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(source, str(page), "exec", flags=flags, dont_inherit=True)
    done = eval(code, names)  # noqa: S307 - our own documentation
    if inspect.isawaitable(done):
        await done


async def run_shell(command, directory):
    """Run a command that must succeed, with our scripts first on the path; give its output."""
    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_shell(
        command,
        cwd=directory,
        env=os.environ | {"PATH": path},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, f"$ {command}\n{output.decode()}"
    return output.decode()


@pytest.mark.parametrize("page", PAGES, ids=name)
async def test_python_fences_run(page, simulator, tmp_path, monkeypatch):
    """Each Python example of a page runs as it stands."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "docs", "handles": list(simulator.handles(5))}
    for fence in fences(page.read_text("utf-8"), "python"):
        if "no-run" not in fence.marks:
            await run_fence(fence, names, page)


async def test_each_recipe_runs_alone(simulator, tmp_path, monkeypatch):
    """A recipe needs nothing of the others, neither their names nor their archives."""
    text = (ROOT / "docs" / "recipes.md").read_text("utf-8")
    for number, section in enumerate(text.split("\n## ")):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        names = {"__name__": "docs", "handles": list(simulator.handles(5))}
        for fence in fences(section, "python"):
            if "no-run" not in fence.marks:
                await run_fence(fence, names, section.partition("\n")[0])


@pytest.mark.large
@pytest.mark.real_time
@pytest.mark.parametrize("page", PAGES, ids=name)
async def test_console_fences_run(page, simulator, tmp_path):
    """Each command of a console example that says so succeeds."""
    (tmp_path / "handles.txt").write_text("\n".join(simulator.handles(5)) + "\n", "utf-8")
    for fence in fences(page.read_text("utf-8"), "console"):
        if "run" in fence.marks:
            commands = [line[2:] for line in fence.text.splitlines() if line.startswith("$ ")]
            assert commands, f"{name(page)}:{fence.line}: nothing to run"
            for command in commands:
                assert command.startswith("asyncsfk "), command
                await run_shell(command, tmp_path)


@pytest.mark.real_time
@pytest.mark.parametrize("example", EXAMPLES, ids=name)
async def test_examples_run(example, simulator, tmp_path):  # noqa: ARG001 - sets the environment
    """Each example program runs to its end and says something."""
    assert await run_shell(f'"{sys.executable}" -W error "{example}"', tmp_path)


def test_the_readme_has_examples():
    """The README has Python that runs and commands that run."""
    text = PAGES[0].read_text("utf-8")
    assert any("no-run" not in fence.marks for fence in fences(text, "python"))
    assert any("run" in fence.marks for fence in fences(text, "console"))


@pytest.mark.parametrize("page", LINKED, ids=name)
def test_relative_links_lead_somewhere(page):
    """Each link to a file of ours, and to a heading in it, finds it."""
    lost = []
    for link in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists():
            lost.append(link)
        elif anchor and target.suffix == ".md":
            headings = HEADING.findall(FENCE.sub("", target.read_text("utf-8")))
            if anchor not in map(slug, headings):
                lost.append(link)
    assert lost == []


async def test_a_broken_example_is_seen():
    """A fence runs in its order, may await, and its failure shows the page's line."""
    good, bad = fences("a\n```python\nx = 1\n```\n```python\nawait f(x)\n1 / 0\n```\n", "python")
    seen = []

    async def f(x):
        seen.append(x)

    names = {"f": f}
    await run_fence(good, names)
    with pytest.raises(ZeroDivisionError) as caught:
        await run_fence(bad, names)
    assert seen == [1]
    assert caught.traceback[-1].lineno == 6  # counted from 0


@pytest.mark.real_time
async def test_a_failing_command_is_seen(tmp_path):
    """A command that fails fails its test, with what it said."""
    assert await run_shell("echo fine", tmp_path) == "fine\n"
    with pytest.raises(AssertionError, match="alas"):
        await run_shell("echo alas; exit 3", tmp_path)


@pytest.mark.real_time
async def test_the_program_of_the_readme(simulator, tmp_path):
    """The first example is a program of its own, and prints products."""
    (first, *_) = fences((ROOT / "README.md").read_text("utf-8"), "python")
    program = tmp_path / "program.py"
    program.write_text(first.text, "utf-8")
    told = await run_shell(f"python {program}", tmp_path)
    assert len(told.splitlines()) == len(simulator.showcase("zachking")) > 0
    assert simulator.ledger.charged == 1


@pytest.mark.real_time
async def test_the_pages_tests_pass_when_pasted(tmp_path):
    """What two pages show as tests passes in files of its own, and a second time."""
    recipes, simulators = ((ROOT / "docs" / page).read_text("utf-8") for page in PASTED)
    recipe = "".join(
        fence.text
        for section in ("From synchronous code", "In your tests")
        for fence in fences(recipes.split(f"\n## {section}\n")[1].split("\n## ")[0], "python")
    )
    (tmp_path / "test_recipe.py").write_text(recipe, "utf-8")
    first, *others = fences(simulators.split("\n## In pytest\n")[1], "python")
    (tmp_path / "test_first.py").write_text(first.text, "utf-8")
    (tmp_path / "test_all.py").write_text(first.text + others[0].text, "utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nanyio_mode = auto\n", "utf-8")
    run = f'"{sys.executable}" -m pytest -q -p no:cacheprovider'
    assert "6 passed" in await run_shell(run, tmp_path)
    assert "1 passed" in await run_shell(f"{run} test_recipe.py", tmp_path)


def test_the_design_tells_of_every_module():
    """The list in docs/design.md has the modules of the layers, in their order."""
    design = (ROOT / "docs" / "design.md").read_text("utf-8")
    told = re.findall(r"^\| `(\w+)/?` \|", design, re.MULTILINE)
    assert told == [layer for layer in LAYERS if layer not in {"_version", "__init__"}]


def test_the_guide_writes_calls_as_they_are():
    """The table of calls has each one's arguments, except those described below it."""
    table = CALL.findall((ROOT / "docs" / "guide.md").read_text("utf-8"))
    assert len(table) == 13
    for name, written in table:
        arguments = inspect.signature(getattr(asyncsfk.Client, name)).parameters.values()
        names = [one.name for one in arguments if one.name not in {"self", *OF_ARCHIVES}]
        if any(one.kind is one.KEYWORD_ONLY and one.name in names for one in arguments):
            names.insert(1, "*")
        assert written in {", ".join(names), f"{names[0] if names else ''}, ..."}, name


def rows_of(page, title):
    """Give the rows of the table whose first column is called so: lists of cells."""
    lines = (ROOT / page).read_text("utf-8").splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith(f"| {title} |"))
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [line.strip("| ").split(" | ") for line in rows]


def quoted(cell):
    """Give the first word of everything that is set in code."""
    return re.findall(r"`(\w+)[^`]*`", cell)


def test_the_guide_has_every_event_and_its_fields():
    """The table of events agrees with the code, field by field."""
    written = {
        quoted(name)[0]: quoted(fields) for name, fields in rows_of("docs/guide.md", "event")
    }
    assert written == {
        kind.__name__: list(kind.__struct_fields__) for kind in get_args(asyncsfk.Event)
    }


def test_the_guide_has_every_field_of_an_outcome():
    """The table of outcomes leaves none out."""
    written = [name for cell, _ in rows_of("docs/guide.md", "field") for name in quoted(cell)]
    assert sorted(written) == sorted(asyncsfk.Outcome.__struct_fields__)


@pytest.mark.parametrize("kind", [asyncsfk.Timeout, asyncsfk.Retry])
def test_the_guide_has_defaults_as_they_are(kind):
    """Each setting of timeouts and retries is there with its default."""
    text = (ROOT / "docs" / "guide.md").read_text("utf-8")
    rows = re.findall(
        r"^\| `(\w+)` \| ([\d.]+) \|", text.split(f"\n`{kind.__name__}`")[1], re.MULTILINE
    )
    written = {name: float(default) for name, default in rows}
    fields = {field.name: field.default for field in msgspec.structs.fields(kind)}
    assert fields.items() <= written.items()


def test_the_guide_has_every_setting():
    """Each argument of a client is there, except key and origin, which are told of above."""
    written = [quoted(row[0])[0] for row in rows_of("docs/guide.md", "setting")]
    assert {*written, "api_key", "base_url"} == {*inspect.signature(asyncsfk.Client).parameters}


def test_the_errors_page_has_every_error_and_what_it_carries():
    """Each error is in the tree, and each field of an error's details in its table."""
    tree = fences((ROOT / "docs" / "errors.md").read_text("utf-8"), "text")[0].text
    named = {name for name in asyncsfk.__all__ if name.endswith("Error")}
    assert set(re.findall(r"\w+Error\b", tree)) == named
    assert named >= set(re.findall(r"\w+Error\b", (ROOT / "README.md").read_text("utf-8")))
    written = [quoted(row[0])[0] for row in rows_of("docs/errors.md", "field")]
    assert written == list(asyncsfk.Details.__struct_fields__)


def test_the_simulators_page_has_all_of_it():
    """Each setting, each way to fail and each field of an entry is there."""
    page = "docs/simulator.md"
    settings = {name for row in rows_of(page, "setting") for name in quoted(row[0])}
    assert settings == {*inspect.signature(Simulator).parameters}
    kinds = {name for row in rows_of(page, "kind") for name in quoted(row[0])}
    assert kinds == {fault.name for fault in Fault.storm(1)}
    conditions = [quoted(row[0])[0] for row in rows_of(page, "condition")]
    assert conditions == list(When.__annotations__)
    (routes,) = (row[1] for row in rows_of(page, "condition") if quoted(row[0]) == ["routes"])
    assert quoted(routes) == ["Route", *(route.name for route in Route)]
    told = (ROOT / page).read_text("utf-8").split("An `Entry` has ")[1].split(". ")[0]
    assert set(quoted(told)) == {field.name for field in dataclasses.fields(Entry)}


def test_the_money_page_has_every_field_of_what_an_archive_tells():
    """Each field of its records is there, and each of a plan, with what is computed of it."""
    written = {quoted(row[0])[0]: quoted(row[1]) for row in rows_of("docs/money.md", "record")}
    kinds = (asyncsfk.ArchiveInfo, asyncsfk.ArchivedAnswer, asyncsfk.LedgerEntry)
    assert written == {kind.__name__: [*kind.__struct_fields__] for kind in kinds}
    told = (ROOT / "docs" / "money.md").read_text("utf-8").split("\n## A plan")[1].split("\n## ")[0]
    plan = [*asyncsfk.Plan.__struct_fields__, "distinct", "covered"]
    assert [name for name in plan if not re.search(rf"`{name}`|plan\.{name}\b", told)] == []


def flags_of(command):
    """Give the first long name of each option of a command, and of those below it."""
    for option in command.params:
        yield from [name for name in option.opts if name.startswith("--")][:1]
    for below in getattr(command, "commands", {}).values():
        yield from flags_of(below)


def test_the_command_lines_page_has_every_flag():
    """Each flag is there, but for those that every command line has, and the long name of -o."""
    page = (ROOT / "docs" / "cli.md").read_text("utf-8")
    told = {*re.findall(r"--[a-z-]+", page), "--version", "--output"}
    assert {*flags_of(app)} <= told


def test_exit_codes_are_the_same_everywhere():
    """The README, the command line's page and its help all have the codes of the code."""
    for page in ("README.md", "docs/cli.md"):
        assert [int(row[0]) for row in rows_of(page, "code")] == list(ExitCode)
    assert list(map(int, re.findall(r"^ +(\d+) ", EXIT_CODES, re.MULTILINE))) == list(ExitCode)


def test_the_models_page_has_every_field():
    """Each model is there once, with its own fields and properties, and their types."""
    page = (ROOT / "docs" / "models.md").read_text("utf-8")
    written = {}
    for fence in fences(page, "python"):
        for node in ast.parse(fence.text).body:
            assert isinstance(node, ast.ClassDef)
            assert node.name not in written
            written[node.name] = {
                ast.unparse(line.target): ast.unparse(line.annotation) for line in node.body
            }
    kinds = [getattr(models, name) for name in models.__all__]
    assert written == {
        kind.__name__: own_members(kind)
        for kind in kinds
        if issubclass(kind, msgspec.Struct) and kind is not models.Model
    }


def own_members(kind):
    """Give what a model adds to its base, as one would write it."""
    inherited = {field.name for field in msgspec.structs.fields(kind.__base__)}
    members = {
        field.name: written_as(field.type)
        for field in msgspec.structs.fields(kind)
        if field.name not in inherited
    }
    for name, value in vars(kind).items():
        if isinstance(value, property):
            members[name] = written_as(value.fget.__annotations__["return"])
    return members


def written_as(kind):
    """Give a type as one would write it."""
    if get_origin(kind) is Annotated:
        return written_as(kind.__origin__)
    if get_origin(kind) in {Union, UnionType}:
        return " | ".join(map(written_as, get_args(kind)))
    if get_origin(kind) is tuple:
        return f"tuple[{written_as(get_args(kind)[0])}, ...]"
    return "None" if kind is NoneType else kind.__name__
