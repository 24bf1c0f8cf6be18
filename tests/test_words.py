"""Words: the field's terms in docstrings, comments and messages, none of those listed here."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("robustctl", "envs/robustctl_envs", "benchmarks")  # their Markdown pages too

PHRASES = {
    r"\bat rest\b|\b(several|of|two|one) rests?\b|\bcomes? to rest\b": "equilibrium, or zero state or speed",
    r"\b(its|the|which) place\b|\bplaces\b|\bin the place of\b": "position, or in place of",
    r"\b(by itself|stays? as (it is|they are))\b": "open-loop stable, separately, or fixed or unchanged",
    r"\bbeside\b": "with, compared with, or alongside",
    r"\b(goes|going|go) on\b": "continues",
    r"\bsays?\b|\bsaid\b": "reports, states, or for example",
    r"\btells?\b|\btold\b": "reports, determines, or distinguishes",
    r"\bhears?\b|\bheard\b": "depends on, or has the input",
    r"\b(quiet|silent|silence)\b": "small or zero output, idle machine, or no sign",
    r"\bkept\b": "stored, or held",
    r"\bjudged?\b": "scored, or selected",
    r"\bhonest(ly)?\b": "leave out, or name the imperfections",
    r"\b(is|are|was) asked (for|to)\b": "name the task",
    r"\bas good as (no|none|nothing)\b": "nearly zero",
    r"\bof which none\b|\bstands? not\b|\bwhich \w+ ha(s|ve) not\b": "none of them, or does not have",
    r"\bof (its|their) own\b|\b(a|an) \w+ of (yours|ours)\b": "its own, or your own",
    r"\banew\b": "again, or new",
    r"\bthe least (value|error|loss|number)\b": "smallest",
    r"\bto see that it runs\b": "to check that it runs",
    r"\bfigures mean nothing\b|\bthat means? nothing\b": "meaningless, or out of range",
    r"\b(samples|seconds|steps|epochs|values|names|units|one|row|MB|s|hour) a "
    r"(sample|channel|second|seed|step|rollout|parameter|output|input|control|epoch|rotor)\b": "per",
    r"\btakes? off\b|\btaken off\b|\bputs? back\b": "subtract, add back",
    r"\bBEWARE\b": "WARNING",
    r"\bas of `": "as in, or the same as",
    r"(?<=\w), for (it|they|there|nothing|JAX)\b": "because",
    r"\bsuch as\b": "for example",
    r"\bside by side\b": "in parallel, or concatenated",
    r"\btraining (has )?(saw|seen|sees)\b|\bnever saw\b": "in the training record",
    r"\bbring(s|ing)?\b|\bbrought\b": "download, convert, reduce",
    r"\bnobody\b|\beveryone\b": "name the quantity or class",
}
"""Patterns of words that the field does not use, each with what to write instead."""


def files(name: str) -> list[Path]:
    return sorted([*(ROOT / name).rglob("*.py"), *(ROOT / name).rglob("*.md")])


def prose(path: Path):
    """Docstrings, comments and texts of a file, each with its line number."""
    text = path.read_text("utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for node in ast.walk(ast.parse(text)):
        # One word is a name or a key and no prose.
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, re.sub(r"`[^`]*`", "``", node.value)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


PARAMETERS = [pytest.param(path, id=str(path.relative_to(ROOT))) for name in FOLDERS for path in files(name)]


@pytest.mark.parametrize("path", PARAMETERS)
def test_prose_uses_the_field_s_words(path):
    found = []
    for line, text in prose(path):
        for pattern, instead in PHRASES.items():
            found += [
                f"{path.name}:{line}: {hit[0]!r}, write {instead}" for hit in re.finditer(pattern, text)
            ]
    assert not found, "\n".join(found)


def test_the_patterns_find_what_they_are_for():
    bad = "the plant, at rest, goes on beside it; NaN, which JSON has not, and 3 samples a second, for it says so"
    hits = [pattern for pattern in PHRASES if re.search(pattern, bad)]
    assert len(hits) == 7
