"""How far the notebooks' assertions are from their bounds: what is asserted, with other seeds.

    python -m tests.bench.margins --seeds 0 1 2                      all three notebooks
    OMP_NUM_THREADS=1 ONEDNN_MAX_CPU_ISA=AVX2 python -m tests.bench.margins --seeds 0 --names 03

Seed 0 is the notebooks as they are. Another one moves every seed that is used anywhere, but for
those of W's axes and of the linear model, and takes the samples in another order. So notebook 3's
sweep, which comes along, agrees with seed 0 only. Cells that no assertion depends on are left out.
Adds to build/bench/margins.json, which holds, for each assertion that compares numbers, both sides
in every run; and prints their ranges over all runs there.
"""

import argparse
import ast
import json
import os
import platform
import sys

import nbformat
from nbclient import NotebookClient

from .results import BUILD, ROOT

TARGET = BUILD / "margins.json"
MARK = "MARGIN "

# Runs before a notebook: `seeds.move` gives every generator of random numbers another seed.
PRELUDE = """
import json, sys
sys.path.insert(0, {root!r})
from tests.bench import seeds
seeds.move({seed})

def asserted(text, left, right):
    try:
        print({mark!r} + json.dumps([text, float(left), float(right)]))
    except (TypeError, ValueError, RuntimeError):
        pass  # it compares something else than numbers
"""


class Record(ast.NodeTransformer):
    """Every `assert a < b` becomes a record of both sides, and stops nothing."""

    def visit_Assert(self, node):
        parts = node.test.values if isinstance(node.test, ast.BoolOp) else [node.test]
        calls = []
        for part in parts:
            if isinstance(part, ast.Compare):
                left, right = ast.unparse(part.left), ast.unparse(part.comparators[0])
                calls.append(f"asserted({ast.unparse(part)!r}, {left}, {right})")
        return ast.parse("\n".join(calls) or "pass").body


def needed(sources):
    """The cells that hold an assertion, and those that define what these use, in their order."""
    kept, wanted = [], set()
    for source in reversed(sources):
        tree = ast.parse(source)
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
        defined = {name.id for name in names if isinstance(name.ctx, ast.Store)}
        defined |= {node.name for node in tree.body
                    if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        imports = any(isinstance(node, ast.Import | ast.ImportFrom) for node in tree.body)
        asserts = any(isinstance(node, ast.Assert) for node in ast.walk(tree))
        if imports or asserts or defined & wanted:
            kept.insert(0, ast.unparse(Record().visit(tree)))
            wanted |= {name.id for name in names if isinstance(name.ctx, ast.Load)}
    return kept


def run(path, seed):
    """[[assertion, left side, right side], ...] of a notebook run with another seed."""
    cells = nbformat.read(path, as_version=4).cells
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    sources = [PRELUDE.format(root=str(ROOT), seed=seed, mark=MARK), *needed(sources)]
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in sources])
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python",
                                        "name": "python3"}}
    client = NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": path.parent}})
    client.execute(env=os.environ | {"STYLECLIP_DOMAIN": "avatars"})
    printed = "".join(output.get("text", "") for cell in notebook.cells
                      for output in cell.get("outputs", ()))
    return [json.loads(line.removeprefix(MARK)) for line in printed.splitlines()
            if line.startswith(MARK)]


def print_ranges(runs):
    """Each assertion's two sides, over all runs."""
    sides = {}
    for one in runs:
        for text, left, right in one["asserted"]:
            sides.setdefault((one["notebook"], text), []).append((left, right))
    for (name, text), values in sides.items():
        left, right = zip(*values)
        print(f"{name[:2]} {text}\n     left {min(left):.4g} to {max(left):.4g}, right "
              f"{min(right):.4g} to {max(right):.4g}, {len(values)} runs")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--names", nargs="+", default=[""],
                        help="beginnings of the notebooks' names")
    options = parser.parse_args()
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    runs = json.loads(TARGET.read_text()) if TARGET.exists() else []
    for path in sorted(ROOT.glob("notebooks/*.ipynb")):
        for seed in options.seeds if path.name.startswith(tuple(options.names)) else ():
            runs.append({"notebook": path.stem, "seed": seed,
                         "threads": os.environ.get("OMP_NUM_THREADS", "all"),
                         "instructions": os.environ.get("ONEDNN_MAX_CPU_ISA", "all"),
                         "python": platform.python_version(), "asserted": run(path, seed)})
            TARGET.write_text(json.dumps(runs, indent=1) + "\n")
            count = len(runs[-1]["asserted"])
            print(f"{path.stem}, seed {seed}: {count} assertions", flush=True)
    print_ranges(runs)


if __name__ == "__main__":
    sys.exit(main())
