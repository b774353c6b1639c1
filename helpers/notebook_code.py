"""What a notebook defines, for another notebook, a script or a test, without running or copying it."""

import ast
import json
from pathlib import Path

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def notebook_code(name):
    """The imports, functions, classes and upper-case constants of a notebook as {name: object}; no other line runs.

    Args: name: of a file in notebooks/, for example "01_latent_optimization".
    """
    cells = json.loads((NOTEBOOKS / f"{name}.ipynb").read_text("utf-8"))["cells"]
    kept = []
    for cell in cells:
        if cell["cell_type"] == "code":
            for node in ast.parse("".join(cell["source"])).body:
                constant = isinstance(node, ast.Assign) and all(
                    isinstance(target, ast.Name) and target.id.isupper() for target in node.targets)
                if constant or isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Import | ast.ImportFrom):
                    kept.append(node)
    space = {"__name__": name}
    exec(compile(ast.Module(kept, []), f"{name}.ipynb", "exec"), space)
    return space
