"""The frame of a page that needs no other file and no network."""

import html

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 68rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin-bottom: .2rem; }
h2 { font-size: 1.2rem; margin-top: 2.2rem; }
p.origin { color: #666; font-size: .85rem; overflow-wrap: anywhere; }
"""


def document(title: str, style: str, body: str) -> str:
    """Return an HTML page.

    **Arguments:**

    - `title`: its title, also as the first heading; plain text.
    - `style`: rules in addition to the common ones.
    - `body`: HTML below the heading.
    """
    name = html.escape(title)
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{style}</style></head>\n'
        f"<body><h1>{name}</h1>\n{body}\n</body></html>\n"
    )


def origin(about: dict) -> str:
    """Return commit, machine and versions of a result, as a paragraph.

    **Arguments:**

    - `about`: what `provenance` or `environment` returns.
    """
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    machine = ", ".join(f"{value}" for value in about["machine"].values())
    seed = f"seed {about['seed']}; " if "seed" in about else ""
    text = f"{seed}commit {about['commit']}; machine {machine} CPUs; {versions}"
    return f'<p class="origin">{html.escape(text)}</p>'
