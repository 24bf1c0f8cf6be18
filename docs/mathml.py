"""Mathematics of the pages as MathML, which browsers draw by themselves: no script, no font and no network is needed."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.errors import ExtensionError

_SPELLINGS = (
    (r"\\(begin|end)\{aligned\}", r"\\\1{align*}"),  # latex2mathml has no `aligned`
    # a bar that is not known to open or close gets the space of an operator
    (r"\\([lr])vert(?![A-Za-z])", lambda m: r"\left|" if m[1] == "l" else r"\right|"),
    (r"\\([lr])Vert(?![A-Za-z])", lambda m: r"\left\|" if m[1] == "l" else r"\right\|"),
)


def mathml(tex: str, display: str) -> str:
    """Return one formula as a MathML element."""
    spelled = tex
    for pattern, other in _SPELLINGS:
        spelled = re.sub(pattern, other, spelled)
    element = convert(spelled, display=display)
    unknown = re.search(r">(\\[A-Za-z]+|&)<", element)  # what latex2mathml cannot read it copies
    if unknown:
        raise ExtensionError(
            f"mathematics must be TeX that latex2mathml reads; it does not know {unknown.group(1)} in {tex!r}; write it another way"
        )
    return element


def _inline(self, node) -> None:
    """Write mathematics within a line."""
    self.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(self, node) -> None:
    """Write mathematics that stands on lines of its own."""
    self.body.append(f'<div class="math">{mathml(node.astext(), "block")}</div>\n')
    raise nodes.SkipNode


def setup(app) -> dict[str, bool]:
    """Register the renderer; `html_math_renderer = "mathml"` chooses it."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
