"""Fixtures that many tests share."""

import ast
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT.parent / "shared" / "golden"


def golden(name):
    """An array file computed by the original authors' code; the test skips where it is absent."""
    path = GOLDEN / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"golden arrays are not here ({path.name})")
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(path).items()}


def notebook_functions(name):
    """The functions, classes, imports and upper-case constants of a notebook, without running the rest of it."""
    cells = nbformat.read(ROOT / "notebooks" / name, as_version=4).cells
    kept = []
    for cell in cells:
        if cell.cell_type == "code":
            for node in ast.parse(cell.source).body:
                constant = isinstance(node, ast.Assign) and all(
                    isinstance(target, ast.Name) and target.id.isupper() for target in node.targets)
                if constant or isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
                    kept.append(node)
    space = {"__name__": name.removesuffix(".ipynb")}
    exec(compile(ast.Module(kept, []), name, "exec"), space)
    return space


@pytest.fixture(scope="session")
def domain():
    from helpers.domains import load_domain
    return load_domain("avatars", "cpu")


@pytest.fixture(scope="session")
def method1():
    return notebook_functions("01_latent_optimization.ipynb")


@pytest.fixture(scope="session")
def faces(domain):
    """Four latents of random faces, [4, L, w_dim]."""
    generator = domain.generator
    noise = torch.randn(4, generator.z_dim, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return generator.broadcast(generator.map(noise, truncation=0.7))
