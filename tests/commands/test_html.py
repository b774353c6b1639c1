"""`make html`: the saved notebooks as pages that need no network."""

import re
from html.parser import HTMLParser

import nbformat
import pytest

from helpers.commands import html
from helpers.commands.run import NOTEBOOKS

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))
GIF = "R0lGODlhAQABAAAAACw="  # the beginning of a GIF; nobody looks into it here


class Tags(HTMLParser):
    """The tags of a page, (name, attributes), and how many of each were left open."""

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], {"math": 0, "table": 0, "details": 0}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag in self.open:
            self.open[tag] += 1

    def handle_endtag(self, tag):
        if tag in self.open:
            self.open[tag] -= 1


def page_of(*cells):
    title = nbformat.v4.new_markdown_cell("# A title & more")
    return html.page(nbformat.v4.new_notebook(cells=[title, *cells]))


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_saved_notebook_is_a_page_of_its_own(path):
    notebook = nbformat.read(path, as_version=4)
    pictures = sum(any(kind.startswith("image/") for kind in output.get("data", {}))
                   for cell in notebook.cells if cell.cell_type == "code"
                   for output in cell.outputs)
    tags = Tags(html.page(notebook))
    images = [attributes for tag, attributes in tags.found if tag == "img"]
    assert len(images) == pictures and all(image["alt"] for image in images)
    assert all(image["src"].startswith("data:image/") for image in images)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in tags.found}
    assert sum(tag == "math" for tag, _ in tags.found) > 20
    assert set(tags.open.values()) == {0}
    links = [attributes.get("href", "") for tag, attributes in tags.found if tag == "a"]
    assert links and not any(".ipynb" in link for link in links)


def test_formulas_become_mathml_and_dollars_in_code_do_not():
    text = "$a_b$ costs `$5 and $6`.\n\n$$x^2$$\n\n```sh\necho $HOME $PATH\n```"
    page = page_of(nbformat.v4.new_markdown_cell(text))
    assert page.count("<math") == 2 and '<div class="formula"><math' in page
    assert "$5 and $6" in page
    assert "$HOME $PATH" in re.sub(r"<[^>]*>", "", page)


def test_a_gif_is_shown_with_its_text():
    output = nbformat.v4.new_output("display_data", {"image/gif": GIF, "text/plain": "a film"},
                                    metadata={"image/gif": {"alt": 'a "film" & <more>'}})
    page = page_of(nbformat.v4.new_code_cell("show()", outputs=[output]))
    [image] = [attributes for tag, attributes in Tags(page).found if tag == "img"]
    assert image == {"alt": 'a "film" & <more>', "src": f"data:image/gif;base64,{GIF}"}


def test_links_lead_from_page_to_page():
    text = "[notebook 1](01_latent_optimization.ipynb), [bench](../tests/bench/README.md)"
    page = page_of(nbformat.v4.new_markdown_cell(text))
    assert 'href="01_latent_optimization.html"' in page
    assert 'href="../../tests/bench/README.md"' in page
    assert "<title>A title &amp; more</title>" in page
