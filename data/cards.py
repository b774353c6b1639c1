"""What the recipes write into a domain's card, domain.json; the rest (settings, prompts, licence) is kept by hand.

python data/cards.py faces        makes the gallery anew: what CLIP and the identity network see in random faces
"""

import hashlib
import json
import sys
from pathlib import Path

DATA = Path(__file__).resolve().parent
KEPT = 2000  # of a gallery's vectors: enough to know how well a sentence is met, in half a megabyte
sys.path.insert(0, str(DATA.parent))


def update(folder, **entries):
    """Set entries of a card. What a new network makes worthless, the old gallery, is dropped."""
    path = folder / "domain.json"
    before = json.loads(path.read_text("utf-8"))
    card = before | entries
    seen_by = ("clip", "identity", "generator", "readouts")
    if any(card["sha256"].get(part) != before["sha256"].get(part) for part in seen_by):
        card["gallery"] = None
    path.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf-8")


def hashes(folder, parts):
    """{part: sha256 of its file}."""
    return {part: hashlib.sha256((folder / f"{part}.safetensors").read_bytes()).hexdigest() for part in parts}


def write_gallery(name):
    """Compute `latents.gallery` of an embedded domain, and keep it beside the networks."""
    from helpers.checkpoints import save_tensors
    from helpers.domains import load_domain
    from helpers.latents import gallery
    folder = DATA / name
    update(folder, gallery=None)
    found = gallery(load_domain(name, "cpu"))
    save_tensors(folder / "gallery.safetensors", {**found, "clip": found["clip"][:KEPT].half()})
    update(folder, gallery=["gallery.safetensors", hashes(folder, ["gallery"])["gallery"]])


if __name__ == "__main__":
    write_gallery(sys.argv[1])
