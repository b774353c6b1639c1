"""Write where the repository lives into the notebooks: Colab badges and set-up cells.

python notebooks/colab.py owner/name     (make colab REPO=owner/name)

The one place that says it is pyproject.toml, [tool.colab]; the notebooks are stamped from it.
"""

import re
import sys
import tomllib
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
SETTINGS = HERE.parent / "pyproject.toml"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"


def repository():
    """owner/name as pyproject.toml has it; empty where it is not known."""
    return tomllib.loads(SETTINGS.read_text("utf-8"))["tool"]["colab"]["repository"]


def badge(name, notebook):
    """The line of Markdown that opens a notebook of the repository owner/name in Colab."""
    return (f"[![Open in Colab]({BADGE})](https://colab.research.google.com/github/{name}/blob/main/notebooks/"
            f"{notebook}.ipynb)")


def stamp(notebook, stem, name):
    """Put the repository's name into a notebook's first two cells, its badge and its set-up; an empty name clears."""
    title, setup = notebook.cells[0], next(cell for cell in notebook.cells if cell.cell_type == "code")
    lines = [line for line in title.source.splitlines() if BADGE not in line]
    while lines and not lines[0]:
        lines.pop(0)
    title.source = "\n".join([badge(name, stem), "", *lines] if name else lines)
    address = f"https://github.com/{name}" if name else ""
    setup.source, count = re.subn(r'^REPOSITORY = "[^"]*"', f'REPOSITORY = "{address}"', setup.source, flags=re.M)
    if count != 1:
        raise ValueError(f"The set-up cell of {stem} has {count} lines REPOSITORY = ..., not one.")


def main():
    name = sys.argv[1] if len(sys.argv) == 2 else None
    if not name or not re.fullmatch(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+", name):
        sys.exit("Say whose repository and its name: make colab REPO=owner/name")
    text = SETTINGS.read_text("utf-8")
    SETTINGS.write_text(re.sub(r'^repository = "[^"]*"', f'repository = "{name}"', text, flags=re.M), "utf-8")
    for path in sorted(HERE.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        stamp(notebook, path.stem, name)
        nbformat.write(notebook, path)
        print(f"{path.name}: {badge(name, path.stem)}")


if __name__ == "__main__":
    main()
