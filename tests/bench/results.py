"""Results of measurements on disk: one JSON file each, with date, machine, faces and seed.

A run writes into build/bench/; with --keep into tests/bench/results/, from which
`python -m tests.bench.tables` writes the tables of README.md.
"""

import datetime
import json
import os
import platform
import shlex
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
KEPT, BUILD = Path(__file__).with_name("results"), ROOT / "build" / "bench"


def machine():
    """What kind of machine this is: cores, threads, instruction set, GPU."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cores": os.cpu_count(), "threads": torch.get_num_threads(),
            "instructions": instructions(), "gpu": gpu}


def instructions():
    """The processor's instructions that networks use, for example "AVX-512, bfloat16"."""
    able = torch.cpu.get_capabilities()
    names = {"avx2": "AVX2", "avx512_f": "AVX-512", "avx512_bf16": "bfloat16",
             "amx_bf16": "matrix units"}
    found = [name for key, name in names.items() if able.get(key)]
    if "AVX-512" in found:
        found.remove("AVX2")
    return ", ".join(found) or platform.machine()


def kind_of_machine():
    """A short name of this kind of machine, for measurements that are kept for several kinds."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name().split()[-1].lower()
    able = torch.cpu.get_capabilities()
    if able.get("amx_bf16"):
        return "amx"
    if able.get("avx512_bf16"):
        return "bf16"
    return "avx2" if able.get("avx2") else platform.machine().lower()


def path_of(name, keep=False):
    """Where the result of a measurement lies."""
    return (KEPT if keep else BUILD) / f"{name}.json"


def command():
    """The command line of this run, as it can be repeated."""
    module = f"tests.bench.{Path(sys.argv[0]).stem}"
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def save(name, *, keep=False, faces=None, seed=None, **found):
    """Write the result of a measurement.

    Args:
        name: of the file.
        keep: whether README.md's tables are written from it.
        faces: how many it counts; seed: that they are drawn with.
        found: {name: what json can write}.
    """
    path = path_of(name, keep)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"command": command(), "date": datetime.date.today().isoformat(),
               "machine": machine(), "faces": faces, "seed": seed, **found}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", "utf-8")


def save_methods(name, methods, *, keep=False, faces=None, seed=None, **found):
    """`save` counts of methods {method: counts}, beside those of others that lie there already.

    They stay if they are of as many faces and the same seed.
    """
    before, today = load(name, keep), datetime.date.today().isoformat()
    if before is None or (before["faces"], before["seed"]) != (faces, seed):
        before = {"methods": {}}
    dated = {method: {"date": today, **counts} for method, counts in methods.items()}
    save(name, keep=keep, faces=faces, seed=seed, **found, methods=before["methods"] | dated)


def load(name, keep=True):
    """The result of a measurement that was saved, or None."""
    path = path_of(name, keep)
    return json.loads(path.read_text("utf-8")) if path.exists() else None


def add_keep(parser):
    """The option that all measurements share."""
    parser.add_argument("--keep", action="store_true",
                        help="write into tests/bench/results/ instead of build/bench/")
