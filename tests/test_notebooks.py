"""The committed notebooks: one real run, small, and readable everywhere."""

import ast
import os
import re
import runpy
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from nvidia_format import nvidia_pickle, nvidia_state
from safetensors.torch import save_file

from helpers.domains import CLIPS
from helpers.fetching import sha256_of

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param, nbformat.read(request.param, as_version=4)


def test_is_small_and_has_no_widget_state(notebook):
    path, content = notebook
    assert path.stat().st_size < 900_000
    assert "widgets" not in content.metadata


def test_outputs_are_of_one_run_top_to_bottom(notebook):
    cells = [cell for cell in notebook[1].cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert "error" not in kinds and "display_data" in kinds


def test_names_no_path_of_the_machine_it_ran_on(notebook):
    text = nbformat.writes(notebook[1])
    assert str(ROOT) not in text and "/site-packages/" not in text


def test_cells_are_short(notebook):
    for cell in notebook[1].cells:
        if cell.cell_type == "code":
            lines = cell.source.splitlines()
            assert len(lines) <= 25 and max(map(len, lines)) <= 110, cell.source[:60]


def test_shows_pictures_as_jpeg_and_asserts_its_claims(notebook):
    cells = [cell for cell in notebook[1].cells if cell.cell_type == "code"]
    kinds = {kind for cell in cells for output in cell.outputs for kind in output.get("data", {})}
    assert "image/jpeg" in kinds and "image/png" not in kinds
    asserts = [node for cell in cells for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Assert)]
    assert len(asserts) >= 6


def test_folded_solutions_hold_code_that_parses(notebook):
    solutions = [code for cell in notebook[1].cells if cell.cell_type == "markdown"
                 for part in re.findall(r"<details>(.*?)</details>", cell.source, re.S)
                 for code in re.findall(r"```python\n(.*?)```", part, re.S)]
    assert len(solutions) == 3
    for code in solutions:
        ast.parse(code)


def test_the_exported_methods_are_the_notebooks_cells():
    export = runpy.run_path(str(ROOT / "notebooks" / "export.py"))
    for stem, (module, _) in export["MODULES"].items():
        written = (ROOT / "helpers" / "methods" / f"{module}.py").read_text("utf-8")
        assert written == export["exported"](stem), f"{module}.py differs from {stem}.ipynb: run `make export`"


def test_every_picture_has_a_text_of_its_own(notebook):
    """What `show` displays says in words what is to be seen; figures of matplotlib have titles and axes."""
    shown = [output for cell in notebook[1].cells if "show(" in cell.source and cell.cell_type == "code"
             for output in cell.outputs if output.output_type == "display_data" and "plt.show" not in cell.source]
    assert shown and all(output.metadata.get(kind, {}).get("alt") for output in shown for kind in output.data
                         if kind.startswith("image/"))


def test_all_notebooks_begin_with_the_same_set_up_cell():
    first = {next(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
             for path in NOTEBOOKS}
    assert len(first) == 1 and "REPOSITORY" in first.pop()


def test_cleaning_drops_what_a_run_leaves_behind():
    clean = runpy.run_path(str(ROOT / "notebooks" / "run.py"))["clean"]
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "text/plain": "VBox()"}
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("display_data", dict(view))])
    cell.metadata = {"execution": {"started": "now"}, "tags": ["nbval-check-output"]}
    dirty = nbformat.v4.new_notebook(cells=[cell])
    dirty.metadata = nbformat.from_dict({"widgets": {"state": {}}, "kernelspec": {"name": "x", "display_name": "X"}})
    tidy = clean(dirty)
    assert "widgets" not in tidy.metadata and tidy.cells[0].metadata == {
        "tags": ["nbval-check-output"], "slideshow": {"slide_type": "subslide"}}
    assert tidy.cells[0].outputs == []


CELLS = {  # a notebook of each kind: the source of a cell, and what it printed when it was saved
    "good": ("print('[1, 3, 64, 64]')\nassert 0.9 > 0.8", "[1, 3, 64, 64]\n"),
    "wrong_assertion": ("print('[1, 3, 64, 64]')\nassert 0.7 > 0.8", "[1, 3, 64, 64]\n"),
    "wrong_shape": ("print('[1, 3, 64, 64]')\nassert 0.9 > 0.8", "[1, 3, 32, 32]\n"),
    "exception": ("print('[1, 3, 64, 64]')\nprint(missing)", "[1, 3, 64, 64]\n"),
}


def test_make_test_sees_a_notebook_that_is_wrong(tmp_path):
    """The test of the notebooks' test: `make test` runs them with these very options of pytest."""
    options = re.search(r"-m pytest (.*) tests build/solved$", (ROOT / "Makefile").read_text("utf-8"), re.M)[1]
    for name, (source, printed) in CELLS.items():
        free = nbformat.v4.new_code_cell("import time\nprint(time.time())", execution_count=1, outputs=[
            nbformat.v4.new_output("stream", text="a figure that differs from machine to machine\n")])
        checked = nbformat.v4.new_code_cell(source, execution_count=2, metadata={"tags": ["nbval-check-output"]},
                                            outputs=[nbformat.v4.new_output("stream", text=printed)])
        nbformat.write(nbformat.v4.new_notebook(cells=[free, checked]), tmp_path / f"{name}.ipynb")
    done = subprocess.run([sys.executable, "-m", "pytest", *options.split(), str(tmp_path)], cwd=ROOT, text=True,
                          capture_output=True)
    assert set(re.findall(r"^FAILED \S*?(\w+)\.ipynb::Cell 1", done.stdout, re.M)) == set(CELLS) - {"good"}, done.stdout
    assert done.returncode == 1 and "3 failed, 5 passed" in done.stdout


class Shorter(ast.NodeTransformer):
    """Code with few steps, images and repetitions wherever it says how many."""

    FEW = {"steps": 10, "count": 100, "repeats": 2, "gradient_images": 8}

    def shorten(self, source):
        return ast.unparse(self.visit(ast.parse(source)))

    def fewer(self, name, node):
        if name in self.FEW and isinstance(node, ast.Constant):
            node.value = min(node.value or 1000, self.FEW[name])  # None: the domain says how many

    def visit_keyword(self, node):
        self.fewer(node.arg, node.value)
        return self.generic_visit(node)

    def visit_arguments(self, node):
        for names, defaults in ((node.args[len(node.args) - len(node.defaults):], node.defaults),
                                (node.kwonlyargs, node.kw_defaults)):
            for argument, default in zip(names, defaults):
                self.fewer(argument.arg, default)
        return self.generic_visit(node)

    def visit_Assign(self, node):
        self.fewer(getattr(node.targets[0], "id", None), node.value)
        return self.generic_visit(node)


@pytest.fixture(scope="module")
def photographs(domain, tmp_path_factory):
    """The project in short, and a cache with the avatars' networks in the published formats, as "afhqwild"."""
    folder = tmp_path_factory.mktemp("photographs")
    for name in ("notebooks", "cache"):
        (folder / name).mkdir()
    (folder / "data").symlink_to(ROOT / "data")
    clip = folder / "cache" / CLIPS["ViT-B/32"][0].name
    save_file({name: value.contiguous() for name, value in domain.clip.model.state_dict().items()}, clip)
    for path in (ROOT / "helpers").rglob("*.py"):
        place = folder / path.relative_to(ROOT)
        place.parent.mkdir(exist_ok=True)
        code = path.read_text("utf-8").replace(CLIPS["ViT-B/32"][0].sha256, sha256_of(clip))
        place.write_text(Shorter().shorten(code), "utf-8")
    for path in NOTEBOOKS:
        content = nbformat.read(path, as_version=4)
        for cell in content.cells:
            if cell.cell_type == "code":
                cell.source, cell.outputs = Shorter().shorten(cell.source), []
        nbformat.write(content, folder / "notebooks" / path.name)
    (folder / "cache" / "afhqwild.pkl").write_bytes(nvidia_pickle(
        nvidia_state(domain.generator), mapping_lr=domain.generator.config["mapping_lr"]))
    return folder


@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS])
def test_runs_on_photographs(name, photographs):
    """Every cell on a published domain, which has no identity network, judge, samples or sweep; with few steps.

    (As avatars, with all steps and the solutions, `make test` runs the notebooks in nbval.)
    """
    content = nbformat.read(photographs / "notebooks" / name, as_version=4)
    client = NotebookClient(content, timeout=300, kernel_name="python3",
                            resources={"metadata": {"path": photographs / "notebooks"}})
    client.execute(env=os.environ | {"STYLECLIP_CACHE": str(photographs / "cache"), "STYLECLIP_DOMAIN": "afhqwild"})
    text = "".join(output.get("text", "") for cell in content.cells for output in cell.get("outputs", ()))
    assert "Domain: afhqwild" in text and "No identity network" in text


def test_cells_that_are_compared_print_nothing_a_machine_may_change(notebook):
    """Shapes, names and counts: none of these cells measures a time or a share."""
    checked = [cell for cell in notebook[1].cells if "nbval-check-output" in cell.metadata.get("tags", ())]
    assert checked and not any(re.search(r"perf_counter|%}", cell.source) for cell in checked)


def test_solutions_become_cells_that_run(notebook):
    solve = runpy.run_path(str(ROOT / "notebooks" / "run.py"))["solve"]
    before = [cell for cell in notebook[1].cells if cell.cell_type == "code"]
    after = [cell for cell in solve(notebook[1]).cells if cell.cell_type == "code"]
    assert len(after) == len(before) + 3 and after[-3:] != before[-3:]


def test_slides_begin_at_headings(notebook):
    for cell in notebook[1].cells:
        kind = cell.metadata["slideshow"]["slide_type"]
        heading = cell.cell_type == "markdown" and cell.source.startswith(("#", "[![Open in Colab]"))
        assert (kind == "slide") == heading
    assert sum(cell.metadata["slideshow"]["slide_type"] == "skip" for cell in notebook[1].cells) == 2  # set-up, imports
