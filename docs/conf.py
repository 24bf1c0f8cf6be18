"""How the site is built: `sphinx-build -W -b html docs docs/_build/html`."""

import json
import re
import sys
import tomllib
from pathlib import Path

import jupytext
from docutils import nodes
from nbformat.v4 import new_markdown_cell

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT), str(ROOT / "envs")]

import make_results  # noqa: E402

import robustctl  # noqa: E402

_project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
project = _project["name"]
release = version = robustctl.__version__
author = _project["authors"][0]["name"]
copyright = author

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml"]
exclude_patterns = ["_build", "conf.py", "make_picture.py", "mathml.py", "make_results"]

# Pages. A relative link to a file outside docs/ becomes a download of that file. The tests run all Python
# on these pages (tests/test_tutorials.py), so the build runs none.
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
myst_update_mathjax = False
html_math_renderer = "mathml"  # docs/mathml.py
nb_execution_mode = "off"

# API. Docstrings are reStructuredText; a name in single backticks is code.
default_role = "code"
smartquotes = False
highlight_language = "none"  # of equations; fences name their own
add_module_names = False
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 90
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = html_copy_source = html_show_sourcelink = False


_PLAINER = (
    (r"~?jaxtyping\.(Float|Bool)\[[^\[\]]*\{self[^'\"]*['\"]\]", "Array"),
    (r"~?jaxtyping\.Key\[.*?, '4'\]", "PRNGKeyArray"),
    (r"~?collections\.abc\.Callable\[\[~?jaxtyping\.Float.*?\]\], ~?jaxtyping\.Float\[.*?\]\]", "Activation"),
    (r"~?collections\.abc\.Callable\[\[PRNGKeyArray, int, .*?LinearPart\]", "Initializer"),
    (r"(~?jaxlib\._jax|~?jaxtyping|~?collections\.abc|~?jax)\.(?=[A-Z])", ""),
    (r"<PjitFunction of <function (\w+)>>", r"\1"),
    (r" ?= ?<factory>", " = ..."),
    (r"<jax\._src\.custom_derivatives\.custom_jvp object>", "relu"),
)


def _plain_signature(app, what, name, obj, options, signature, returns):
    """Write the types of a signature as in the source."""
    for pattern, plainer in _PLAINER:
        signature, returns = (text and re.sub(pattern, plainer, text) for text in (signature, returns))
    return signature, returns


def _plain_attributes(app, doctree) -> None:
    """Do the same for the types of attributes and properties."""
    for text in list(doctree.findall(nodes.Text)):
        if "jaxlib._jax." in text:
            text.parent.replace(text, nodes.Text(text.replace("jaxlib._jax.", "")))


def _skip_fields(app, what, name, obj, skip: bool, options) -> bool | None:
    """Leave out the fields of named tuples, whose documentation is "Alias for field number 0"."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def _end_code(app, what, name, obj, options, lines: list[str]) -> None:
    """Let code in backticks end before a plural's s, as in Markdown."""
    lines[:] = [re.sub(r"(?<![`\w])(`[^`\s][^`]*`)(?=\w)", r"\1\\ ", line) for line in lines]


def _copy_tutorials() -> None:
    """Write the tutorials as notebooks into docs/tutorials, each with the output of a full run; git ignores them."""
    folder = HERE / "tutorials"
    folder.mkdir(exist_ok=True)
    for script in (ROOT / "tutorials").glob("*.py"):
        page, kept = jupytext.read(script), script.parent / "full" / f"{script.stem}.json"
        if kept.is_file():
            page.cells.append(new_markdown_cell(_full_run(json.loads(kept.read_text("utf-8")))))
        jupytext.write(page, folder / f"{script.stem}.ipynb")


def _full_run(kept: dict) -> str:
    """Return the output and figures of a full run, as `benchmarks/run_tutorials.py` stored them."""
    machine = f"{kept['machine']['platform']}, {kept['machine']['cpus']} cores, {kept['device']}"
    figures = "\n\n".join(f"![{Path(name).stem}](../../tutorials/full/{name})" for name in kept["figures"])
    return (
        f"## Output of a full run\n\n{kept['seconds'] / 60:.1f} minutes; {machine}; commit {kept['commit'][:12]}.\n\n"
        f"```text\n{kept['printed'].rstrip()}\n```\n\n{figures}"
    )


def _name_links(app, docname: str, source: list[str]) -> None:
    """Give links to pages their titles, and point links to tutorials and results to their pages."""
    text = re.sub(
        r"\[(?:\.\./tutorials/|tutorials/)?\w+\.py\]\(\.\./tutorials/(\w+)\.py\)",
        r"[](tutorials/\1.ipynb)",
        source[0],
    )
    text = re.sub(
        r"\]\(\.\./results/?\)", "](results.md)", text
    )  # the folder has pages, which git does not hold
    text = re.sub(r"\]\(\.\./tutorials/(\w+)\.py\)", r"](tutorials/\1.ipynb)", text)
    source[0] = re.sub(r"\[([\w-]+\.md)\]\(\1(#[\w-]*)?\)", r"[](\1\2)", text)


def setup(app) -> None:
    """Write the generated pages and register the handlers above."""
    _copy_tutorials()
    make_results.write(HERE)
    app.connect("source-read", _name_links)
    app.connect("autodoc-process-signature", _plain_signature)
    app.connect("doctree-read", _plain_attributes)
    app.connect("autodoc-skip-member", _skip_fields)
    app.connect("autodoc-process-docstring", _end_code)
