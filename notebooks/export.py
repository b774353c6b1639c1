"""`make export`: the cells tagged `export` become helpers/methods/*.py, for others to import.

A module gets those of its notebook's imports that its cells use. A test compares both; edit the notebook, not the
module.
"""

import ast
from pathlib import Path

import nbformat

HERE = Path(__file__).resolve().parent
METHODS = HERE.parent / "helpers" / "methods"
MODULES = {
    "01_latent_optimization": ("optimization", "Method 1, latent optimization (arXiv 2103.17249, section 4)"),
    "02_latent_mapper": ("mapper", "Method 2, the latent mapper (arXiv 2103.17249, section 5)"),
    "03_global_directions": ("directions", "Method 3, global directions (arXiv 2103.17249, section 6)"),
}


def used_names(code):
    """Every name that a piece of code reads."""
    return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}


def needed_import(node, names):
    """An import statement's text, of those of its names that are needed, or an empty string."""
    kept = [alias for alias in node.names if (alias.asname or alias.name).split(".")[0] in names]
    if not kept:
        return ""
    if isinstance(node, ast.Import):
        return ast.unparse(ast.Import(kept))
    line = ast.unparse(ast.ImportFrom(node.module, kept, node.level))
    if len(line) > 110:
        start, listed = line.split(" import ")
        return f"{start} import (\n    " + ",\n    ".join(listed.split(", ")) + ",\n)"
    return line


def exported(stem):
    """The text of the module that a notebook's tagged cells make."""
    cells = [cell for cell in nbformat.read(HERE / f"{stem}.ipynb", as_version=4).cells if cell.cell_type == "code"]
    tagged = [cell.source for cell in cells if "export" in cell.metadata.get("tags", ())]
    names, groups = used_names("\n".join(tagged)), [[], [], []]
    for node in ast.parse(cells[1].source).body:  # the notebook's second cell holds its imports
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
            line = needed_import(node, names)
            if line:
                own = module.split(".")[0] == "helpers"
                groups[2 if own else 1 if module.startswith("torch") else 0].append(line)
    imports = "\n\n".join("\n".join(group) for group in groups if group)
    title = f'"""{MODULES[stem][1]}.\n\nWritten by `make export` from notebooks/{stem}.ipynb: edit that.\n"""'
    return f"{title}\n\n{imports}\n\n\n" + "\n\n\n".join(tagged) + "\n"


def main():
    for stem, (module, _) in MODULES.items():
        (METHODS / f"{module}.py").write_text(exported(stem), "utf-8")
        print(f"helpers/methods/{module}.py")


if __name__ == "__main__":
    main()
