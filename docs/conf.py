"""Settings of Sphinx, which makes the site of the pages in this folder and of the three in the folder above.

The pages are plain Markdown for GitHub. The site adds the navigation, which is the lists of `index.md`, and what the
markers `<!-- api: MODULE -->` and `<!-- settings -->` name.
"""

import inspect
import re
import sys
from importlib import import_module
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent / "src")]

import boxel.evaluation  # noqa: E402

project, version, author = "Boxel", boxel.__version__, "The Boxel developers"
root_doc = "docs/index"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**"]
exclude_patterns = [".*", "build", "src", "tests"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
autodoc_typehints_format = "short"
default_role = "literal"
napoleon_custom_sections = [("Attributes", "params_style")]
maximum_signature_line_length = 100

html_theme = "furo"
html_title = "Boxel"
html_copy_source = False
html_show_copyright = False

KINDS = {"module": inspect.ismodule, "class": inspect.isclass, "function": inspect.isfunction}


def links(section: str) -> list[tuple[str, str]]:
    """What the lists of a section link to, with the titles that the links have there."""
    return re.findall(r"^(?:- |\d+\. )\[([^]]+)\]\(([^)#\s]+\.md)\)", section, flags=re.M)


def navigation(index: str) -> str:
    parts = re.split(r"^## ", index, flags=re.M)
    trees = []
    for part in parts:
        pages = "\n".join(f"{title.replace('`', '')} <{target.removesuffix('.md')}>" for title, target in links(part))
        caption = "Start" if part is parts[0] else part.partition("\n")[0]
        trees.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{pages}\n```")
    return "\n\n".join(trees)


def api(module: str) -> str:
    """A directive of autodoc for each public name of a module."""
    directives = []
    for name in import_module(module).__all__:
        public = getattr(import_module(module), name)
        kind = next((kind for kind, is_a in KINDS.items() if is_a(public)), "")
        options = [":members:"] if kind in ("class", "module") else []
        if module == "boxel" and public is getattr(boxel.evaluation, name, None):
            options.append(":no-index:")  # links lead to the page of boxel.evaluation
        first = f".. auto{kind}:: {module}.{name}" if kind else f".. py:data:: {module}.{name}\n   :value: {public!r}"
        directives.append("\n   ".join([first, *options]) + "\n")
    return "```{eval-rst}\n" + "\n".join(directives) + "```"


def complete(app, page: str, source: list[str]) -> None:
    """The text of a page as the site has it."""
    text = source[0]
    if page == root_doc:
        text += navigation(text)
    if "<!-- settings -->" in text:
        from settings_reference import settings_reference

        text = text.replace("<!-- settings -->", settings_reference())
    source[0] = re.sub(r"<!-- api: (\S+) -->", lambda marker: api(marker[1]), text)


def readable(app, what, name, public, options, signature: str | None, returns: str | None):
    """A signature that Sphinx can parse, as `<factory>` and `<function silent>` are no Python."""
    return signature and re.sub(r"<[^<>]+>", "...", signature), returns


def lead_to_index(app, failure) -> None:
    Path(app.outdir, "index.html").write_text(f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n')


def setup(app) -> None:
    app.connect("source-read", complete)
    app.connect("autodoc-process-signature", readable)
    app.connect("build-finished", lead_to_index)
