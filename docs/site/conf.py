"""Sphinx' settings. build.py runs Sphinx with them, in build/site."""

from __future__ import annotations

import inspect
import re
from itertools import takewhile
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.ext.napoleon import NumpyDocstring
from sphinx.search.en import SearchEnglish
from sphinx.transforms import SphinxTransform

import tinyrnn

project = "tinyrnn"
version = release = tinyrnn.__version__
html_title = f"tinyrnn {version}"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}

# Pages are written for a code host first: GitHub's Markdown, and its anchors of headings.
myst_heading_anchors = 4
myst_enable_extensions = ["strikethrough"]

# The docstrings have one home and one form, NumPy's. `name` in them is a name of Python.
highlight_language = "text"
default_role = "py:obj"
primary_domain = "py"
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
add_module_names = False
maximum_signature_line_length = 100
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = html_show_sourcelink = False
html_show_sphinx = html_show_copyright = False
html_search_language = "names"
html_search_scorer = str(Path(__file__).with_name("scorer.js"))

_NAME = re.compile(r"tr\.((?:\w+\.)*\w+)(?:\(.*\))?")
# Sections that are lists of fields.
FIELDS = ("Parameters", "Attributes", "Returns", "Raises", "Yields")

# Code, or a bar that is not in code.
BARS = re.compile(r"``.*?``|\|")
_METHOD = re.compile(r"(?:net|stream)\.([a-z_]\w*)(?:\(.*\))?")


class Words(SearchEnglish):
    """The words of a search, without a plural's s: English endings are parts of names, as in `stateful`."""

    lang = "names"
    language_name = "English, with names"
    stopwords = SearchEnglish.stopwords | {"can", "get", "put"}  # of questions
    js_stemmer_rawcode = None
    js_stemmer_code = """
var Stemmer = function () {
    this.stemWord = function (w) { return w.length > 3 ? w.replace(/([^s])s$/, "$1") : w; };
};
"""

    def stem(self, word: str) -> str:
        """What the code above makes of a word in lower case."""
        return re.sub("([^s])s$", r"\1", word.lower()) if len(word) > 3 else word.lower()


class Pictures(SphinxTransform):
    """Let every picture lead to itself, so that a phone shows it in full size."""

    default_priority = 200

    def apply(self, **kwargs: Any) -> None:
        for picture in self.document.findall(nodes.image):
            picture["width"] = "100%"  # of pictures with a size, Sphinx makes links


class Names(SphinxTransform):
    """Link `tr.LSTM` and `net.fit(...)` in a page's text to the reference, and mark messages of errors."""

    default_priority = 200

    def apply(self, **kwargs: Any) -> None:
        from tinyrnn.net import Net

        for block in self.document.findall(nodes.literal_block):
            if re.match(r"\w+Error: ", block.astext()):
                block["classes"].append("error")  # site.css breaks its lines
        for literal in list(self.document.findall(nodes.literal)):
            if isinstance(literal.parent, (nodes.reference, addnodes.pending_xref)) or literal.get("classes"):
                continue
            text = literal.astext()
            target = None
            if found := _NAME.fullmatch(text):
                target = f"tinyrnn.{found[1]}"
            elif found := _METHOD.fullmatch(text):
                owner = "Stream" if text.startswith("stream.") else "Net"
                if hasattr(tinyrnn.Stream if owner == "Stream" else Net, found[1]):
                    target = f"tinyrnn.{owner}.{found[1]}"
            if target is not None:
                link = addnodes.pending_xref(
                    "",
                    refdomain="py",
                    reftype="obj",
                    reftarget=target,
                    refexplicit=True,
                    refwarn=False,
                    refdoc=self.env.docname,
                )
                literal.replace_self(link)
                link += literal


def noted(lines: list[str]) -> list[str]:
    """A docstring whose paragraphs behind a list of fields are notes: napoleon would take them for fields."""
    found: list[str] = []
    within = False  # a list of fields
    for at, line in enumerate(lines):
        begins = line[:1].strip() and at and not lines[at - 1].strip()
        if at + 1 < len(lines) and re.fullmatch("-{3,}", lines[at + 1]):
            within = line in FIELDS
        elif within and begins:
            block = list(takewhile(str.strip, lines[at:]))
            if block[-1].endswith(".") and not any(one.startswith(" ") for one in block):
                found += ["Notes", "-----"]
                within = False
        found.append(line)
    return found


def mend_docstring(app: Sphinx, what: str, name: str, one: Any, options: Any, lines: list[str]) -> None:
    """Let |x| in a docstring be a magnitude, and a property's docstring be text.

    reStructuredText would substitute the first, and napoleon takes words before a colon for its type.
    """
    lines[:] = noted(lines)
    for at, line in enumerate(lines):
        lines[at] = BARS.sub(lambda found: found[0] if found[0] != "|" else r"\|", line)
    if what == "property":
        lines[:] = ["", *NumpyDocstring(lines, app.config, app, "method", name, one, options).lines()]


def mend_signature(
    app: Sphinx, what: str, name: str, one: Any, options: Any, signature: str | None, result: str | None
) -> tuple[str | None, None]:
    """Show a class' own arguments, and nowhere types: the docstring has them in words."""
    if what not in ("class", "exception", "function", "method"):
        return signature, None
    if what == "exception":
        return "", None
    try:
        found = inspect.signature(one)
    except (TypeError, ValueError):
        return signature, None
    arguments = [
        argument.replace(annotation=inspect.Parameter.empty) for argument in found.parameters.values()
    ]
    if what == "method" and arguments and arguments[0].name == "self":
        del arguments[0]
    return str(inspect.Signature(arguments)), None


def setup(app: Sphinx) -> None:
    """Register the search, the links to names, and the mending of docstrings."""
    app.add_transform(Names)
    app.add_transform(Pictures)
    app.add_search_language(Words)
    app.connect("autodoc-process-docstring", mend_docstring, priority=100)
    app.connect("autodoc-process-signature", mend_signature)
