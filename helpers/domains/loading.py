"""`load_domain`: the networks of faces, avatars and cats lie in data/, what is published is fetched
once (download.py)."""

import hashlib
import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch.nn.utils import parameters_to_vector

from ..clip_model import CLIP, ClipModel
from ..face_networks import AttributeClassifier, Encoder, HeadReader, IdentityNetwork
from ..fused_ops import half_type
from ..settings import changed, from_card
from .domain import DATA, OWN_CLIP, Domain
from .download import Unavailable, cache_folder, check_cached, fetch, record, sha256_of
from .formats.clip_weights import published_clip
from .formats.generators import load_generator
from .formats.openvino import add_readouts
from .formats.safetensors_files import (
    fill,
    first_line,
    read_safetensors,
    save_module,
    save_tensors,
)
from .formats.torch_files import read_torch
from .published import CLIPS, IDENTITY, PUBLISHED, RANDOM_FACE, published_settings

# Their networks lie in data/, all but the generator of the faces.
EMBEDDED = ("faces", "avatars", "cats")


@torch.inference_mode(False)  # weights made in inference mode would break every later gradient
def load_domain(name=None, device=None, clip=None):
    """Load a domain by name; what is not here is fetched.

    Args:
        name: one of `EMBEDDED` or `PUBLISHED`; or the `Path` of a folder that a recipe of data/
            wrote. Without one, the environment variable STYLECLIP_DOMAIN decides; else
            faces; else, where their generator cannot be fetched, avatars.
        device: "cpu" or "cuda"; without one, the GPU if there is one that works.
        clip: which of OpenAI's (`CLIPS`) to take, or "its own", the small one that comes with
            `EMBEDDED`. Without one, these take their own, with which everything was measured, and
            published domains take ViT-B/32.

    Returns: a `Domain`.
    Raises: ValueError for an unknown name or device or a damaged file, FileNotFoundError for a
        missing one, Unavailable for one that cannot be fetched.
    """
    device = usable_device(device)
    known = [*CLIPS, OWN_CLIP]
    if clip is not None and clip not in known:
        raise ValueError(f'There is no CLIP "{clip}"; there is: {", ".join(known)}.')
    why = "asked for"
    if name is None:
        name, why = os.environ.get("STYLECLIP_DOMAIN"), "set by STYLECLIP_DOMAIN"
    if not name:
        name, why = "faces", "the default"
        try:
            return _announce(_load(name, device, clip), why)
        except Unavailable as error:
            name, why = "avatars", f"faces are not to be had: {error}"
    return _announce(_load(name, device, clip), why)


def usable_device(device=None):
    """The torch device to load networks to; without one, the GPU if there is one that works.

    An old GPU can be there and still run none of a new torch's kernels: that is said, and the
    processor is taken. Raises: ValueError for a device other than "cpu" and "cuda".
    """
    if device is not None:
        device = torch.device(device)
        if device.type not in ("cpu", "cuda"):
            raise ValueError(f'device must be "cpu" or "cuda"; "{device.type}" was never tried.')
        return device
    if torch.cuda.is_available():
        try:
            torch.ones(2, device="cuda").sum().item()
            return torch.device("cuda")
        except (RuntimeError, AssertionError) as error:
            print(f"The GPU cannot be used ({first_line(error)}): the processor is taken.")
    return torch.device("cpu")


def _load(name, device, clip):
    if isinstance(name, Path):
        return _load_embedded(name, device, None if clip == OWN_CLIP else clip)
    if name in EMBEDDED:
        return _load_embedded(DATA / name, device, None if clip == OWN_CLIP else clip)
    if name not in PUBLISHED:
        there = ", ".join((*EMBEDDED, *PUBLISHED))
        raise ValueError(f'There is no domain "{name}"; there is: {there}.')
    if clip == OWN_CLIP:
        raise ValueError(f"{name} comes with no CLIP of its own; there is: {', '.join(CLIPS)}.")
    return _load_published(name, device, clip or "ViT-B/32")


def settings_path(name, clip_name):
    """Where settings of your own for a domain and a CLIP lie: in the cache folder, for example as
    settings/ffhq--ViT-B-32.json. `python -m helpers.commands.calibrate` writes them."""
    clip_name = clip_name.replace("/", "-").replace(" ", "-")
    return cache_folder() / "settings" / f"{name}--{clip_name}.json"


def save_linear_model(domain):
    """Write the tensors of a domain's linear model beside its settings (`settings_path`), where
    `load_domain` finds them: {name: tensor} with what they were fitted to.

    Raises: OSError, such as for a full disk.
    """
    path = settings_path(domain.name, domain.clip_name).with_suffix(".safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, domain.linear_model_tensors, fitted_to=_fitted_to(domain))


def _fitted_to(domain):
    return {"generator": domain.fingerprint, "clip": domain.clip_fingerprint,
            **domain.settings.linear_model.of_fit()}


def _saved_linear_model(domain):
    """What `save_linear_model` wrote, or None if there is none, or it was fitted to other networks
    or with other settings."""
    path = settings_path(domain.name, domain.clip_name).with_suffix(".safetensors")
    if not path.exists():
        return None
    tensors, header = read_safetensors(path, needs=["fitted_to", "clip", "clip model"])
    if header["fitted_to"] != _fitted_to(domain):
        return None
    return {part: values.to(domain.device) for part, values in tensors.items()}


def settings_from_cache(name, clip_name):
    """What `settings_path` holds, {method: {name: [value, origin]}}, or {}.

    What it names takes the place of the domain's own. Raises: ValueError if the file is no JSON
    object of such objects.
    """
    path = settings_path(name, clip_name)
    if not path.exists():
        return {}
    try:
        card = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): mend it, or delete it.") from None
    entries = card.values() if isinstance(card, dict) else [None]
    if not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{path} must hold an object of settings: mend it, or delete it.")
    return card


def _announce(domain, why):
    usual, mine = domain.settings.linear_model, settings_from_cache(domain.name, domain.clip_name)
    domain.settings = changed(domain.settings, mine)
    if usual.of_fit() != domain.settings.linear_model.of_fit():
        domain.linear_model_tensors = None  # what came along was fitted otherwise
    if domain.linear_model_tensors is None:
        domain.linear_model_tensors = _saved_linear_model(domain)
    print(f"Domain: {domain.name} ({why}), {domain.generator.resolution} px, on {domain.device}. "
          f"{domain.licence}")
    if mine:
        print(f"With settings of your own: {settings_path(domain.name, domain.clip_name)}")
    elif domain.clip_name != OWN_CLIP:
        print("Its settings for this CLIP are guesses; `python -m helpers.commands.calibrate "
              f"{domain.name} --clip {domain.clip_name}` chooses better ones.")
    if domain.clip.words is not None:
        print(f"Its small CLIP knows {len(domain.clip.words)} words (domain.clip.words); "
              f'load_domain("{domain.name}", clip="ViT-B/32") knows all, a download of 605 MB.')
    if domain.identity is None:
        print("No identity network goes with it, so the identity term of methods 1 and 2 is "
              "left out.")
    return domain


def _published_clip(name):
    tensors, _ = read_safetensors(fetch(CLIPS[name]))
    return ClipModel(published_clip(tensors))


def _load_published(name, device, clip):
    published = PUBLISHED[name]
    generator, fingerprint = _published_generator(published.generator)
    identity = None
    if published.people:
        path = fetch(IDENTITY)
        identity = fill(IdentityNetwork(), read_torch(path), path.name).to(device)
    # The authors' sweep belongs to ViT-B/32, and their alpha and beta to that sweep. Without it, a
    # linear model ranks
    # the channels; the number of channels left is then a start, not a measured optimum.
    swept = clip == "ViT-B/32" and bool(published.sweep)
    preview_resolution = 256 if generator.resolution > 256 else None
    return Domain(
        name=name, generator=generator.to(device), clip=_published_clip(clip).to(device),
        identity=identity, neutral=published.neutral, prompts=published.prompts, psi=0.7,
        rows=_rows(generator, (4, 8)), fingerprint=fingerprint, licence=published.licence,
        settings=published_settings(preview_resolution, swept), e4e=published.e4e,
        published_sweep=published.sweep if swept else (), align=published.people, clip_name=clip,
        clip_fingerprint=clip, preview_resolution=preview_resolution)


def _published_generator(sources):
    """A generator and its fingerprint. It is read from the published file once, and kept beside it
    as safetensors."""
    for source in sources:
        converted = _converted(source.path)
        if converted.exists():
            check_cached(converted)
            header = read_safetensors(converted, only_header=True, needs=["source"])
            return load_generator(converted), header["source"]
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
    parts = [slice(first, last) for first, last in pairwise([0, *split, generator.num_layers])]
    return dict(zip(("coarse", "medium", "fine"), parts))


def _load_embedded(folder, device, clip_name=None):
    """The domain in a folder of data/, with its own CLIP or one of OpenAI's.

    Raises: FileNotFoundError or ValueError, in one sentence, if networks are missing or damaged.
    """
    path = folder / "domain.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: give the folder of a domain, such as "
                                f"{DATA / 'avatars'}.")
    card = json.loads(path.read_text("utf-8"))
    if not card["sha256"]:
        raise FileNotFoundError(f"{folder} has no networks yet: its recipe makes them, see "
                                f"{folder / 'README.md'}.")
    paths = {part: check_file(folder / f"{part}.safetensors", sha256)
             for part, sha256 in card["sha256"].items()}
    preview_resolution = card.get("preview_resolution")
    generator, fingerprint = _embedded_generator(card, paths)
    if preview_resolution is not None:
        # Previews are drawn often: in half precision, where the device computes with it.
        generator.precision, generator.precision_from = half_type(device), 8
        generator.full_exact = True
    domain = Domain(
        name=folder.name, generator=generator.to(device), clip=None, fingerprint=fingerprint,
        identity=_network(IdentityNetwork, paths.get("identity"), device),
        classifier=_network(AttributeClassifier, paths.get("classifier"), device),
        encoder=_network(Encoder, paths.get("encoder"), device),
        head=_network(HeadReader, paths.get("head"), device),
        rows=_rows(generator, card["split"]), neutral=card["neutral"],
        prompts=tuple(card["prompts"]), psi=card["psi"], licence=card["licence"],
        align=card.get("align", False), preview_resolution=preview_resolution, settings=None,
        keep_defaults=_keep_defaults(card),
        prompt_targets=_tuples(card, "prompt_targets"), entangled=_tuples(card, "entangled"),
        occluded_by=_tuples(card, "occluded_by"), compounds=card.get("compounds", {}),
        samples=tuple(sorted((folder / "samples").glob("*.*g"))))
    domain.sample_latents = _sample_latents(folder / "samples" / "latents.safetensors", domain)
    if clip_name is None:
        model = _network(CLIP, paths["clip"], device)
        domain.clip = ClipModel(model, frozenset(card["words"]))
        visual = parameters_to_vector(model.visual.parameters()).cpu().numpy()
        # A sweep asks the image half alone, so the text half may be taught anew without another
        # name.
        domain.clip_fingerprint = hashlib.sha256(visual.tobytes()).hexdigest()[:16]
        domain.settings = from_card(card["settings"])
        domain.linear_model_tensors = _linear_model_tensors(folder, card, device)
    else:
        domain.clip = _published_clip(clip_name).to(device)
        domain.clip_name = domain.clip_fingerprint = clip_name
        guesses = published_settings(preview_resolution, swept=False)
        tuned = from_card(card["settings"])  # these hardly depend on CLIP
        domain.settings = replace(guesses, encoding=tuned.encoding, tuning=tuned.tuning)
    return domain


def _sample_latents(path, domain):
    """w_plus [N, L, w_dim] of the samples; None if there are none, or of other pictures by now."""
    if not path.exists():
        return None
    tensors, header = read_safetensors(path, needs=["w_plus", "generator", "samples"])
    names = [sample.name for sample in domain.samples]
    if (header["generator"], header["samples"]) != (domain.fingerprint, names):
        return None
    return tensors["w_plus"].to(domain.device)


def _embedded_generator(card, paths):
    if "generator" in paths:
        return load_generator(paths["generator"]), card["sha256"]["generator"]
    generator, fingerprint = _published_generator((RANDOM_FACE,))
    add_readouts(generator, paths["readouts"])
    return generator, fingerprint


def _network(kind, path, device):
    """A network of this class from a file that says its sizes; None where the domain has no such
    file."""
    if path is None:
        return None
    state, header = read_safetensors(path, needs=["config"])
    return fill(kind(**header["config"]), state, path.name).to(device)


def _linear_model_tensors(folder, card, device):
    """What `LinearModel` needs, {name: tensor}, or None where it has to be fitted at run time."""
    if not card["linear_model"]:
        return None
    name, sha256 = card["linear_model"]
    tensors, _ = read_safetensors(check_file(folder / name, sha256))
    return {part: values.to(device, torch.float32) for part, values in tensors.items()}


def _tuples(card, name):
    return {key: tuple(value) for key, value in card.get(name, {}).items()}


def _keep_defaults(card):
    """{prompt: what its edits keep} of a card, where each list has its origin beside it."""
    return {prompt: tuple(words) for prompt, (words, _) in card.get("keep_defaults", {}).items()}


def check_file(path, sha256):
    """The path, if the file there has this hash. Raises FileNotFoundError or ValueError, which say
    what to do."""
    path = Path(path)
    remedy = f"restore it with `git checkout {path.name}`, or run `make models`."
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {remedy}")
    found = sha256_of(path)
    if found != sha256:
        raise ValueError(f"{path} is damaged (sha256 {found[:12]}..., "
                         f"expected {sha256[:12]}...): {remedy}")
    return path
