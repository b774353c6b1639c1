"""Write helpers/methods/ from the notebooks' tagged cells: python -m helpers.commands.export.

A module gets the cells with its tag and, of all imports of its notebook, those that these cells
use. Edit the notebook, not the module; a test compares both.
"""

import ast
import symtable
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parents[2]
METHODS = ROOT / "helpers" / "methods"
COLUMNS = 100


@dataclass(frozen=True)
class Module:
    """A module of helpers/methods/ and the cells that it is made of."""

    name: str
    notebook: str
    tag: str
    title: str


MODULES = (
    Module("linear_model", "01_latent_optimization", "export-linear-model",
           "The linear model of CLIP in W, where method 1 starts and which method 3 is"),
    Module("optimization", "01_latent_optimization", "export",
           "Method 1, latent optimization (arXiv 2103.17249, section 4)"),
    Module("mapper", "02_latent_mapper", "export",
           "Method 2, the latent mapper (arXiv 2103.17249, section 5)"),
    Module("directions", "03_global_directions", "export",
           "Method 3, global directions (arXiv 2103.17249, section 6)"),
)


def tagged_code(notebook, tag):
    """The code of a notebook's cells with a tag, with two empty lines between cells."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return "\n\n\n".join(cell.source for cell in cells if tag in cell.metadata.get("tags", ()))


def imported_names(code):
    """{name: (module, what)} of the import statements at the top level of a piece of code.

    `from torch import nn` gives {"nn": ("torch", "nn")}, `import time` {"time": ("time", "")}.
    """
    found = {}
    for node in ast.parse(code).body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.split(".")[0]] = (ast.unparse(alias), "")
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = (node.module, ast.unparse(alias))
    return found


def defined_names(code):
    """The names of the functions, classes and variables at the top level of a piece of code."""
    table = symtable.symtable(code, "cells", "exec")
    return {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned()}


def used_names(code):
    """The names that a piece of code takes from its module: local variables are not among them."""
    tables, names = [symtable.symtable(code, "cells", "exec")], set()
    while tables:
        table = tables.pop()
        tables += table.get_children()
        for symbol in table.get_symbols():
            if symbol.is_global() and symbol.is_referenced():
                names.add(symbol.get_name())
    return names


def import_statement(module, names):
    """`import module` for names [""], else `from module import names`, within `COLUMNS`."""
    if names == [""]:
        return f"import {module}"
    names = sorted(names, key=lambda name: (not name.isupper(), name[0].islower(), name))
    line = f"from {module} import {', '.join(names)}"
    if len(line) <= COLUMNS:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in names) + ")"


def import_block(wanted):
    """The import statements of (module, what) pairs, in the order that ruff keeps."""
    statements = {}  # {(group, is it `from ... import`, module): names}
    for module, name in wanted:
        package = module.split(".")[0].split(" as ")[0]
        group = 0 if package in sys.stdlib_module_names else 2 if package == "helpers" else 1
        statements.setdefault((group, name != "", module), []).append(name)
    groups = ([], [], [])  # the standard library, other packages, our own
    for (group, _, module), names in sorted(statements.items()):
        groups[group].append(import_statement(module, names))
    return "\n\n".join("\n".join(lines) for lines in groups if lines)


def exported(module):
    """The text of a module of helpers/methods/."""
    path = ROOT / "notebooks" / f"{module.notebook}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    code = tagged_code(notebook, module.tag)
    known = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            known |= imported_names(cell.source)
    for other in MODULES:  # a notebook's second module may use what its first one defines
        if other.notebook == module.notebook and other != module:
            for name in defined_names(tagged_code(notebook, other.tag)):
                known[name] = (f"helpers.methods.{other.name}", name)
    # A cell may import from the module that this one writes: what a module defines, it has.
    wanted = used_names(code) - defined_names(code)
    imports = import_block([known[name] for name in wanted if name in known])
    title = f"{module.title}.\n\nWritten by `make export` from notebooks/{path.name}: edit that."
    return f'"""{title}\n"""\n\n{imports}\n\n\n{code}\n'


def main():
    for module in MODULES:
        (METHODS / f"{module.name}.py").write_text(exported(module), "utf-8")
        print(f"helpers/methods/{module.name}.py")


if __name__ == "__main__":
    main()
