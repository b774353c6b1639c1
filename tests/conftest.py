"""Fixtures that many tests share."""

import ast
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"


def golden(name, tensors=True):
    """The arrays of a file in tests/golden/, by the authors' code, {key: tensor or array}."""
    arrays = np.load(GOLDEN / f"{name}.npz")
    return {key: torch.from_numpy(value) if tensors else value for key, value in arrays.items()}


def standalone_cell(notebook):
    """The source of a notebook's cell to copy."""
    content = nbformat.read(ROOT / "notebooks" / notebook, as_version=4)
    [found] = [cell for cell in content.cells if "standalone" in cell.metadata.get("tags", ())]
    return found.source


def standalone_imports(notebook):
    """The packages that the cell to copy imports, a set of names; it has 40 lines at most."""
    source = standalone_cell(notebook)
    assert len(source.splitlines()) <= 40
    nodes = list(ast.walk(ast.parse(source)))
    assert not any(isinstance(node, ast.ImportFrom) for node in nodes)
    return {alias.name.split(".")[0] for node in nodes if isinstance(node, ast.Import)
            for alias in node.names}


@pytest.fixture
def small_clip():
    """OpenAI's class with random weights, of a size that no published one has."""
    from helpers.clip_model import CLIP
    torch.manual_seed(0)
    return CLIP(16, 32, 1, 64, 16, 77, 49408, 64, 1, 1).eval()


@pytest.fixture(scope="session")
def domain():
    from helpers.domains import load_domain
    return load_domain("avatars", "cpu")


@pytest.fixture
def toy():
    """A domain whose numbers can be computed by hand, and which has computed none yet."""
    from toy import toy_domain
    return toy_domain()


@pytest.fixture
def face_found(monkeypatch):
    """A face is found in every photograph, without dlib: always in the same square of 64 pixels."""
    corners = np.array([[20.0, 20.0], [20.0, 84.0], [84.0, 84.0], [84.0, 20.0]])
    monkeypatch.setattr("helpers.photographs.face_landmarks", lambda picture, say, face: None)
    monkeypatch.setattr("helpers.photographs.face_square", lambda landmarks: corners)


@pytest.fixture(scope="session")
def faces(domain):
    """Four latents of random faces, [4, L, w_dim]."""
    generator = domain.generator
    noise = torch.randn(4, generator.z_dim, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return generator.broadcast(generator.map(noise, truncation=0.7))


def pytest_unconfigure(config):
    """Say in the last line of all, below pytest's summary, what was not tested here and why."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if skipped:
        reasons = {f"{report.nodeid} ({report.longrepr[2].removeprefix('Skipped: ')})"
                   for report in skipped}
        reporter.write_line(f"Not tested here: {'; '.join(sorted(reasons))}")
