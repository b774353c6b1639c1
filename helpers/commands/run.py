"""Run the notebooks top to bottom, headless.

python -m helpers.commands.run           leaves executed copies and their pictures in build/
python -m helpers.commands.run 02        only those whose names begin so
python -m helpers.commands.run --save    also saves the notebooks, with outputs and cleaned
python -m helpers.commands.run --solve   runs nothing: leaves copies with solutions in build/solved/
"""

import argparse
import base64
import re
import shutil
import sys
import threading
import time
import warnings
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build"
KEPT = ("tags", "jupyter", "cellView", "seconds")  # of a cell's metadata, when a notebook is saved
PICTURES = ("image/gif", "image/jpeg", "image/png")  # of an output in several forms, the first
WIDGET = "application/vnd.jupyter.widget-view+json"
HEADINGS = ("#", "[![Open in Colab]")


def clean(notebook):
    """Drop what differs from run to run or breaks a viewer: widget state, the kernel's version.

    Each cell is told its place in a slide show: a heading opens a slide, the rest lies below it.
    The seconds that each cell took stay, for the time left that `make run` shows.
    """
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {key: value for key, value in cell.metadata.items() if key in KEPT}
        heading = cell.cell_type == "markdown" and cell.source.startswith(HEADINGS)
        set_up = cell.source.startswith("#@title")
        kind = "slide" if heading else "skip" if set_up else "subslide"
        cell.metadata["slideshow"] = {"slide_type": kind}
        if cell.cell_type == "code":  # a saved widget shows nothing; a picture follows each panel
            cell.outputs = [output for output in cell.outputs
                            if WIDGET not in output.get("data", {})]
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


class Bar(tqdm):
    """A bar by cells. The time left follows from the seconds that each cell took when it was saved.

    Args:
        seconds: of each code cell; this machine's pace is measured as the cells go by.
    """

    def __init__(self, name, seconds):
        self.seconds, self.started, self.reached = seconds, time.monotonic(), time.monotonic()
        super().__init__(total=len(seconds), desc=name, ncols=88, leave=False, file=sys.stdout,
                         bar_format="{desc} |{bar}| cell {n_fmt} of {total_fmt}, about {left} left")

    def next_cell(self):
        """Count a cell as done. Returns: the seconds it took."""
        before, self.reached = self.reached, time.monotonic()
        self.update()
        return self.reached - before

    def seconds_left(self):
        """How long the cells that are not done will take."""
        done, ahead = sum(self.seconds[:self.n]), self.seconds[self.n:]
        # The first cells are too short to tell this machine's pace: 5 seconds stand in for them.
        pace = (self.reached - self.started + 5) / (done + 5)
        current = max(0, pace * sum(ahead[:1]) - (time.monotonic() - self.reached))
        return current + pace * sum(ahead[1:])

    def tick(self):
        """Draw the bar anew inside long cells: every second on a screen, seldom in a file."""
        while not self.disable:  # as it is once the bar is closed
            time.sleep(1 if sys.stdout.isatty() else 30)
            self.refresh()

    @property
    def format_dict(self):
        """What tqdm fills `bar_format` with."""
        return super().format_dict | {"left": self.format_interval(self.seconds_left())}


class NotebookRun(NotebookClient):
    """Runs a notebook with a bar, and keeps each picture in build/NAME/ as soon as it is drawn."""

    def __init__(self, notebook, name):
        super().__init__(notebook, timeout=1200, kernel_name="python3",
                         resources={"metadata": {"path": NOTEBOOKS}})
        self.folder, self.pictures = BUILD / name, 0
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.log_file = self.folder / "kernel.log"
        cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
        self.bar = Bar(name, [cell.metadata.get("seconds", 1) for cell in cells])

    def run(self):
        """Run all cells. What the kernel itself says goes to build/NAME/kernel.log."""
        with self.log_file.open("wb") as log, self.bar, self.setup_kernel(stderr=log):
            threading.Thread(target=self.bar.tick, daemon=True).start()
            for i, cell in enumerate(self.nb.cells):
                if cell.cell_type == "code":
                    self.execute_cell(cell, i, execution_count=self.code_cells_executed + 1)
                    cell.metadata["seconds"] = round(self.bar.next_cell(), 1)

    def output(self, outs, msg, display_id, cell_index):
        """Called by nbclient with each message that becomes an output."""
        output = super().output(outs, msg, display_id, cell_index)
        data = output.get("data", {}) if output else {}
        for kind in PICTURES:
            if kind in data:
                self.keep(base64.b64decode(data[kind]), kind.split("/")[1])
                break
        return output

    def keep(self, content, kind):
        """Write a picture to build/NAME/, and say where the first one is."""
        self.pictures += 1
        path = self.folder / f"{self.pictures:02d}.{kind}"
        path.write_bytes(content)
        if self.pictures == 1:
            self.bar.write(f"First picture: {path.relative_to(ROOT)}", file=sys.stdout)


def run(path, save):
    """Run one notebook into build/, and save it if that is asked for."""
    started = time.monotonic()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookRun(notebook, path.stem)
    try:
        client.run()
    except CellExecutionError as error:
        sys.exit(f"{path.name} has failed:\n{error}")
    except DeadKernelError:
        said = client.log_file.read_text("utf-8", "replace")
        sys.exit(f"The kernel of {path.name} died (out of memory?). It said:\n{said}")
    except KeyboardInterrupt:
        sys.exit(f"{path.name} was stopped. Its pictures so far are in build/{path.stem}/")
    clean(notebook)
    nbformat.write(notebook, BUILD / path.name)
    if save:
        nbformat.write(notebook, path)
    print(f"{path.name} done in {time.monotonic() - started:.0f} s: build/{path.name}, "
          f"{client.pictures} pictures in build/{path.stem}/", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help="save the notebooks too")
    parser.add_argument("--solve", action="store_true", help="only write copies with solutions")
    parser.add_argument("names", nargs="*", default=[""], help="beginnings of the notebooks' names")
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # of Jupyter's packages: no code of ours runs in this process
    beginnings = tuple(options.names)
    paths = [path for path in sorted(NOTEBOOKS.glob("*.ipynb")) if path.name.startswith(beginnings)]
    if not paths:
        sys.exit(f"There is no notebook whose name begins with {' or '.join(beginnings)}.")
    for path in paths:
        if options.solve:
            (BUILD / "solved").mkdir(parents=True, exist_ok=True)
            solved = solve(nbformat.read(path, as_version=4))
            nbformat.write(solved, BUILD / "solved" / path.name)
        else:
            run(path, options.save)


if __name__ == "__main__":
    main()
