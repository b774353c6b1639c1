"""A domain: a generator, a CLIP, an identity network and the words that go with them."""

import hashlib
import json
import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch

from .checkpoints import load_generator, read_safetensors
from .classifier import AttributeClassifier
from .clip_model import CLIP, ClipModel
from .identity import IdentityNetwork
from .stylegan2 import Generator

DATA = Path(__file__).resolve().parent.parent / "data"
EMBEDDED = ("avatars",)  # domains whose weights lie in data/


@dataclass(eq=False)  # compared and hashed by identity, so that results can be cached per domain
class Domain:
    """Everything the three methods need of one kind of picture."""

    name: str
    generator: Generator
    clip: ClipModel
    identity: IdentityNetwork | None  # None where there is no such thing as a person
    classifier: AttributeClassifier | None  # judges edits, never drives one; None where there is no such judge
    neutral: str  # the sentence that is true of every picture
    prompts: tuple[str, ...]  # to start from
    alpha: float  # method 3's strength ...
    beta: float  # ... and disentanglement: a threshold below 1, or how many channels to leave
    psi: float  # the truncation that random images look best at: 0.7 for photographs
    rows: dict[str, slice]  # the rows of w_plus that are coarse, medium and fine
    fingerprint: str  # sha256 of the generator's file: what was learned on it fits no other
    licence: str
    samples: tuple[Path, ...] = field(default=())  # pictures that stand in for a user's own

    @property
    def device(self):
        return self.generator.w_avg.device


def load_domain(name=None, device=None):
    """Load a domain by name.

    Args:
        name: "avatars"; without one, the environment variable STYLECLIP_DOMAIN decides, else "avatars".
        device: a torch device; without one, the GPU if there is one.

    Raises: ValueError for an unknown name or a damaged file, FileNotFoundError for a missing one.
    """
    why = "asked for"
    if name is None:
        name, why = os.environ.get("STYLECLIP_DOMAIN"), "set by STYLECLIP_DOMAIN"
    if not name:
        name, why = "avatars", "it needs no download"
    if name not in EMBEDDED:
        raise ValueError(f'There is no domain "{name}"; there is: {", ".join(EMBEDDED)}.')
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    domain = _load_embedded(DATA / name, device)
    print(f"Domain: {name} ({why}), {domain.generator.resolution} px, on {device}. {domain.licence}")
    return domain


def _load_embedded(folder, device):
    card = json.loads((folder / "domain.json").read_text("utf-8"))
    paths = {part: check_file(folder / f"{part}.safetensors", sha256) for part, sha256 in card["sha256"].items()}
    state, header = read_safetensors(paths["clip"])
    model = CLIP(**header["config"])
    model.load_state_dict(state)
    networks = {"identity": IdentityNetwork, "classifier": AttributeClassifier}
    for part, network in networks.items():
        state, header = read_safetensors(paths[part])
        networks[part] = network(**header["config"])
        networks[part].load_state_dict(state)
        networks[part].eval().requires_grad_(False).to(device)
    generator = load_generator(paths["generator"]).to(device)
    rows = [slice(*ends) for ends in pairwise([0, *card["split"], generator.num_layers])]
    return Domain(
        name=folder.name, generator=generator,
        clip=ClipModel(model, frozenset(card["words"])).to(device), **networks,
        rows=dict(zip(("coarse", "medium", "fine"), rows)), fingerprint=card["sha256"]["generator"],
        neutral=card["neutral"], prompts=tuple(card["prompts"]), alpha=card["alpha"], beta=card["beta"],
        psi=card["psi"], licence=card["licence"],
        samples=tuple(sorted((folder / "samples").glob("*.png"))))


def check_file(path, sha256):
    """The path, if the file there has this hash; otherwise an error in one sentence that says what to do."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: restore it with `git checkout {path.name}`, or run `make models`.")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ValueError(f"{path} is damaged (sha256 {found[:12]}..., expected {sha256[:12]}...): restore it with "
                         f"`git checkout {path.name}`, or run `make models`.")
    return path
