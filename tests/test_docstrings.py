"""Docstrings: one form, that of `CONTRIBUTING.md`, for every public name; their examples run."""

import ast
import enum
import importlib
import inspect
import os
import pkgutil
import re
import textwrap
from pathlib import Path

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import robustctl as rc
import robustctl_envs

COMMANDS = ("cli", "__main__", "recipe")  # whose docstrings are help texts, in the form that tyro reads
ROOMS = [f"robustctl.{room.name}" for room in pkgutil.iter_modules(rc.__path__) if room.name not in COMMANDS]
MODULES = [*ROOMS, "robustctl_envs"]
"""Modules and packages whose public names have the form; a package's are those of its `__init__` file."""

ARGUMENT = re.compile(r"^ *- ((?:`\w+`, )*`\w+`): \S", re.MULTILINE)
SECTIONS = re.compile(r"^ *(Parameters|Returns|Raises|Args|Arguments|Yields)\n? *(-{3,}|:)$", re.MULTILINE)


def public(module_name: str) -> dict:
    """Classes and functions of a module by name, without those that it imports from other rooms."""
    module = importlib.import_module(module_name)
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isroutine(value) or inspect.isclass(value) or hasattr(value, "__wrapped__"))
        and value.__module__.startswith(module_name)
    }


NAMES = [
    pytest.param(value, id=f"{module}.{name}") for module in MODULES for name, value in public(module).items()
]


def own_arguments(value) -> list[str]:
    """Names that a caller gives; a plant's parameters have unit and source where they are declared."""
    if inspect.isclass(value) and issubclass(value, Exception | enum.Enum):
        return []  # a message alone, or the value of a member
    fields = getattr(value, "__dataclass_fields__", {})
    declared = {name for name, field in fields.items() if "unit" in field.metadata}
    return [name for name in inspect.signature(value).parameters if name not in declared | {"args", "kwargs"}]


def raises(value) -> set[str]:
    """Names of the errors that the body raises itself, for a class in its constructor and checks."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(inspect.unwrap(value))))
    if inspect.isclass(value):
        wanted = ("__init__", "__post_init__", "__check_init__")
        bodies = [node for node in tree.body[0].body if getattr(node, "name", "") in wanted]  # pyright: ignore
    else:
        bodies = tree.body
    found = [node.exc for body in bodies for node in ast.walk(body) if isinstance(node, ast.Raise)]
    calls = [getattr(exc, "func", exc) for exc in found if exc is not None]
    return {call.id if isinstance(call, ast.Name) else call.attr for call in calls}  # pyright: ignore


def documented(doc: str) -> list[str]:
    """Names of the arguments' bullets, in order."""
    return [name for line in ARGUMENT.findall(doc) for name in re.findall(r"`(\w+)`", line)]


def documented_here_or_above(value) -> set[str]:
    """Names of the bullets of a function or class, and of the classes that a class extends."""
    docs = [c.__doc__ for c in value.__mro__] if inspect.isclass(value) else [value.__doc__]
    return {name for doc in docs for name in documented(doc or "")}


@pytest.mark.parametrize("value", NAMES)
def test_public_names_have_docstrings_of_one_form(value):
    doc = inspect.getdoc(value) or ""
    assert doc and doc.split("\n")[0].endswith((".", ":")), "one sentence, on one line"
    assert ("**Arguments:**" in doc) == bool(documented(doc)), "arguments are bullets below `**Arguments:**`"
    assert not SECTIONS.search(doc), "sections are `**Arguments:**`, `**Returns:**`, `**Raises:**`"
    arguments = own_arguments(value)
    if len(arguments) > 2:
        missing = set(arguments) - documented_here_or_above(value)
        assert not missing, f"no bullet for {missing}"
    for error in raises(value):
        assert f"`{error}`" in doc or f".{error}`" in doc, f"`**Raises:**` must name {error}"


@pytest.mark.parametrize("value", NAMES)
def test_each_argument_has_a_line(value):
    for line in ARGUMENT.findall(inspect.getdoc(value) or ""):
        assert "," not in line, f"one argument a bullet, got {line}"


def examples():
    for param in NAMES:
        doc = inspect.getdoc(param.values[0]) or ""
        if "**Example:**" in doc:
            block = doc.split("**Example:** ::\n")[1]
            code = re.match(r"(\n|    .*\n?)+", block)
            assert code is not None
            yield pytest.param(textwrap.dedent(code[0]), id=param.id)


@pytest.mark.parametrize("code", examples())
def test_examples_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(
        code,
        {
            "rc": rc,
            "jax": jax,
            "jnp": jnp,
            "np": np,
            "gymnasium": gymnasium,
            "robustctl_envs": robustctl_envs,
        },
    )
    assert Path(os.getcwd()) == tmp_path
