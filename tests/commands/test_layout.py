"""The house: who imports whom in helpers/, what it keeps, and the public names."""

import ast
import importlib
import re
from graphlib import TopologicalSorter

import pytest
from conftest import ROOT

import helpers

FILES = sorted((ROOT / "helpers").rglob("*.py"))
# The rooms from the ground up. A file imports from its own line and from those above it, no others.
FLOORS = (
    ("settings", "diagrams", "fused_ops", "blending"),
    ("stylegan2", "mobile_stylegan", "clip_model", "face_networks"),
    ("losses", "latents", "inversion"),
    ("domains",),
    ("training_state",),
    ("methods",),
    ("images", "evaluation"),
    ("photographs",),
    ("edits", "training_files", "calibration"),
    ("panels",),
    ("commands",),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def name_of(path):
    """A file's name as a module: helpers.panels for helpers/panels/__init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imports_of(path):
    """The modules of helpers/ that a file imports, anywhere in it."""
    name, found = name_of(path), set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")
            base = base[:len(base) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{module}.{alias.name}"
                found.add(inner if inner in MODULES else module)
    return found & MODULES.keys()


def room_of(name):
    """The file at the top of helpers/, or the folder, that a module belongs to."""
    return name.split(".")[1]


GRAPH = {name: imports_of(path) for name, path in MODULES.items() if name != "helpers"}


def test_imports_go_round_in_no_circle():
    """Importing a module runs its packages' __init__ as well, so these count."""
    complete = {}
    for name, imported in GRAPH.items():
        complete[name] = set(imported)
        for other in imported:
            package = other.rpartition(".")[0]
            while package != "helpers" and not f"{name}.".startswith(f"{package}."):
                complete[name].add(package)
                package = package.rpartition(".")[0]
    TopologicalSorter(complete).prepare()  # raises CycleError, which names the circle


def test_imports_never_point_up():
    assert {room_of(name) for name in GRAPH} == FLOOR_OF.keys()
    for name, imported in GRAPH.items():
        up = [other for other in imported if FLOOR_OF[room_of(other)] > FLOOR_OF[room_of(name)]]
        assert not up, f"{name} imports {up}"


def test_domains_and_methods_do_not_know_each_other():
    """Domains know networks and no method; methods know no files and no downloads."""
    for name, imported in GRAPH.items():
        rooms = {room_of(other) for other in imported}
        assert not (room_of(name) == "domains" and "methods" in rooms), name
        assert not (room_of(name) == "methods" and "domains" in rooms), name


def test_nothing_is_put_on_the_path():
    for path in FILES:
        assert "sys.path" not in path.read_text("utf-8"), path


def test_modules_keep_no_results():
    """What is computed once is kept on the domain. What is read from a file may be cached."""
    for path in FILES:
        text = path.read_text("utf-8")
        assert "lru_cache" not in text, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                cached = any("cache" in ast.unparse(way) for way in node.decorator_list)
                arguments = {argument.arg for argument in node.args.args}
                assert not cached or arguments <= {"path"}, f"{path}: {node.name}"


def test_the_notebooks_folder_holds_notebooks():
    shown = [path for path in (ROOT / "notebooks").iterdir() if path.is_file()]
    assert len(shown) == 3 and all(path.suffix == ".ipynb" for path in shown)


def listed():
    """(module, name) of each public name in the table of helpers/__init__.py."""
    found = []
    for names, module in re.findall(r"^\| ([\w, ]+) \| (helpers[\w.]*) \|", helpers.__doc__, re.M):
        found += [(module, name) for name in names.split(", ")]
    return found


def test_public_names_are_listed():
    names = {name for _, name in listed()}
    assert {"load_domain", "invert", "optimize_latent", "train_mapper", "global_direction"} <= names


@pytest.mark.parametrize(("module", "name"), listed())
def test_a_public_name_can_be_imported_and_says_what_it_is(module, name):
    value = getattr(importlib.import_module(module), name)
    assert not callable(value) or value.__doc__
