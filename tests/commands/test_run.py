"""`make run`: a bar with the time left, pictures as they are drawn, and no foreign warning."""

import re
import subprocess
import sys
import time

import nbformat
import pytest
from conftest import ROOT

from helpers.commands import run

SHOW_A_DOT = """from IPython.display import display
from PIL import Image
display(Image.new("RGB", (8, 8)))
"""
WAIT_FOR_ITS_FILE = """import time
from pathlib import Path
kept = Path("../build/lesson/01.jpeg")
for _ in range(100):
    time.sleep(0 if kept.exists() else 0.1)
assert kept.exists()
"""


@pytest.fixture
def lesson(tmp_path, monkeypatch):
    """A function that writes a notebook of these cells; its build/ is in a new folder, too."""
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(run, "BUILD", tmp_path / "build")
    run.NOTEBOOKS.mkdir()

    def write(*sources):
        cells = [nbformat.v4.new_code_cell(source) for source in sources]
        path = run.NOTEBOOKS / "lesson.ipynb"
        nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
        return path

    return write


def test_a_picture_is_kept_while_its_cell_still_runs_and_the_first_is_named(lesson, capfd):
    path = lesson("1", SHOW_A_DOT + WAIT_FOR_ITS_FILE, SHOW_A_DOT)
    run.run(path, save=False)
    said, warned = capfd.readouterr()
    assert said.count("First picture: build/lesson/01.jpeg") == 1
    # A bar is drawn ten times a second at most, so a quick cell may be passed over.
    assert re.search(r"lesson \|.*\| cell \d of 3, about \d\d:\d\d left", said)
    assert re.search(r"lesson.ipynb done in \d+ s: build/lesson.ipynb, 2 pictures", said)
    assert warned == ""  # of Jupyter's warnings, none
    kept = sorted(file.name for file in (run.BUILD / "lesson").glob("*.jpeg"))
    assert kept == ["01.jpeg", "02.jpeg"]
    assert nbformat.read(path, as_version=4).cells[0].execution_count is None  # not asked to save


def test_pictures_of_an_earlier_run_do_not_stay(lesson):
    old = run.BUILD / "lesson" / "07.png"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    run.run(lesson("1"), save=True)
    assert not old.exists()
    saved = nbformat.read(run.NOTEBOOKS / "lesson.ipynb", as_version=4)
    assert saved.cells[0].execution_count == 1 and saved.cells[0].metadata.seconds >= 0


def test_an_error_in_a_cell_is_shown_and_ends_the_run(lesson):
    with pytest.raises(SystemExit, match=r"(?s)lesson.ipynb has failed.*division by zero"):
        run.run(lesson("1 / 0", "2"), save=False)


def test_what_a_dying_kernel_says_is_shown(lesson):
    die = "import os\nos.write(2, b'not enough memory')\nos._exit(1)"
    with pytest.raises(SystemExit, match=r"(?s)The kernel of lesson.ipynb died.*not enough memory"):
        run.run(lesson(die), save=False)


def test_the_time_left_follows_from_saved_seconds_and_this_machines_pace():
    bar = run.Bar("lesson", [5, 15, 60, 20])
    assert bar.seconds_left() == pytest.approx(100, abs=1)
    bar.started -= 35  # as if the first two cells had taken 35 s
    bar.reached = time.monotonic()
    bar.n = 2
    assert bar.seconds_left() == pytest.approx((35 + 5) / (20 + 5) * 80, rel=0.02)
    bar.started -= 1000
    bar.reached -= 1000  # in a cell that takes longer than ever: the one after it is left
    assert bar.seconds_left() == pytest.approx((35 + 5) / (20 + 5) * 20, rel=0.02)
    bar.close()


def test_cleaning_drops_what_a_run_leaves_behind():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "VBox()"}
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", view)])
    cell.metadata = {"execution": {"started": "now"}, "tags": ["export"], "seconds": 0.2}
    dirty = nbformat.v4.new_notebook(cells=[cell])
    dirty.metadata = nbformat.from_dict(
        {"widgets": {"state": {}}, "kernelspec": {"name": "x", "display_name": "X"}})
    tidy = run.clean(dirty)
    assert "widgets" not in tidy.metadata and tidy.metadata.kernelspec.name == "python3"
    assert tidy.cells[0].metadata == {
        "tags": ["export"], "seconds": 0.2, "slideshow": {"slide_type": "subslide"}}
    assert tidy.cells[0].outputs == []


def test_a_name_that_no_notebook_has_is_refused():
    done = subprocess.run([sys.executable, "-m", "helpers.commands.run", "07"], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "There is no notebook whose name begins with 07.\n"
