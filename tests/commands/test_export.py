"""`make export`: from cells anywhere in a notebook to modules with the imports they need."""

import nbformat
import pytest

from helpers.commands import export

CELLS = [  # (tag, source), of a notebook with two modules
    ("lesson", "import time\n\nimport torch\nfrom torch import nn\n\nfrom helpers import images"),
    ("export-linear-model", "SEED = 1\n\n\ndef fit(x):\n    return torch.sum(x) + SEED"),
    ("lesson", "import math\nfrom helpers.losses import clip_loss, augment\nimages.show(fit(1))"),
    ("lesson", "def shown():\n    import json\n    return json"),
    ("export", "def edit(x, images):\n    return fit(augment(x)), math.pi, images, json"),
    ("export", "class Net(nn.Module):\n    steps = 3"),
]
EDIT = '''"""Method 1, latent optimization (arXiv 2103.17249, section 4).

Written by `make export` from notebooks/01_latent_optimization.ipynb: edit that.
"""

import math

from torch import nn

from helpers.losses import augment
from helpers.methods.linear_model import fit


def edit(x, images):
    return fit(augment(x)), math.pi, images, json


class Net(nn.Module):
    steps = 3
'''


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """The texts of the modules of notebook 1, {name: text}, were it made of `CELLS`."""
    cells = [nbformat.v4.new_code_cell(source, metadata={"tags": [tag]}) for tag, source in CELLS]
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells),
                   tmp_path / "notebooks" / "01_latent_optimization.ipynb")
    monkeypatch.setattr(export, "ROOT", tmp_path)
    return {module.name: export.exported(module) for module in export.MODULES[:2]}


def test_a_module_has_its_cells_and_the_imports_they_use(modules):
    """From any cell, and from the other module; not of what is imported in a function, nor for a
    parameter that has a module's name."""
    assert modules["optimization"] == EDIT


def test_the_first_module_does_not_import_the_second(modules):
    code = modules["linear_model"].split('"""\n\n')[1]
    assert code == f"import torch\n\n\n{CELLS[1][1]}\n"


def test_long_imports_are_broken_and_names_are_in_ruffs_order():
    names = ["augment", "IMAGENET_TEMPLATES", "Descent", "clip_loss", "z_long_name" * 6]
    text = export.import_statement("helpers.losses", names)
    assert text.startswith(
        "from helpers.losses import (\n    IMAGENET_TEMPLATES,\n    Descent,\n    augment,\n")
    assert max(map(len, text.splitlines())) <= export.COLUMNS
