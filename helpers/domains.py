"""A domain: a generator, a CLIP, an identity network, and the words and settings that go with them.

The small networks of faces and avatars lie in data/; what is published is fetched once (fetching.py).
"""

import json
import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import torch
from torch.nn.utils import parameters_to_vector

from . import runs
from .checkpoints import add_readouts, fill, load_generator, read_safetensors, read_torch, save_module
from .clip_model import CLIP, ClipModel, published_clip
from .encoder import Encoder
from .fetching import PackageSource, Source, Unavailable, check_cached, fetch, record, sha256_of
from .identity import IdentityNetwork
from .judging import AttributeClassifier
from .settings import PAPER_DIRECTIONS, Directions, Encoding, Gallery, MapperTraining, Optimization, Settings, from_card
from .stylegan2 import Generator, half_type

DATA = Path(__file__).resolve().parent.parent / "data"
EMBEDDED = ("faces", "avatars")  # domains whose networks lie in data/, all but the generator of the faces


NVIDIA = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained"
NGC = "https://api.ngc.nvidia.com/v2/models/nvidia/research/stylegan2/versions/1/files"
HUB = "https://huggingface.co"
STYLECLIP = "https://raw.githubusercontent.com/orpatashnik/StyleCLIP/f87a47f7fc39e19a1f6c88293875692b303bf168/global_directions/npy"

CLIPS = {name: (Source(f"{HUB}/timm/{repository}/resolve/{revision}/open_clip_model.safetensors", sha256,
                       f"clip-{name.lower().replace('/', '-')}.safetensors"),)
         for name, repository, revision, sha256 in (
             ("ViT-B/32", "vit_base_patch32_clip_224.openai", "a6f597a30f7b82c51704746581f9a4e41421e878",
              "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31"),
             ("ViT-B/16", "vit_base_patch16_clip_224.openai", "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
              "4b8699299b1e8997753c64b052ba32031449d5d853f55a039148560ee02b820f"),
             ("ViT-L/14", "vit_large_patch14_clip_224.openai", "18d0535469bb561bf468d76c1d73aa35156c922b",
              "9ce2e8a8ebfff3793d7d375ad6d3c35cb9aebf3de7ace0fc7308accab7cd207e"))}
IDENTITY = (Source(f"{HUB}/lithiumice/ArcFace_PyTorch/resolve/main/InsightFace_Pytorch%2Bmodel_ir_se50.pth",
                   "a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28", "model_ir_se50.pth"),)
E4E = (Source(f"{HUB}/zhengchong/e4e/resolve/main/e4e_ffhq_encode.pt",
              "2ace1d9a8c05c10a399bcd500b8dda118f759ff1aac89dbdab7435f2136a0999"),)
LANDMARKS = (  # dlib's 68 landmarks of a face; trained on iBUG 300-W, not for commercial use
    Source("https://github.com/ageitgey/face_recognition_models/raw/master/face_recognition_models/models/"
           "shape_predictor_68_face_landmarks.dat",
           "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"),
    Source("https://github.com/italojs/facial-landmarks-recognition/raw/master/shape_predictor_68_face_landmarks.dat",
           "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"))

RANDOM_FACE = PackageSource(  # MobileStyleGAN; the package itself is neither installed nor run
    "random-face", "2021.7.21.1", "random_face-2021.7.21.1-py3-none-any.whl",
    "e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5", 37_588_926)

BY_NVIDIA = "Weights by NVIDIA (Nvidia Source Code License-NC): for research and evaluation only"
FACES = ("a person with glasses", "a smiling person", "a person with a beard", "a tanned person",
         "a person with purple hair", "a person with curly hair", "an angry person", "a surprised person",
         "a person with a bob cut", "a pale person")


@dataclass(frozen=True)
class Published:
    """A domain whose weights are fetched."""

    generator: tuple[Source, ...]
    neutral: str
    prompts: tuple[str, ...]
    licence: str
    people: bool = False  # faces, aligned as FFHQ's: does the identity network apply?
    sweep: tuple[Source, ...] = ()  # method 3's preprocessing as the authors published it
    e4e: tuple[Source, ...] = ()  # an encoder, for a faster start of the encoding


def _pets(kind):
    return (f"a cute {kind}", f"an angry {kind}", f"a happy {kind}", f"a black {kind}", f"a white {kind}",
            f"a sleepy {kind}", f"a fluffy {kind}", f"a {kind} with blue eyes", f"a young {kind}", f"a fat {kind}")


def _afhq(kind, neutral, sha256=None, sweep=()):
    return Published((Source(f"{NVIDIA}/afhq{kind}.pkl"), Source(f"{NGC}/stylegan2-afhq{kind}-512x512.pkl", sha256)),
                     f"a {neutral}", _pets(neutral), f"{BY_NVIDIA}; the AFHQ pictures are CC BY-NC 4.0.", sweep=sweep)


def _lsun(kind, sha256, prompts):
    url = f"{HUB}/ZeqiangLai/StyleGAN2/resolve/main/stylegan2-{kind}-config-f.pt"
    return Published((Source(url, sha256),), f"a {kind}", prompts,
                     f"{BY_NVIDIA}; trained on LSUN, converted to rosinality's format.")


PUBLISHED = {
    "ffhq": Published(
        (Source(f"{NVIDIA}/ffhq.pkl", "a205a346e86a9ddaae702e118097d014b7b8bd719491396a162cca438f2f524c"),
         Source(f"{HUB}/akhaliq/OneshotCLIP-stylegan2-ffhq/resolve/main/stylegan2-ffhq-config-f.pt",
                "bae494ef77e32a9cd1792a81a3c167692a0e64f6bcd8b06592ff42917e2ed46e")),
        "a person", FACES, f"{BY_NVIDIA}; the FFHQ pictures are CC BY-NC-SA 4.0.", people=True,
        sweep=(Source(f"{STYLECLIP}/ffhq/fs3.npy", name="sweep-ffhq.npy"),), e4e=E4E),
    "ffhq256": Published(
        (Source(f"{NVIDIA}/transfer-learning-source-nets/ffhq-res256-mirror-paper256-noaug.pkl"),
         Source(f"{NGC}/stylegan2-ffhq-256x256.pkl")),
        "a person", FACES, f"{BY_NVIDIA}; the FFHQ pictures are CC BY-NC-SA 4.0.", people=True),
    "metfaces": Published(
        (Source(f"{NVIDIA}/metfaces.pkl"), Source(f"{NGC}/stylegan2-metfaces-1024x1024.pkl")),
        "a portrait of a person", tuple(f"a portrait of {text}" for text in FACES),
        f"{BY_NVIDIA}; the MetFaces pictures are CC BY-NC 2.0.", people=True),
    "afhqcat": _afhq("cat", "cat", "17a83abee464242f8bb40dc6363d33c2fb087066b68fc0147677fdbf21f7a7a9",
                     sweep=(Source(f"{STYLECLIP}/afhqcat/fs3.npy", name="sweep-afhqcat.npy"),)),
    "afhqdog": _afhq("dog", "dog", sweep=(Source(f"{STYLECLIP}/afhqdog/fs3.npy", name="sweep-afhqdog.npy"),)),
    "afhqwild": _afhq("wild", "wild animal"),
    "car": _lsun("car", "c69f161fd576801027cbaa8b09142b5dd9f508034b2d0f4a2a0cdcbc1d587c9c", (
        "a sports car", "a classic car", "a red car", "a jeep", "a car on the road", "a muddy car", "a police car",
        "a convertible car", "a yellow car", "a rusty car")),
    "church": _lsun("church", "596f59f0ab72d3d5e821846dbf53fff0406c0103ff4fa46ae0a2508d80b3a2d0", (
        "a ruined church", "a wooden church", "a church in the snow", "a gothic church", "a church at night",
        "a church at sunset", "a church made of brick", "a white church", "a small church", "a church with a dome")),
    "horse": _lsun("horse", "894bc6a08a6bbe4c22bf91195dd4fdd4ee7f6859e06ce3517e7b3bfa9a8b2565", (
        "a white horse", "a black horse", "a running horse", "a horse with a rider", "a pony", "a horse in the snow",
        "a horse on grass", "a zebra", "a brown horse", "a fat horse")),
    "cat": _lsun("cat", "ff1036877c8964ba7c9e84316e67ea26bea64bbfcf6bd6c645f45589d248727f", _pets("cat")),
}


def published_settings(draw, swept):
    """Settings of a domain whose networks were not at hand: ours by analogy with faces, guesses all of them."""
    guess = {"all": "guess, by analogy with faces"}
    return Settings(
        Encoding(steps=200, rate=0.15, features=0.2, prior=2e-4, jitter=0.3, small_until=0.8, origin=guess),
        Gallery(samples=2000, psi=1.0, share=0.05, axes=128, ridge=200, sideways=300, least=0.1, identity=100,
                origin=guess),
        Optimization(steps=60, rate=0.1, lambda_l2=0.001, lambda_id=0.1, start=1.0, goal=1.3, sideways=0.1,
                     augmentations=8, at_once=2, origin=guess),
        MapperTraining(steps=300, batch=8 if draw is None else 2, rate=1.0, lambda_l2=0.03, lambda_id=0.1, start=1.0,
                       goal=1.5, sideways=0.2, augmentations=4, scatter=0.1, origin=guess),
        PAPER_DIRECTIONS if swept else Directions(method="samples", alpha=3.0, channels=1000, origin=guess))


@dataclass(eq=False)  # compared and hashed by identity, so that results can be cached per domain
class Domain:
    """Everything the three methods need of one kind of picture."""

    name: str
    generator: Generator
    clip: ClipModel
    identity: IdentityNetwork | None  # None where there is no such thing as a person
    neutral: str  # the sentence that is true of every picture
    prompts: tuple[str, ...]  # to start from
    psi: float  # the truncation that random images look best at: 0.7 for photographs
    rows: dict[str, slice]  # the rows of w_plus that are coarse, medium and fine
    fingerprint: str  # sha256 of the generator's file: what was learned on it fits no other
    licence: str
    classifier: AttributeClassifier | None = None  # judges edits, never drives one; None where there is no such judge
    clip_name: str = "its own"  # or which of OpenAI's
    clip_fingerprint: str = ""  # of its own CLIP's image half, which is all that a sweep asks, or which of OpenAI's
    samples: tuple[Path, ...] = ()  # pictures that stand in for a user's own
    sweep: tuple[Source, ...] = ()  # the authors' own sweep, where they published it
    e4e: tuple[Source, ...] = ()  # an encoder as published
    encoder: Encoder | None = None  # image -> w, where `inversion.invert` begins
    align: bool = False  # are its pictures faces, cut out as FFHQ's are?
    draw: int | None = None  # the side that long runs draw at, where the generator can stop early
    settings: Settings = None
    gallery: dict[str, torch.Tensor] | None = None  # `latents.gallery`, where it comes along
    asked: dict[str, tuple] = field(default_factory=dict)  # what a prompt asks for: {prompt: (attribute, choices)}
    related: dict[str, tuple] = field(default_factory=dict)  # see `judging.judge`
    hidden: dict[str, tuple] = field(default_factory=dict)

    @property
    def device(self):
        return self.generator.w_avg.device


def load_domain(name=None, device=None, clip=None):
    """Load a domain by name; what is not here is fetched.

    Args:
        name: "faces", "avatars", or one of `PUBLISHED`. Without one, the environment variable STYLECLIP_DOMAIN
            decides; else faces; else, where their generator cannot be fetched, avatars.
        device: a torch device; without one, the GPU if there is one.
        clip: which of OpenAI's (`CLIPS`) to take, or "its own", the small one that comes with faces and avatars.
            Without one, these take their own (faces on a GPU: ViT-B/32 where it can be had), published domains
            ViT-B/32.

    Raises: ValueError for an unknown name or a damaged file, FileNotFoundError for a missing one, Unavailable for one
        that cannot be fetched.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if clip and clip not in (known := [*CLIPS, Domain.clip_name]):
        raise ValueError(f'There is no CLIP "{clip}"; there is: {", ".join(known)}.')
    why = "asked for"
    if name is None:
        name, why = os.environ.get("STYLECLIP_DOMAIN"), "set by STYLECLIP_DOMAIN"
    if not name:
        try:
            return _announce(_load("faces", device, clip), "the default")
        except Unavailable as error:
            name, why = "avatars", f"faces are not to be had: {error}"
    return _announce(_load(name, device, clip), why)


def _load(name, device, clip):
    if name in EMBEDDED:
        if name == "faces" and device.type == "cuda" and clip is None:
            clip = _best_clip()
        return _load_embedded(DATA / name, device, None if clip == Domain.clip_name else clip)
    if name not in PUBLISHED:
        raise ValueError(f'There is no domain "{name}"; there is: {", ".join((*EMBEDDED, *PUBLISHED))}.')
    if clip == Domain.clip_name:
        raise ValueError(f"{name} comes with no CLIP of its own; there is: {', '.join(CLIPS)}.")
    return _load_published(name, device, clip or "ViT-B/32")


def _best_clip():
    """ViT-B/32 if it is here or can be fetched, else None, for the small one."""
    try:
        fetch(CLIPS["ViT-B/32"])
    except Unavailable as error:
        print(f"The small CLIP is taken: ViT-B/32 is not to be had ({error}).")
        return None
    return "ViT-B/32"


def _published_clip(name):
    return ClipModel(published_clip(read_safetensors(fetch(CLIPS[name]))[0]))


def _announce(domain, why):
    print(f"Domain: {domain.name} ({why}), {domain.generator.resolution} px, on {domain.device}. {domain.licence}")
    if domain.identity is None:
        print("No identity network goes with it, so the identity term of methods 1 and 2 is left out.")
    return domain


def _load_published(name, device, clip):
    published = PUBLISHED[name]
    generator, fingerprint = _published_generator(published.generator)
    identity = None
    if published.people:
        path = fetch(IDENTITY)
        identity = fill(IdentityNetwork(), read_torch(path), path.name).to(device)
    # The authors' sweep belongs to ViT-B/32, and their alpha and beta to that sweep. Without it, random images rank the
    # channels; the number of channels left is then a start, not a measured optimum.
    swept = clip == "ViT-B/32" and bool(published.sweep)
    draw = 256 if generator.resolution > 256 else None
    return Domain(
        name=name, generator=generator.to(device), clip=_published_clip(clip).to(device), identity=identity,
        neutral=published.neutral, prompts=published.prompts, psi=0.7, rows=_rows(generator, (4, 8)),
        fingerprint=fingerprint, licence=published.licence, sweep=published.sweep if swept else (),
        e4e=published.e4e, align=published.people, clip_name=clip, clip_fingerprint=clip, draw=draw,
        settings=published_settings(draw, swept))


def _published_generator(sources):
    """A generator and its fingerprint. It is read from the published file once, and kept beside it as safetensors."""
    for source in sources:
        converted = _converted(source.path)
        if converted.exists():
            check_cached(converted)
            return load_generator(converted), read_safetensors(converted, only_header=True, needs=["source"])["source"]
    path = fetch(sources)
    generator, fingerprint = load_generator(path), sha256_of(path)
    try:
        save_module(_converted(path), generator, source=fingerprint)
        record(_converted(path))
    except OSError as error:
        print(f"{error}: it is read from {path.name} again next time, which takes longer.")
    return generator, fingerprint


def _converted(path):
    return path.with_name(path.stem + ".generator.safetensors")


def _rows(generator, split):
    """The coarse, medium and fine rows of w_plus, parted at two places."""
    parts = [slice(*ends) for ends in pairwise([0, *split, generator.num_layers])]
    return dict(zip(("coarse", "medium", "fine"), parts))


def _load_embedded(folder, device, clip=None):
    card = json.loads((folder / "domain.json").read_text("utf-8"))
    paths = {part: check_file(folder / f"{part}.safetensors", sha256) for part, sha256 in card["sha256"].items()}

    def network(part, kind):
        if part not in paths:
            return None
        state, header = read_safetensors(paths[part], needs=["config"])
        return fill(kind(**header["config"]), state, paths[part].name).to(device)

    if "generator" in paths:
        generator, fingerprint = load_generator(paths["generator"]), card["sha256"]["generator"]
    else:
        generator, fingerprint = _published_generator((RANDOM_FACE,))
        add_readouts(generator, paths["readouts"])
    if card.get("draw"):  # what is drawn small is drawn often: in half precision where the device computes with it
        generator.precision, generator.precision_from, generator.full_exact = half_type(device), 8, True
    vectors = card["gallery"] if clip is None else None
    clip_model = _published_clip(clip) if clip else ClipModel(network("clip", CLIP), frozenset(card["words"]))
    return Domain(
        name=folder.name, generator=generator.to(device),
        clip=clip_model.to(device),
        identity=network("identity", IdentityNetwork), classifier=network("classifier", AttributeClassifier),
        encoder=network("encoder", Encoder), clip_name=clip or Domain.clip_name,
        clip_fingerprint=clip or runs.fingerprint(parameters_to_vector(clip_model.model.visual.parameters())),
        rows=_rows(generator, card["split"]), fingerprint=fingerprint,
        neutral=card["neutral"], prompts=tuple(card["prompts"]), psi=card["psi"], licence=card["licence"],
        align=card.get("align", False), draw=card.get("draw"),
        settings=from_card(card["settings"]) if clip is None else published_settings(card.get("draw"), swept=False),
        gallery=vectors and read_safetensors(check_file(folder / vectors[0], vectors[1]))[0],
        **{name: {key: tuple(value) for key, value in card.get(name, {}).items()}
           for name in ("asked", "related", "hidden")},
        samples=tuple(sorted((folder / "samples").glob("*.*g"))))


def check_file(path, sha256):
    """The path, if the file there has this hash; otherwise an error in one sentence that says what to do."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: restore it with `git checkout {path.name}`, or run `make models`.")
    found = sha256_of(path)
    if found != sha256:
        raise ValueError(f"{path} is damaged (sha256 {found[:12]}..., expected {sha256[:12]}...): restore it with "
                         f"`git checkout {path.name}`, or run `make models`.")
    return path
