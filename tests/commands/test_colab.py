"""What Colab does with a notebook: an empty folder, its own packages, a set-up cell; the badges."""

import json
import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from conftest import ROOT

from helpers.commands import colab

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize(
    ("name", "commit"), [("someone/styleclip-notebooks", "0123abcd" * 5), ("", "")])
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stamping_writes_badge_address_and_commit_and_can_be_repeated(path, name, commit):
    notebook = nbformat.read(path, as_version=4)
    for _ in range(2):
        colab.stamp(notebook, path.stem, name, commit)
    title, setup = notebook.cells[0].source, notebook.cells[1].source
    assert title.count("colab-badge") == bool(name)
    assert f'REPOSITORY = "{f"https://github.com/{name}" if name else ""}"' in setup
    assert f'COMMIT = "{commit}"' in setup
    if name:
        assert f"colab.research.google.com/github/{name}/blob/main/notebooks/{path.name}" in title
    assert title.splitlines()[2 if name else 0].startswith("# ")


def test_a_set_up_cell_without_an_address_to_fill_is_refused():
    cells = [nbformat.v4.new_markdown_cell("# Title"), nbformat.v4.new_code_cell("import torch")]
    with pytest.raises(ValueError, match="0 lines REPOSITORY"):
        colab.stamp(nbformat.v4.new_notebook(cells=cells), "x", "owner/name", "")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebooks_say_what_pyproject_says(path):
    notebook = nbformat.read(path, as_version=4)
    before = [cell.source for cell in notebook.cells]
    settings = colab.settings()
    colab.stamp(notebook, path.stem, settings["repository"], settings["commit"])
    assert [cell.source for cell in notebook.cells] == before, "run make colab REPO=owner/name"


@pytest.mark.parametrize("name", ["", "no-slash", "a/b/c", 'a/b"; import os'])
def test_a_wrong_name_is_refused(name):
    command = [sys.executable, "-m", "helpers.commands.colab", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "make colab REPO=owner/name" in done.stderr


@pytest.fixture
def colab_machine(tmp_path):
    """An empty folder, a fake google.colab, a repository to clone, and a pip that takes notes."""
    (tmp_path / "site/google/colab").mkdir(parents=True)
    (tmp_path / "site/google/colab/__init__.py").write_text("")
    (tmp_path / "site/pip").mkdir()
    (tmp_path / "site/pip/__init__.py").write_text("")
    (tmp_path / "site/pip/__main__.py").write_text(
        "import json, sys\n"
        f"open({str(tmp_path / 'asked.json')!r}, 'w').write(json.dumps(sys.argv[1:]))\n")
    (tmp_path / "content").mkdir()
    origin = tmp_path / "origin"
    shutil.copytree(ROOT / "helpers", origin / "helpers",
                    ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", origin)
    git = ["git", "-C", str(origin), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"],
                    ["mv", "helpers", "later"], ["commit", "-qm", "y"]):
        subprocess.run([*git, *command], check=True)
    return tmp_path


def run_setup(machine, absent=()):
    """Run notebook 1's set-up cell, stamped, in the empty folder; some modules seem absent.

    The repository's newest commit has no helpers any more: the cell has to take the one it names.
    Returns: what pip was asked for, or None.
    """
    notebook = nbformat.read(NOTEBOOKS[0], as_version=4)
    first = subprocess.run(["git", "-C", machine / "origin", "rev-parse", "HEAD~"],
                           capture_output=True, text=True)
    colab.stamp(notebook, NOTEBOOKS[0].stem, "owner/name", first.stdout.strip())
    address = "https://github.com/owner/name"
    cell = notebook.cells[1].source.replace(address, str(machine / "origin"))
    hide = ("import importlib.util\nfind = importlib.util.find_spec\n"
            "importlib.util.find_spec = lambda name, *a: "
            f"None if name in {tuple(absent)!r} else find(name, *a)\n")
    check = ("\nimport google.colab, helpers, torch, numpy, ipywidgets\n"
             "print(root, helpers.__file__, torch.__version__, numpy.__version__)\n")
    done = subprocess.run([sys.executable, "-c", hide + cell + check], cwd=machine / "content",
                          text=True, capture_output=True,
                          env=os.environ | {"PYTHONPATH": str(machine / "site")})
    assert done.returncode == 0, done.stderr
    assert str(machine / "content" / "styleclip" / "helpers") in done.stdout
    asked = machine / "asked.json"
    return json.loads(asked.read_text()) if asked.exists() else None


def test_the_set_up_cell_clones_and_installs_only_what_is_missing(colab_machine):
    assert run_setup(colab_machine) is None  # all there: pip is not even asked
    assert (colab_machine / "content/styleclip/helpers/stylegan2.py").exists()
    asked = run_setup(colab_machine, absent=("clip", "defusedxml"))  # again: the clone is taken
    assert asked == ["install", "-q", "clip-anytorch==2.6.0", "defusedxml==0.7.1"]
    assert not {"-U", "--upgrade", "torch", "numpy", "ipywidgets"} & set(asked)


def test_without_an_address_the_set_up_cell_says_what_to_do(tmp_path):
    cell = nbformat.read(NOTEBOOKS[0], as_version=4).cells[1].source
    if colab.settings()["repository"]:
        pytest.skip("the notebooks are stamped with an address")
    done = subprocess.run([sys.executable, "-c", cell], cwd=tmp_path, text=True,
                          capture_output=True)
    assert done.returncode == 1 and "Put the address of your copy" in done.stderr
