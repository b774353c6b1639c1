"""What the recipes write into a domain's card, domain.json.

Settings, prompts and licence are kept by hand.

    python -m data.cards faces      computes the linear model of a domain anew
"""

import argparse
import hashlib
import json

from helpers.domains import DATA, EMBEDDED, load_domain
from helpers.domains.formats.safetensors_files import save_tensors
from helpers.methods.linear_model import fit_linear_model

# CLIP's vectors that are kept with a linear model: enough to know how well images fit a sentence,
# in half a megabyte.
KEPT = 2000
SEEN_BY_THE_MODEL = ("clip", "identity", "generator", "readouts")


def read(folder):
    """The card of the domain in a folder, a dict."""
    return json.loads((folder / "domain.json").read_text("utf-8"))


def update(folder, **entries):
    """Set entries of a card. Where a network that its linear model saw is new, that is dropped."""
    path, before = folder / "domain.json", read(folder)
    card = before | entries
    for part in SEEN_BY_THE_MODEL:
        if card["sha256"].get(part) != before["sha256"].get(part):
            card["linear_model"] = None
    path.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf-8")


def hashes(folder, parts):
    """{part: sha256 of its file}."""
    return {part: sha256(folder / f"{part}.safetensors") for part in parts}


def sha256(path):
    """The sha256 of a file, as hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_linear_model(folder):
    """Compute the linear model of the domain in a folder, and keep it beside the networks."""
    path = folder / "linear_model.safetensors"
    update(folder, linear_model=None)
    tensors = fit_linear_model(load_domain(folder, "cpu"))
    save_tensors(path, {**tensors, "clip": tensors["clip"][:KEPT].half()})
    update(folder, linear_model=[path.name, sha256(path)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Compute the linear model of a domain anew.")
    parser.add_argument("domain", choices=EMBEDDED)
    write_linear_model(DATA / parser.parse_args().domain)
