"""Every example that the documents and the docstrings show is run here.

In a Markdown document, and in a docstring, an example is a fenced block that says ``python``; a docstring may also have
``>>>`` lines. A block stands for itself: it imports what it uses, except `trio` and `trio_mq`, which are there. If it
defines ``async def main``, ``trio.run(main)`` follows, unless it does that itself; any other may use ``await`` at its
top level. What is not meant to be run says ``text`` instead.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import pytest
import trio

import trio_mq

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "DESIGN.md", "CONTRIBUTING.md", "MULTICAST.md")
SOURCES = sorted([*(ROOT / "trio_mq").rglob("*.py"), *(ROOT / "adapters").rglob("*.py")])
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

BLOCK = re.compile(r"^(?P<indent> *)```python\n(?P<code>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
OPTIONAL = re.compile(r"^\s*(?:>>> )?(?:import|from) (zmq|pyomq|zmq_anyio|grpc|trio_mq_grpc)\b", re.MULTILINE)

DEADLINE = 10.0
"""Seconds for one example. One that waits for ever is a wrong example, and must not stall the suite."""


class Example(NamedTuple):
    """One fenced block, or a docstring that holds a session, and where it stands."""

    place: str
    line: int
    code: str
    is_session: bool = False

    def compile(self) -> CodeType:
        """The block, padded so that a traceback shows the line of the document."""
        padded = "\n" * self.line + self.code
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        code: CodeType = compile(padded, str(ROOT / self.place), "exec", flags=flags, dont_inherit=True)
        return code


def blocks(text: str, place: str, first_line: int = 1) -> Iterator[Example]:
    for match in BLOCK.finditer(text):
        line = first_line + text.count("\n", 0, match.start())
        yield Example(place, line, textwrap.dedent(match["code"]))


def in_documents() -> Iterator[Example]:
    for name in DOCUMENTS:
        if (ROOT / name).exists():  # a wheel's tests may run without them
            yield from blocks((ROOT / name).read_text(encoding="utf-8"), name)


def in_docstrings() -> Iterator[Example]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False):
                text = node.body[0].value  # type: ignore[attr-defined]  # get_docstring has seen that it is an expression
                place = path.relative_to(ROOT).as_posix()
                yield from blocks(text.value, place, text.lineno)
                if re.search(r"^\s*>>> ", text.value, re.MULTILINE):
                    yield Example(place, text.lineno, text.value, is_session=True)


def run_session(session: Example, names: dict[str, Any]) -> None:
    """Run the ``>>>`` lines; a wrong answer raises `doctest.DocTestFailure`, which shows both."""
    parsed = doctest.DocTestParser().get_doctest(session.code, names, session.place, session.place, session.line)
    doctest.DebugRunner(optionflags=doctest.ELLIPSIS).run(parsed)


def run_block(example: Example, names: dict[str, Any]) -> None:
    """Run *example* as its reader would, within the deadline."""

    async def under_trio() -> None:
        with trio.fail_after(DEADLINE):
            await started

    started = eval(example.compile(), names)  # a coroutine if the block awaits at its top level, else it has run
    if inspect.iscoroutine(started):
        trio.run(under_trio)
    elif inspect.iscoroutinefunction(names.get("main")) and "trio.run(" not in example.code:
        started = names["main"]()
        trio.run(under_trio)


def described(example: Example) -> str:
    return f"{example.place}:{example.line}"


@pytest.mark.parametrize("example", [*in_documents(), *in_docstrings()], ids=described)
def test_an_example_runs(example: Example) -> None:
    for module in OPTIONAL.findall(example.code):
        pytest.importorskip(module)
    run = run_session if example.is_session else run_block
    run(example, {"__name__": "example", "trio": trio, "trio_mq": trio_mq})


def test_a_false_example_is_noticed() -> None:
    """The runner itself: an example in each of the four forms, made to fail."""
    for code in (
        "assert False",
        "await trio.lowlevel.checkpoint()\nassert False",
        "async def main():\n    assert False",
    ):
        with pytest.raises(AssertionError):
            run_block(Example("README.md", 1, code), {"trio": trio})
    with pytest.raises(doctest.DocTestFailure):
        run_session(Example("trio_mq/__init__.py", 1, ">>> 1 + 1\n3\n"), {})
