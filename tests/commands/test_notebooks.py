"""The committed notebooks: one real run, small, and readable everywhere."""

import ast
import json
import os
import re
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient
from nvidia_format import nvidia_pickle, nvidia_state
from safetensors.torch import save_file

from helpers.commands import export, run
from helpers.domains import CLIPS

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param, nbformat.read(request.param, as_version=4)


def code_cells(content):
    return [cell for cell in content.cells if cell.cell_type == "code"]


def outputs_of(content):
    return [output for cell in code_cells(content) for output in cell.outputs]


def test_is_small_and_has_no_widget_state(notebook):
    path, content = notebook
    assert path.stat().st_size < 900_000
    assert "widgets" not in content.metadata


def test_outputs_are_of_one_run_top_to_bottom(notebook):
    cells = code_cells(notebook[1])
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output.output_type for output in outputs_of(notebook[1])}
    assert "error" not in kinds and "display_data" in kinds


def test_says_how_long_each_cell_takes(notebook):
    """`make run` knows the time left from these."""
    seconds = [cell.metadata.seconds for cell in code_cells(notebook[1])]
    assert min(seconds) >= 0 and sum(seconds) > 10


def test_names_no_path_of_the_machine_it_ran_on(notebook):
    text = nbformat.writes(notebook[1])
    assert str(ROOT) not in text and "/site-packages/" not in text


def test_cells_are_short(notebook):
    for cell in code_cells(notebook[1]):
        lines = cell.source.splitlines()
        most = 40 if "standalone" in cell.metadata.get("tags", ()) else 25  # the cell to copy
        assert len(lines) <= most and max(map(len, lines)) <= 100, cell.source[:60]


def test_shows_pictures_as_jpeg_and_asserts_its_claims(notebook):
    kinds = {kind for output in outputs_of(notebook[1]) for kind in output.get("data", {})}
    assert "image/jpeg" in kinds and "image/png" not in kinds
    code = "\n".join(cell.source for cell in code_cells(notebook[1]))
    asserts = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Assert)]
    assert len(asserts) >= 6


def test_folded_solutions_become_cells_that_run(notebook):
    before = code_cells(notebook[1])
    after = code_cells(run.solve(notebook[1]))
    assert len(after) == len(before) + 3 and after[-3:] != before[-3:]
    for cell in after[-3:]:
        ast.parse(cell.source)


@pytest.mark.parametrize("module", export.MODULES, ids=lambda module: module.name)
def test_the_exported_methods_are_the_notebooks_cells(module):
    written = (ROOT / "helpers" / "methods" / f"{module.name}.py").read_text("utf-8")
    assert written == export.exported(module), f"{module.name}.py is another: run `make export`"


def test_every_picture_has_a_text_of_its_own(notebook):
    """What `show` displays says in words what is to be seen; figures have titles and axes."""
    cells = [cell for cell in code_cells(notebook[1])
             if "show(" in cell.source and "plt.show" not in cell.source]
    shown = [output for cell in cells for output in cell.outputs
             if output.output_type == "display_data"]
    assert shown
    for output in shown:
        for kind in output.data:
            assert not kind.startswith("image/") or output.metadata.get(kind, {}).get("alt")


def test_all_notebooks_begin_with_the_same_set_up_cell():
    first = {code_cells(nbformat.read(path, as_version=4))[0].source for path in NOTEBOOKS}
    assert len(first) == 1 and "REPOSITORY" in first.pop()


def test_slides_begin_at_headings(notebook):
    kinds = []
    for cell in notebook[1].cells:
        kinds.append(cell.metadata["slideshow"]["slide_type"])
        heading = cell.cell_type == "markdown" and cell.source.startswith(run.HEADINGS)
        assert (kinds[-1] == "slide") == heading
    assert kinds.count("skip") == 1  # the set-up cell


def test_cells_that_are_compared_print_nothing_a_machine_may_change(notebook):
    """Shapes, names and counts: none of these cells measures a time or a share."""
    checked = [cell for cell in code_cells(notebook[1])
               if "nbval-check-output" in cell.metadata.get("tags", ())]
    assert checked
    assert not any(re.search(r"perf_counter|%}", cell.source) for cell in checked)


CELLS = {  # a notebook of each kind: the source of a cell, and what it printed when it was saved
    "good": ("print('[1, 3, 64, 64]')\nassert 0.9 > 0.8", "[1, 3, 64, 64]\n"),
    "wrong_assertion": ("print('[1, 3, 64, 64]')\nassert 0.7 > 0.8", "[1, 3, 64, 64]\n"),
    "wrong_shape": ("print('[1, 3, 64, 64]')\nassert 0.9 > 0.8", "[1, 3, 32, 32]\n"),
    "exception": ("print('[1, 3, 64, 64]')\nprint(missing)", "[1, 3, 64, 64]\n"),
}


def test_make_test_sees_a_notebook_that_is_wrong(tmp_path):
    """The test of the notebooks' test: `make test` runs them with these very options of pytest."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    options = re.search(r"-m pytest (.*) tests build/solved$", makefile, re.M)[1]
    for name, (source, printed) in CELLS.items():
        changing = nbformat.v4.new_output("stream", text="differs from machine to machine\n")
        free = nbformat.v4.new_code_cell("import time\nprint(time.time())", execution_count=1,
                                         outputs=[changing])
        saved = nbformat.v4.new_output("stream", text=printed)
        checked = nbformat.v4.new_code_cell(source, execution_count=2, outputs=[saved],
                                            metadata={"tags": ["nbval-check-output"]})
        content = nbformat.v4.new_notebook(cells=[free, checked])
        nbformat.write(content, tmp_path / f"{name}.ipynb")
    command = [sys.executable, "-m", "pytest", *options.split(), str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True)
    failed = set(re.findall(r"^FAILED \S*?(\w+)\.ipynb::Cell 1", done.stdout, re.M))
    assert failed == set(CELLS) - {"good"}, done.stdout
    assert done.returncode == 1 and "3 failed, 5 passed" in done.stdout


class Shorter(ast.NodeTransformer):
    """A notebook's code with few steps, images and repetitions wherever it says how many."""

    FEW = {"steps": 10, "count": 100, "repeats": 2, "gradient_images": 8}

    def fewer(self, name, node):
        if name in self.FEW and isinstance(node, ast.Constant) and node.value is not None:
            node.value = min(node.value, self.FEW[name])

    def visit_keyword(self, node):
        self.fewer(node.arg, node.value)
        return self.generic_visit(node)

    def visit_Assign(self, node):
        self.fewer(getattr(node.targets[0], "id", None), node.value)
        return self.generic_visit(node)


# The domain's settings in short, as a file that `load_domain` takes up; anyone's CLIP will do.
FEW_STEPS = {
    "encoding": {"steps": [10, "in short"]},
    "linear_model": {"samples": [400, "in short"]},
    "optimization": {"steps": [10, "in short"]},
    "mapper": {"steps": [10, "in short"], "training_latents": [100, "in short"]},
    "directions": {"images": [10, "in short"], "gradient_images": [8, "in short"]},
}
ANY_CLIP = """from dataclasses import replace
from helpers.domains import CLIPS
CLIPS["ViT-B/32"] = (replace(CLIPS["ViT-B/32"][0], sha256=None),)"""


@pytest.fixture(scope="module")
def in_short(domain, tmp_path_factory):
    """A folder with the notebooks in short; a cache with the avatars' networks as "afhqwild"."""
    folder = tmp_path_factory.mktemp("in_short")
    for name in ("notebooks", "cache", "cache/settings"):
        (folder / name).mkdir()
    for name in ("helpers", "data"):
        (folder / name).symlink_to(ROOT / name)
    for path in NOTEBOOKS:
        content = nbformat.read(path, as_version=4)
        for cell in code_cells(content):
            cell.source = ast.unparse(Shorter().visit(ast.parse(cell.source)))
            cell.outputs = []
        place = content.cells.index(code_cells(content)[0])
        content.cells.insert(place + 1, nbformat.v4.new_code_cell(ANY_CLIP))
        nbformat.write(content, folder / "notebooks" / path.name)
    cache = folder / "cache"
    clip = domain.clip.model.state_dict()
    save_file({name: value.contiguous() for name, value in clip.items()},
              cache / CLIPS["ViT-B/32"][0].name)
    pickled = nvidia_pickle(nvidia_state(domain.generator),
                            mapping_lr=domain.generator.config["mapping_lr"])
    (cache / "afhqwild.pkl").write_bytes(pickled)
    for name in ("afhqwild--ViT-B-32", "cats--its-own"):
        (cache / "settings" / f"{name}.json").write_text(json.dumps(FEW_STEPS))
    return folder


@pytest.mark.parametrize("domain_name", ["afhqwild", "cats"])
@pytest.mark.parametrize("name", [path.name for path in NOTEBOOKS])
def test_runs_where_there_are_no_people(name, domain_name, in_short):
    """Every cell on a published domain without classifier, samples or sweep, and on the cats; both
    have no identity network.

    (As avatars, with all steps and the solutions, `make test` runs the notebooks in nbval.)
    """
    content = nbformat.read(in_short / "notebooks" / name, as_version=4)
    client = NotebookClient(content, timeout=300, kernel_name="python3",
                            resources={"metadata": {"path": in_short / "notebooks"}})
    with open(os.devnull, "w") as nowhere:
        client.execute(stderr=nowhere, env=os.environ | {
            "STYLECLIP_CACHE": str(in_short / "cache"), "STYLECLIP_DOMAIN": domain_name})
    text = "".join(output.get("text", "") for output in outputs_of(content))
    assert f"Domain: {domain_name}" in text and "No identity network" in text
    assert "in short" in text  # as the settings that the notebook prints say of themselves
