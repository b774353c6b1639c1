"""Write the saved notebooks as pages, into build/html/: python -m helpers.commands.html.

A page needs no network and no Jupyter: its pictures lie in it, and its formulas are MathML.
"""

import html
import re
from pathlib import Path

import nbformat
from latex2mathml.converter import convert
from nbconvert import HTMLExporter
from pygments.formatters import HtmlFormatter

from .run import BUILD, NOTEBOOKS, PICTURES

# Code first, since a dollar in it begins no formula.
FORMULA = re.compile(r"```.*?```|`[^`\n]*`|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+?)\$", re.S)
STYLE = """
body {max-width: 56rem; margin: 0 auto; padding: 0 1rem 4rem; font: 1rem/1.5 sans-serif;}
img {max-width: 100%; height: auto;}
code {overflow-wrap: anywhere;}
pre {white-space: pre-wrap; padding: .5rem; font-size: .85rem; line-height: 1.35;}
.highlight pre {white-space: pre; overflow-x: auto; background: #f6f6f6;}
table {display: block; overflow-x: auto; border-collapse: collapse;}
th, td {border: 1px solid #ccc; padding: .2rem .5rem; text-align: left;}
.formula {overflow-x: auto; padding: .3rem 0;}
.prompt {display: none;}
"""
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""


def as_mathml(found):
    """A match of `FORMULA` with the formula as MathML; code stays as it is."""
    if found["block"]:
        return f'<div class="formula">{convert(found["block"].strip(), display="block")}</div>'
    if found["inline"]:
        return convert(found["inline"])
    return found[0]


def with_formulas(text):
    """A cell's Markdown, its formulas as MathML, its links to notebooks as links to pages."""
    text = re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.html)", text)
    text = text.replace("](../", "](../../")  # build/html/ lies one folder deeper than notebooks/
    return FORMULA.sub(as_mathml, text)


def with_pictures(output):
    """Turn the picture of a cell's output, a GIF too, into a piece of the page with its text."""
    for kind in PICTURES:
        if kind in output.get("data", {}):
            alt = html.escape(output.metadata.get(kind, {}).get("alt", ""))
            source = f"data:{kind};base64,{output.data[kind].strip()}"
            output.data = {"text/html": f'<img alt="{alt}" src="{source}">'}
            return


def page(notebook):
    """The text of the page of a notebook."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = with_formulas(cell.source)
        else:
            for output in cell.outputs:
                with_pictures(output)
    exporter = HTMLExporter(template_name="basic", exclude_anchor_links=True)
    body, _ = exporter.from_notebook_node(notebook)
    title = re.search(r"^# (.*)", notebook.cells[0].source, re.M)[1]
    style = STYLE + HtmlFormatter().get_style_defs(".highlight")
    return PAGE.format(title=html.escape(title), style=style, body=body)


def main():
    folder = BUILD / "html"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        written = folder / Path(path.name).with_suffix(".html")
        written.write_text(page(nbformat.read(path, as_version=4)), "utf-8")
        print(written.relative_to(BUILD.parent))


if __name__ == "__main__":
    main()
