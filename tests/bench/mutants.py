"""Change the methods' code a little, one change at a time, and see whether the tests notice.

    python -m tests.bench.mutants [--count 60] [--seed 0] [--only losses mapper] [--seconds 280]

Each change is made in a copy of the repository, and the tests of its file run there until one
fails. What was found is kept in build/mutants.json, as long as neither the file nor its tests
change: a run that is cut goes on. It ends with the changes that no test noticed.
"""

import argparse
import ast
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "build" / "mutants.json"
TESTS = {  # of each file, in tests/; those that fail soonest first
    "helpers/losses.py": ("methods/test_losses.py", "methods/test_optimization.py"),
    "helpers/latents.py": ("methods/test_latents.py", "methods/test_linear_model.py"),
    "helpers/evaluation.py": ("methods/test_evaluation.py", "data/test_bench.py"),
    "helpers/inversion.py": (
        "methods/test_details.py", "methods/test_inversion.py", "methods/test_calls.py"),
    "helpers/methods/linear_model.py": ("methods/test_linear_model.py", "methods/test_keep.py"),
    "helpers/methods/optimization.py": (
        "methods/test_optimization.py", "methods/test_keep.py", "methods/test_calls.py"),
    "helpers/methods/mapper.py": (
        "methods/test_mapper.py", "methods/test_keep.py", "methods/test_training_state.py",
        "methods/test_hidden_state.py", "methods/test_calls.py"),
    "helpers/methods/directions.py": (
        "methods/test_directions.py", "methods/test_keep.py", "methods/test_training_state.py",
        "methods/test_hidden_state.py", "methods/test_calls.py"),
}
# Changes that no test can notice, {"file: code before -> code after": why}.
HARMLESS = {
    "helpers/methods/optimization.py: identity_loss(domain.identity(image), person) -> "
    "identity_loss(person, domain.identity(image))": "a cosine is the same both ways",
    "helpers/evaluation.py: F.cosine_similarity(old, new) -> F.cosine_similarity(new, old)":
        "a cosine is the same both ways",
    "helpers/methods/mapper.py: torch.random.fork_rng(devices=[]) -> torch.random.fork_rng()":
        "keeps the state of a GPU's random numbers too, of which none are drawn there",
    "helpers/methods/mapper.py: Ranger(mapper.parameters(), lr=lr, betas=(0.95, 0.999), eps=1e-05, "
    "k=6, alpha=0.5, use_gc=True, degenerated_to_sgd=True) -> Ranger(mapper.parameters(), lr=lr, "
    "betas=(0.95, 0.999), eps=1e-05, alpha=0.5, use_gc=True, degenerated_to_sgd=True)":
        "6 is the package's own k",
    "helpers/inversion.py: F.normalize(y, dim=1) -> F.normalize(y)":
        "1 is the dimension that F.normalize takes by itself",
    "helpers/inversion.py: F.normalize(x, dim=1) -> F.normalize(x)":
        "1 is the dimension that F.normalize takes by itself",
}

COMPARISONS = {ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
               ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
               ast.In: ast.NotIn, ast.NotIn: ast.In}
OPERATIONS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
              ast.FloorDiv: ast.Mult, ast.Mod: ast.Add, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr,
              ast.BitOr: ast.BitAnd}
NAMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "argmin": "argmax",
         "argmax": "argmin", "amin": "amax", "amax": "amin", "mean": "sum", "sum": "mean",
         "any": "all", "all": "any", "best": "x", "topk": "sort"}
DROPPED = {"square", "sqrt", "abs", "relu", "normalize", "clamp", "detach", "clone", "removeprefix",
           "strip", "sorted", "exp", "tanh"}  # calls of which only what they were given stays


def changed_number(value):
    """Another number, truth value or None's opposite; None where there is no change to make."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return 2 * value if value else 1.0
    return None


def changes_of_call(node):
    """What a call may become: another function's, its argument, its arguments exchanged or less."""
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name in DROPPED:
        of_module = isinstance(function, ast.Attribute) and ast.unparse(function.value) in (
            "torch", "F", "math", "np")
        if isinstance(function, ast.Attribute) and not of_module:
            yield function.value
        elif node.args:
            yield node.args[0]
    if len(node.args) > 1 and ast.dump(node.args[0]) != ast.dump(node.args[1]):
        yield ast.Call(function, [node.args[1], node.args[0], *node.args[2:]], node.keywords)
    for i in range(len(node.keywords)):
        yield ast.Call(function, node.args, node.keywords[:i] + node.keywords[i + 1:])


def changes_of_statement(node, assigned):
    """A statement that can be left out without leaving a name unknown is left out."""
    if isinstance(node, ast.AugAssign):
        yield ast.Pass()
    elif isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant | ast.Yield):
        yield ast.Pass()
    elif isinstance(node, ast.Assign):
        target = node.targets[0]
        again = isinstance(target, ast.Name) and target.id in assigned
        if again or isinstance(target, ast.Attribute | ast.Subscript):
            yield ast.Pass()


def changes(node, assigned):
    """What a node may become, one by one. Args: assigned: the names that have a value by then."""
    if isinstance(node, ast.Constant):
        value = changed_number(node.value)
        if value is not None:
            yield ast.Constant(value)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not):
        yield node.operand
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATIONS:
        yield ast.BinOp(node.left, OPERATIONS[type(node.op)](), node.right)
    elif isinstance(node, ast.Compare):
        yield ast.Compare(node.left, [COMPARISONS[type(node.ops[0])](), *node.ops[1:]],
                          node.comparators)
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield ast.BoolOp(other, node.values)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
    elif isinstance(node, ast.Name) and node.id in NAMES:
        yield ast.Name(NAMES[node.id], node.ctx)
    elif isinstance(node, ast.Attribute) and node.attr in NAMES and isinstance(node.ctx, ast.Load):
        yield ast.Attribute(node.value, NAMES[node.attr], node.ctx)
    elif isinstance(node, ast.Call):
        yield from changes_of_call(node)
    elif isinstance(node, ast.stmt):
        yield from changes_of_statement(node, assigned)


class Site:
    """A place in a syntax tree: the node's parent, the field, and the number in a list."""

    def __init__(self, parent, field, index=None):
        self.parent, self.field, self.index = parent, field, index

    @property
    def node(self):
        value = getattr(self.parent, self.field)
        return value if self.index is None else value[self.index]

    def put(self, node):
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


UNTOUCHED = ("annotation", "returns", "decorator_list")


def sites(node):
    """All places below a node whose code runs, in the order of the file; no raised exceptions,
    whose words are no method."""
    for field, value in ast.iter_fields(node):
        if field in UNTOUCHED or isinstance(value, ast.Raise):
            continue
        parts = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, part in parts:
            if isinstance(part, ast.AST) and not isinstance(part, ast.Raise | ast.JoinedStr):
                yield Site(node, field, index)
                yield from sites(part)


@dataclass
class Mutant:
    """One change of a file."""

    path: str
    tree: ast.Module  # the file's
    site: Site
    change: ast.AST  # what is put there

    @property
    def name(self):
        """The code before and after."""
        after = "nothing" if isinstance(self.change, ast.Pass) else ast.unparse(self.change)
        return f"{self.path}: {ast.unparse(self.site.node)} -> {after}"

    @property
    def line(self):
        return self.site.node.lineno

    def source(self):
        """The whole file with the change."""
        node = self.site.node
        self.site.put(self.change)
        source = ast.unparse(self.tree)
        self.site.put(node)
        return source


def mutants_of(path):
    """All `Mutant`s of a file."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    found, assigned = [], set()
    for site in list(sites(tree)):
        node = site.node
        if isinstance(node, ast.FunctionDef):
            assigned = {argument.arg for argument in node.args.args}
        found += [Mutant(path, tree, site, change) for change in changes(node, assigned)]
        if isinstance(node, ast.Assign):
            parts = ast.walk(node.targets[0])
            assigned |= {part.id for part in parts if isinstance(part, ast.Name)}
    return found


def key(source):
    return hashlib.sha256(source.encode()).hexdigest()[:16]


class Copy:
    """A copy of the repository whose files may be changed."""

    def __init__(self, folder):
        self.root = Path(folder) / "copy"
        ignored = shutil.ignore_patterns("__pycache__")
        for name in ("helpers", "tests"):
            shutil.copytree(ROOT / name, self.root / name, ignore=ignored)
        for name in ("data", "notebooks", "pyproject.toml"):
            (self.root / name).symlink_to(ROOT / name)

    def test(self, path, source, seconds):
        """Run the tests of a file with this source.

        Returns: None if they passed in so many seconds, else what they said.
        """
        target, command = self.root / path, [sys.executable, "-m", "pytest", "-x", "-q"]
        command += ["-p", "no:cacheprovider", *[f"tests/{name}" for name in TESTS[path]]]
        environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
        original = target.read_text("utf-8")
        target.write_text(source, "utf-8")
        try:
            done = subprocess.run(command, cwd=self.root, timeout=seconds, env=environment,
                                  text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        except subprocess.TimeoutExpired:
            return "They took too long."
        finally:
            target.write_text(original, "utf-8")
        return done.stdout if done.returncode else None


def state_of(path):
    """A hash of a file and its tests: what is known of its mutants holds while it is the same."""
    names = [path, *[f"tests/{name}" for name in TESTS[path]]]
    content = b"".join((ROOT / name).read_bytes() for name in names)
    return hashlib.sha256(content).hexdigest()


def load():
    """{path: {"state": hash, "seconds": of the tests, "killed": {key: bool}}} found so far."""
    known = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    return {path: found for path, found in known.items() if found["state"] == state_of(path)}


def save(known):
    KEPT.parent.mkdir(exist_ok=True)
    KEPT.write_text(json.dumps(known, indent=1), "utf-8")


def begin(place, known, path):
    """What is known of a file; its tests are timed as they are. Exits if they fail already."""
    if path not in known:
        started = time.monotonic()
        said = place.test(path, (place.root / path).read_text("utf-8"), None)
        if said:
            sys.exit(f"The tests of {path} fail without any change, mend these first:\n{said}")
        known[path] = {"state": state_of(path), "seconds": time.monotonic() - started, "killed": {}}
        save(known)
    return known[path]


def report(known, chosen):
    """Print how many of the chosen mutants were tested and killed, and those that survive."""
    results, surviving = {}, []  # {path: list of bool}
    for mutant in chosen:
        killed = known.get(mutant.path, {"killed": {}})["killed"].get(key(mutant.source()))
        if killed is not None:
            results.setdefault(mutant.path, []).append(killed)
        if killed is False:
            surviving.append(mutant)
    for path, killed in results.items():
        print(f"{path}: {sum(killed)} of {len(killed)} are noticed")
    for mutant in surviving:
        why = HARMLESS.get(mutant.name)
        print(f"line {mutant.line} of {mutant.name}" + (f" (harmless: {why})" if why else ""))
    tested = sum(len(killed) for killed in results.values())
    count = sum(mutant.name not in HARMLESS for mutant in surviving)
    print(f"{tested} of {len(chosen)} changes were tested; {len(surviving)} pass all tests, "
          f"{count} of them ({count / max(1, tested):.0%}) not known as harmless.")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=60, help="how many changes, drawn by chance")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[""], help="parts of the files' names")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    options = parser.parse_args()
    started, known = time.monotonic(), load()
    paths = [path for path in TESTS if any(part in path for part in options.only)]
    every = [mutant for path in paths for mutant in mutants_of(path)]
    chosen = random.Random(options.seed).sample(every, min(options.count, len(every)))
    print(f"{len(every)} changes are possible, {len(chosen)} are drawn.", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Copy(folder)
        for mutant in chosen:
            if time.monotonic() - started > options.seconds:
                break
            found, source = begin(place, known, mutant.path), mutant.source()
            if key(source) not in found["killed"]:
                passed = place.test(mutant.path, source, 20 + 3 * found["seconds"]) is None
                found["killed"][key(source)] = not passed
                save(known)
                print("passes " if passed else "noticed", mutant.line, mutant.name, flush=True)
    report(known, chosen)


if __name__ == "__main__":
    main()
