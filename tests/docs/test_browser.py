"""The site in a browser: pages fit phones, the search leads to answers. Needs Chromium and Sphinx."""

from __future__ import annotations

import functools
import html
import http.server
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from folders import DOCS, ROOT

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium"),
    pytest.mark.skipif(importlib.util.find_spec("furo") is None, reason="no Sphinx, or no furo"),
    pytest.mark.skipif(not (DOCS / "site").is_dir(), reason="no docs/ beside the tests"),
]

# Loads pages one by one in a frame of some width, and writes what `look` returns of each, as JSON.
HARNESS = """<!doctype html><pre id="found"></pre><script>
const look = LOOK, todo = TODO, found = {};
const frame = document.body.appendChild(document.createElement("iframe"));
frame.height = 800;
const next = () => {
  if (!todo.length) { document.getElementById("found").textContent = JSON.stringify(found); return; }
  const [page, width] = todo.pop();
  frame.width = width;
  frame.onload = () => setTimeout(() => {
    found[`${page} at ${width}`] = look(frame.contentDocument, width);
    next();
  }, WAIT);
  frame.src = page;
};
next();
</script>"""

# How far the page, or a part of it that does not scroll by itself, is beyond the right edge.
BEYOND = """(page, width) => {
  const scrolls = (one) => /auto|scroll|hidden/.test(getComputedStyle(one).overflowX);
  let most = page.documentElement.scrollWidth;
  for (const one of page.querySelectorAll("article *")) {
    let above = one;
    while (above && !scrolls(above)) above = above.parentElement;
    if (!above) most = Math.max(most, one.getBoundingClientRect().right);
  }
  return Math.max(0, most - width);
}"""

FIRST = """(page) => [...page.querySelectorAll("#search-results li a")].slice(0, 3).map(
  (link) => link.getAttribute("href"))"""

# Questions, and a place that has the answer.
QUESTIONS = {
    "class_weight": "questions.html#class-weights-for-imbalanced-classes",
    "model.summary": "questions.html#print-a-summary",
    "multiple GPUs": "questions.html#gpu-cuda",
    "convert pytorch model to C": "questions.html#convert-a-pytorch-or-keras-model-to-c",
    "hidden_size how large": "questions.html#how-large-hidden-size-num-layers-how-many-units",
    "softmax at the end": "questions.html#softmax-at-the-end-sigmoid-at-the-end-probabilities",
    "lightning checkpoint": "start/pytorch.html#a-lightning-checkpoint",
    "real-time safe no allocation": "questions.html",  # which has not all of these words
    "why does the gradient vanish": "learn/rnn.html",
    "EarlyStopping": "reference/callbacks.html#tinyrnn.callbacks.EarlyStopping",
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder of the site, built for this test, and its address."""
    copy = tmp_path_factory.mktemp("site")
    program = f"import sys; sys.path.insert(0, {str(DOCS / 'site')!r}); import build; build.main([])"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    shutil.copytree(ROOT / "build" / "site" / "html", copy / "html")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    handler = functools.partial(Quiet, directory=copy / "html")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield copy / "html", f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def looked(site: tuple[Path, str], look: str, todo: list[tuple[str, int]], wait: int) -> dict[str, object]:
    """Return the results of a function of JavaScript on pages, each in a frame of some width."""
    folder, address = site
    page = HARNESS.replace("LOOK", look).replace("TODO", json.dumps(todo)).replace("WAIT", str(wait))
    (folder / "harness.html").write_text(page, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1600,1000"]
    time = f"--virtual-time-budget={60_000 + len(todo) * (wait + 3000)}"
    command = [str(CHROMIUM), *options, time, "--dump-dom", f"{address}/harness.html"]
    text = subprocess.run(command, capture_output=True, timeout=600, check=True).stdout.decode()
    found = re.search(r'<pre id="found">(.+?)</pre>', text, re.DOTALL)
    assert found, text[-1000:]
    answers: dict[str, object] = json.loads(html.unescape(found[1]))
    return answers


def test_pages_fit_a_phone_and_a_desktop(site: tuple[Path, str]) -> None:
    pages = sorted(path.relative_to(site[0]).as_posix() for path in site[0].rglob("*.html"))
    pages = [page for page in pages if page not in ("search.html", "genindex.html", "harness.html")]
    wide = "<!doctype html><article><p style='width: 500px'>wide</p></article>"
    (site[0] / "wide.html").write_text(wide, encoding="utf-8")
    todo = [(page, width) for page in [*pages, "wide.html"] for width in (390, 1280)]
    found = looked(site, BEYOND, todo, 0)
    assert found.pop("wide.html at 390") and not found.pop("wide.html at 1280")
    assert len(found) == 2 * len(pages) > 150
    assert not {page: beyond for page, beyond in found.items() if beyond}


def test_the_search_leads_to_answers(site: tuple[Path, str]) -> None:
    todo = {f"search.html?q={question.replace(' ', '+')}": place for question, place in QUESTIONS.items()}
    found = looked(site, FIRST, [(page, 1000) for page in todo], 500)
    missed = {
        page: hits for page, hits in found.items() if todo[page.removesuffix(" at 1000")] not in str(hits)
    }
    assert len(found) == len(QUESTIONS) and not missed
