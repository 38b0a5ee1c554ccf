"""The project around the code: what it promises of itself that no linter checks."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "trio_mq").rglob("*.py"))
ADAPTERS = sorted(path for path in (ROOT / "adapters").rglob("*.py") if not path.stem.endswith("_pb2"))
FACADES = [
    "trio_mq",
    *sorted(
        f"trio_mq.{module.name}" for module in pkgutil.iter_modules([str(ROOT / "trio_mq")]) if module.name[0] != "_"
    ),
]
FOREIGN = ("zmq", "pyomq", "zmq_anyio", "anyio", "asyncio", "grpc", "google.protobuf", "nacl", "trio_mq_grpc")
"""What importing the base package must not bring along."""

TOP_LEVEL = {"trio_mq", "proto", "adapters", "tests", "changelog.d"}
BY_PRODUCTS = {"dist", "build", "htmlcov", "__pycache__"}


def pyproject() -> dict[str, object]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def in_all(paths: list[Path]) -> Iterator[tuple[Path, ast.AST]]:
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node


# --- what is installed, and what an import brings along --------------------------------------------------------------


def test_trio_is_the_only_base_dependency() -> None:
    project = pyproject()["project"]
    assert isinstance(project, dict)
    assert [re.split(r"[ <>=~!]", requirement)[0] for requirement in project["dependencies"]] == ["trio"]


def test_importing_trio_mq_imports_no_other_library() -> None:
    # A process of its own: in this one, other tests have imported plenty.
    program = "import sys, trio; before = set(sys.modules); import trio_mq; print(*set(sys.modules) - before)"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) & set(FOREIGN) == set()


def test_the_types_are_shipped() -> None:
    assert (ROOT / "trio_mq" / "py.typed").is_file()
    assert (ROOT / "adapters" / "trio_mq_grpc" / "py.typed").is_file()


# --- where things are ------------------------------------------------------------------------------------------------


def test_the_top_level_is_fixed() -> None:
    folders = [path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    ours = {path.name for path in folders if not (path / "pyvenv.cfg").exists()}
    assert ours - BY_PRODUCTS == TOP_LEVEL


@pytest.mark.parametrize("name", FACADES)
def test_a_facade_only_re_exports(name: str) -> None:
    module = importlib.import_module(name)
    tree = ast.parse(Path(str(module.__file__)).read_text(encoding="utf-8"))
    made_here = [node for node in tree.body if not isinstance(node, (ast.Import, ast.ImportFrom, ast.Expr, ast.Assign))]
    assert [ast.unparse(node) for node in made_here] == []
    public = list(getattr(module, "__all__", ()))
    assert len(public) == len(set(public))
    assert [entry for entry in public if not hasattr(module, entry)] == []


def test_the_code_does_not_import_its_own_facade() -> None:
    def is_facade(node: ast.AST) -> bool:
        if isinstance(node, ast.Import):
            return any(alias.name.split(".")[0] == "trio_mq" for alias in node.names)
        return isinstance(node, ast.ImportFrom) and not node.level and str(node.module).split(".")[0] == "trio_mq"

    assert [f"{name_of(path)}:{node.lineno}" for path, node in in_all(SOURCES) if is_facade(node)] == []  # type: ignore[attr-defined]  # imports are statements, which have lines


def test_trio_is_used_by_its_public_names() -> None:
    """Stay out of `trio._anything`, and of the socket inside a trio socket."""

    def is_private(node: ast.AST) -> bool:
        match node:
            case ast.Import(names=names):
                return any(alias.name.startswith("trio._") for alias in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                within = module.split(".")[0] == "trio"
                return within and (module.startswith("trio._") or any(alias.name.startswith("_") for alias in names))
            case ast.Attribute(value=ast.Name(id="trio"), attr=name):
                return name.startswith("_")
            case ast.Attribute(attr="_sock"):
                return True
        return False

    assert sorted({name_of(path) for path, node in in_all([*SOURCES, *ADAPTERS]) if is_private(node)}) == []


def test_adapters_use_trio_mq_by_its_public_names() -> None:
    # import-linter sees imports of modules; this sees what is taken out of them, too.
    def is_private(node: ast.AST) -> bool:
        match node:
            case ast.Import(names=names):
                return any(re.match(r"trio_mq\.(.*\.)?_", alias.name) for alias in names)
            case ast.ImportFrom(module=str(module), level=0, names=names):
                within = module.split(".")[0] == "trio_mq"
                return within and ("._" in module or any(alias.name.startswith("_") for alias in names))
            case ast.Attribute(value=ast.Name(id="trio_mq"), attr=name):
                return name.startswith("_") and name != "__version__"
        return False

    assert [f"{name_of(path)}:{node.lineno}" for path, node in in_all(ADAPTERS) if is_private(node)] == []  # type: ignore[attr-defined]  # all of these have lines


def test_every_exemption_gives_its_reason() -> None:
    exemption = re.compile(r"#\s*(?:noqa|type:\s*ignore)\b(?P<rest>.*)$")
    bare = []
    for path in [*SOURCES, *ADAPTERS, *sorted((ROOT / "tests").rglob("*.py"))]:
        if path == Path(__file__):  # it has to name what it looks for
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = exemption.search(line)
            # What is left when codes and punctuation are gone is the reason, in words.
            if found and not re.search(r"[a-z]{4,}", re.sub(r"\[[\w-]+\]|\b[A-Z]+\d+\b", "", found["rest"])):
                bare.append(f"{name_of(path)}:{number}")
    assert bare == []


# --- what is written -------------------------------------------------------------------------------------------------


def test_the_readme_names_exactly_the_two_commands_and_ci_runs_the_tests_by_the_same() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^python3 -m (tests\.\w+)\b", readme, flags=re.MULTILINE)
    assert commands == ["tests.demo", "tests.run"]
    assert all((ROOT / f"{command.replace('.', '/')}.py").is_file() for command in commands)
    assert "-m tests.run" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_every_change_fragment_is_of_a_known_kind() -> None:
    tool = pyproject()["tool"]
    assert isinstance(tool, dict)
    kinds = {kind["directory"] for kind in tool["towncrier"]["type"]}
    fragments = [
        path.name for path in (ROOT / "changelog.d").iterdir() if path.suffix == ".md" and path.name != "README.md"
    ]
    assert [name for name in fragments if name.split(".")[-2] not in kinds] == []


def test_the_command_that_makes_environments_needs_only_the_standard_library() -> None:
    # -I: no site-packages of the user, no environment variables; -S: none at all.
    program = "import sys; sys.path.insert(0, sys.argv[1]); import tests.run, tests.demo, tests._generated"
    subprocess.run([sys.executable, "-I", "-S", "-c", program, str(ROOT)], check=True)
