"""`Domain`: a generator, a CLIP, an identity network, and the words and settings that go with
them."""

from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..clip_model import ClipModel
from ..face_networks import AttributeClassifier, Encoder, HeadReader, IdentityNetwork
from ..latents import WSpace
from ..settings import Settings
from ..stylegan2 import StyleGenerator
from .download import Source, fetch
from .formats.safetensors_files import read_safetensors
from .formats.torch_files import read_array

DATA = Path(__file__).resolve().parents[2] / "data"
OWN_CLIP = "its own"  # the small CLIP that an embedded domain brings


@dataclass(eq=False)
class Domain:
    """Everything the three methods need of one kind of picture."""

    name: str
    generator: StyleGenerator
    clip: ClipModel
    identity: IdentityNetwork | None  # None where there is no such thing as a person
    neutral: str  # the sentence that is true of every picture
    prompts: tuple[str, ...]  # to start from
    psi: float  # the truncation of random images: 0.7 for photographs
    rows: dict[str, slice]  # the rows of w_plus that are coarse, medium and fine
    fingerprint: str  # sha256 of the generator's file: what was learned on it fits no other
    licence: str
    settings: Settings
    tuned_from: "Domain | None" = None  # whose generator was tuned to make this one
    classifier: AttributeClassifier | None = None  # evaluates edits, never drives one
    clip_name: str = OWN_CLIP  # or which of OpenAI's
    clip_fingerprint: str = ""  # of its own CLIP's image half, or which of OpenAI's
    samples: tuple[Path, ...] = ()  # pictures that stand in for a user's own
    sample_latents: torch.Tensor | None = None  # w_plus [N, L, w_dim] of the samples
    published_sweep: tuple[Source, ...] = ()  # the authors' own, where they published it
    e4e: tuple[Source, ...] = ()  # an encoder as published
    encoder: Encoder | None = None  # image -> w, where `inversion.invert` begins
    head: HeadReader | None = None  # where the head is, read from the generator's maps
    align: bool = False  # are its pictures faces, aligned as FFHQ's are?
    preview_resolution: int | None = None  # where long runs stop the generator early, in pixels
    linear_model_tensors: dict[str, torch.Tensor] | None = None  # of `LinearModel`, or None
    # What `evaluate_edit` asks: {prompt: (attribute, *choices)}, {attribute: others that change
    # with it}, {attribute: (other, *choices of it that hide it)}, {word: {attribute: choices}} of
    # words that are made of several attributes, whose own choices are no and yes
    prompt_targets: dict[str, tuple] = field(default_factory=dict)
    entangled: dict[str, tuple] = field(default_factory=dict)
    occluded_by: dict[str, tuple] = field(default_factory=dict)
    compounds: dict[str, dict] = field(default_factory=dict)
    keep_defaults: dict[str, tuple] = field(default_factory=dict)  # {prompt: what its edits keep}
    kept: dict = field(default_factory=dict, init=False, repr=False)  # what is computed once

    @property
    def w_fingerprint(self):
        """The fingerprint of the generator whose W this is: mappers and sweeps of it act here."""
        return (self.tuned_from or self).fingerprint

    @property
    def device(self):
        return self.generator.w_avg.device

    @property
    def w_space(self):
        """The `WSpace` of the generator, computed once."""
        if "w_space" not in self.kept:
            with torch.inference_mode(False):  # its tensors would break later gradients
                self.kept["w_space"] = WSpace(self.generator)
        return self.kept["w_space"]

    def sweep_path(self, folder="sweeps"):
        """Where the sweep of this domain and CLIP lies: in data/ for the embedded ones, else in a
        folder of yours."""
        embedded = DATA / self.name / "sweep.safetensors"
        if embedded.exists() and self.clip_name == OWN_CLIP:
            return embedded
        clip = self.clip_name.replace("/", "-").replace(" ", "-")
        return Path(folder) / f"{self.name}-{clip}.safetensors"

    def has_sweep(self):
        """Is there a sweep of this domain, here or published?"""
        return self.published_sweep != () or self.sweep_path().exists()

    def swept_directions(self, count):
        """Delta-i of the domain's `count` swept channels, [count, D].

        Raises: ValueError if there is no sweep yet, or one of another generator or CLIP.
        """
        if "sweep" not in self.kept:
            with torch.inference_mode(False):
                self.kept["sweep"] = self._read_sweep().to(self.device)
        directions = self.kept["sweep"]
        width = self.clip.encode_text([self.neutral]).shape[1]
        if directions.ndim != 2 or len(directions) < count or directions.shape[1] != width:
            raise ValueError(f"The sweep is {list(directions.shape)}; {self.name} with this CLIP "
                             f"needs {[count, width]}.")
        return directions[:count].clone()

    def _read_sweep(self):
        path = self.sweep_path()
        if path.exists():
            tensors, header = read_safetensors(path, needs=["generator", "directions"])
            of = header["generator"], header.get("clip")
            if of != (self.w_fingerprint, self.clip_fingerprint):
                raise ValueError(f"{path.name} is no sweep of this generator and CLIP: make one "
                                 "with `python -m helpers.commands.sweep`.")
            return tensors["directions"]
        if self.published_sweep:
            return read_array(fetch(self.published_sweep)).float()
        raise ValueError(f"There is no sweep of {self.name} yet: run "
                         "`python -m helpers.commands.sweep`, or use another method.")
