"""Run the notebooks top to bottom, headless.

python notebooks/run.py            leaves executed copies and their pictures in build/
python notebooks/run.py 02         only those whose names begin so
python notebooks/run.py --save     also saves the notebooks here, with outputs and without a run's traces
python notebooks/run.py --solve    runs nothing: leaves copies with the exercises' solutions as cells in build/solved/
"""

import argparse
import base64
import re
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).resolve().parent
BUILD = HERE.parent / "build"


def clean(notebook):
    """Drop what differs from run to run or breaks a viewer: widget state, timings, the kernel's version.

    Each cell is told its place in a slide show: a heading opens a slide, what follows lies below it.
    """
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
                         "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in ("tags", "jupyter", "cellView")}
        heading = cell.cell_type == "markdown" and cell.source.startswith(("#", "[![Open in Colab]"))
        imports = "\nimport " in cell.source
        kind = "slide" if heading else "skip" if imports else "subslide"
        cell.metadata["slideshow"] = {"slide_type": kind}
        if cell.cell_type == "code":  # a saved widget shows nothing; the picture that follows each panel does
            cell.outputs = [output for output in cell.outputs
                            if "application/vnd.jupyter.widget-view+json" not in output.get("data", {})]
    return notebook


def solve(notebook):
    """Put the folded solutions of the exercises behind their cell, as cells that run."""
    cells = []
    for cell in notebook.cells:
        cells.append(cell)
        if cell.cell_type == "markdown":
            for folded in re.findall(r"<details>(.*?)</details>", cell.source, re.S):
                for code in re.findall(r"```python\n(.*?)```", folded, re.S):
                    cells.append(nbformat.v4.new_code_cell(code))
    notebook.cells = cells
    return notebook


def save_pictures(notebook, folder):
    """Write every picture of the outputs to `folder`; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            for kind, content in output.get("data", {}).items():
                if kind in ("image/jpeg", "image/png", "image/gif"):
                    count += 1
                    (folder / f"{count:02d}.{kind.split('/')[1]}").write_bytes(base64.b64decode(content))
    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="save the notebooks here too")
    parser.add_argument("--solve", action="store_true", help="only write copies with the solutions as cells")
    parser.add_argument("names", nargs="*", default=[""], help="beginnings of the notebooks' names")
    options = parser.parse_args()
    for path in sorted(path for path in HERE.glob("*.ipynb") if path.name.startswith(tuple(options.names))):
        if options.solve:
            (BUILD / "solved").mkdir(parents=True, exist_ok=True)
            nbformat.write(solve(nbformat.read(path, as_version=4)), BUILD / "solved" / path.name)
            continue
        started = time.time()
        print(f"Running {path.name} ...", flush=True)
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": HERE}}).execute()
        pictures = save_pictures(notebook, BUILD / path.stem)
        clean(notebook)
        nbformat.write(notebook, BUILD / path.name)
        if options.save:
            nbformat.write(notebook, path)
        print(f"  done in {time.time() - started:.0f} s: build/{path.name}, {pictures} pictures in build/{path.stem}/")


if __name__ == "__main__":
    sys.exit(main())
