"""README, docs and examples, run as they stand against a simulator.

A ```python fence runs, unless it is marked `no-run` (signatures only). It may await, and finds
`handles`; the fences of one file share their names. A ```console fence marked `run` runs its lines
`$ asyncsfk ...` in a directory with a `handles.txt`.
"""

import ast
import asyncio
import inspect
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
from asyncsfk.simulator import Simulator
from tests.test_architecture import LAYERS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
LINKED = [page for page in [*PAGES, ROOT / "CHANGELOG.md"] if page.exists()]
EXAMPLES = sorted(ROOT.glob("examples/*.py"))

FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CALL = re.compile(r"^\| `(?:await )?(\w+)\((.*?)\)` \|", re.MULTILINE)

#: What every call that costs takes, too.
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


def test_the_design_tells_of_every_module():
    """The list in docs/design.md is that of the layers, in their order."""
    design = (ROOT / "docs" / "design.md").read_text("utf-8")
    told = re.findall(r"^\| `(\w+)/?` \|", design, re.MULTILINE)
    assert told == [layer for layer in LAYERS if layer not in {"_version", "__init__"}]


def test_the_guide_writes_calls_as_they_are():
    """The table of calls has each one's arguments, but for those that it tells of below."""
    table = CALL.findall((ROOT / "docs" / "guide.md").read_text("utf-8"))
    assert len(table) == 13
    for name, written in table:
        arguments = inspect.signature(getattr(asyncsfk.Client, name)).parameters.values()
        names = [one.name for one in arguments if one.name not in {"self", *OF_ARCHIVES}]
        if any(one.kind is one.KEYWORD_ONLY and one.name in names for one in arguments):
            names.insert(1, "*")
        assert written in {", ".join(names), f"{names[0] if names else ''}, ..."}, name


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
