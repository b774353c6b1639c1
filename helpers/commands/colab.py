"""Write where the repository lives into the notebooks: Colab badges and set-up cells.

python -m helpers.commands.colab owner/name     (make colab REPO=owner/name)

The one place that says it is pyproject.toml, [tool.colab]; the notebooks are stamped from it. A
set-up cell clones the commit that is checked out when this runs: push it, then commit what this has
written. Run it again after every change that readers in Colab should get.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "pyproject.toml"
BADGE = "https://colab.research.google.com/assets/colab-badge.svg"
OPEN = "https://colab.research.google.com/github/{name}/blob/main/notebooks/{notebook}.ipynb"


def settings():
    """{"repository": owner/name, "commit": its hash} of pyproject.toml; empty where not known."""
    return tomllib.loads(SETTINGS.read_text("utf-8"))["tool"]["colab"]


def badge(name, notebook):
    """The line of Markdown that opens a notebook of the repository owner/name in Colab."""
    return f"[![Open in Colab]({BADGE})]({OPEN.format(name=name, notebook=notebook)})"


def stamp(notebook, stem, name, commit):
    """Put the repository's name and commit into a notebook's badge and set-up cell.

    Args:
        notebook: an nbformat notebook, which is changed; stem: its file's name without .ipynb.
        name, commit: owner/name and a hash; empty ones clear.

    Raises: ValueError if the set-up cell does not have one line for each.
    """
    title = notebook.cells[0]
    setup = next(cell for cell in notebook.cells if cell.cell_type == "code")
    lines = [line for line in title.source.splitlines() if BADGE not in line]
    while lines and not lines[0]:
        lines.pop(0)
    title.source = "\n".join([badge(name, stem), "", *lines] if name else lines)
    address = f"https://github.com/{name}" if name else ""
    for variable, value in (("REPOSITORY", address), ("COMMIT", commit)):
        setup.source, count = re.subn(
            rf'^{variable} = "[^"]*"', f'{variable} = "{value}"', setup.source, flags=re.M)
        if count != 1:
            raise ValueError(
                f"The set-up cell of {stem} has {count} lines {variable} = ..., not one.")


def main():
    name = sys.argv[1] if len(sys.argv) == 2 else ""
    if not re.fullmatch(r"[A-Za-z0-9-]+/[A-Za-z0-9._-]+", name):
        sys.exit("Say whose repository and its name: make colab REPO=owner/name")
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True)
    if head.returncode:
        sys.exit("The set-up cells name a commit, and this folder is no git repository: "
                 "commit and push it first.")
    text, commit = SETTINGS.read_text("utf-8"), head.stdout.strip()
    for key, value in (("repository", name), ("commit", commit)):
        text = re.sub(rf'^{key} = "[^"]*"', f'{key} = "{value}"', text, flags=re.M)
    SETTINGS.write_text(text, "utf-8")
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        stamp(notebook, path.stem, name, commit)
        nbformat.write(notebook, path)
        print(f"{path.name}: {badge(name, path.stem)}")
    print(f"Colab will clone commit {commit[:12]}: push it, then commit and push what this wrote.")


if __name__ == "__main__":
    main()
