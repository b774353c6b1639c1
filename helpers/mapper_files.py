"""Mappers on disk: ours, by prompt; the authors' checkpoints; and the latents to train on."""

import hashlib
import re
from pathlib import Path

import torch

from . import images
from .checkpoints import fill, read_array, read_safetensors, read_torch, save_module
from .domains import DATA
from .inversion import invert
from .latents import random_w_plus
from .methods.mapper import LatentMapper, mapper_settings, train_mapper

MINE = Path("mappers")  # where your own are kept; in Colab, put a folder of your Drive here


def save_mapper(path, mapper, domain, prompt, objective="ours"):
    """Write a mapper with its prompt and the fingerprint of the generator that it was trained on."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_module(path, mapper, half=True, prompt=prompt, objective=objective, generator=domain.fingerprint,
                domain=domain.name)


def load_mapper(path, domain):
    """The mapper that `save_mapper` wrote. Raises ValueError if it is damaged, or made for another generator."""
    state, header = read_safetensors(path, needs=["prompt", "config", "generator", "domain"])
    if header["generator"] != domain.fingerprint:
        raise ValueError(f"{Path(path).name} is a mapper of another generator ({header['domain']}); it does nothing "
                         f"sensible with {domain.name}: train one, or load its domain.")
    return fill(LatentMapper(**header["config"]), state, Path(path).name).to(domain.device)


def mapper_path(domain, prompt, folder=None, objective="ours"):
    """Where the mapper of a prompt lies: in `folder`, or among those that come with the domain.

    Part of the name is a hash of the whole prompt, so that two prompts never share a file.
    """
    prompt = prompt.strip().lower()
    words = re.sub(r"[^\w]+", "-", prompt)[:60].strip("-")
    name = f"{words}-{hashlib.sha256(f'{objective}: {prompt}'.encode()).hexdigest()[:8]}"
    return Path(folder or DATA / domain.name / "mappers") / f"{name}.safetensors"


def find_mapper(domain, prompt, objective="ours"):
    """The trained mapper of a prompt, one of yours or one that came along; None if there is none."""
    for folder in (MINE, None):
        path = mapper_path(domain, prompt, folder, objective)
        if path.exists():
            if read_safetensors(path, only_header=True).get("prompt", "").strip().lower() != prompt.strip().lower():
                raise ValueError(f"{path.name} holds the mapper of another sentence: delete it.")
            return load_mapper(path, domain)
    return None


def train_and_keep(domain, prompt, latents, objective="ours", callback=None, **options):
    """Train a mapper, or go on with its unfinished run, and keep it in `MINE` once it is trained.

    Where it cannot be written (a full disk), that is said, and the mapper is returned all the same.
    """
    path = mapper_path(domain, prompt, MINE, objective)
    run = path.with_suffix(".run")
    mapper, history = train_mapper(domain, prompt, latents, objective=objective, path=run, callback=callback, **options)
    steps = mapper_settings(domain, objective, steps=options.get("steps")).steps
    if len(history["loss"]) == steps:  # not stopped before its end
        try:
            save_mapper(path, mapper, domain, prompt, objective)
            run.unlink(missing_ok=True)
        except OSError as error:
            print(f"The mapper is trained but not saved ({error}): it lasts as long as this session.")
    return mapper, history


def training_latents(domain, source=None, *, seed=0, say=print):
    """w_plus [N, L, w_dim] to train on: random images, or what `source`, a folder or a .npy file, holds.

    How many random images, and their truncation, are settings. Files that are no pictures, or show no face where one is
    needed, are skipped, counted and named. Raises ValueError where nothing is left.
    """
    if source is None:
        settings = domain.settings.mapper
        return random_w_plus(domain, settings.count, seed, settings.psi)
    source = Path(source)
    if source.suffix == ".npy":  # the authors' 68 inverted faces come as one
        return domain.generator.check_w_plus(read_array(source).float()).to(domain.device)
    if not source.is_dir():
        raise ValueError(f"There is no folder {source}: give a folder of pictures, or a .npy file of latents.")
    pictures, skipped = [], []
    for path in sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith(".")):
        try:
            pictures.append(images.open_image(path, domain.generator.resolution, lambda text: None, domain.align))
        except ValueError:
            skipped.append(path.name)
    if skipped:
        say(f"Skipped {len(skipped)} files that cannot be used: {', '.join(skipped[:5])}"
            f"{' ...' if len(skipped) > 5 else ''}")
    if not pictures:
        raise ValueError(f"{source} holds no picture that can be opened: put PNG or JPEG files there.")
    say(f"Encoding {len(pictures)} pictures.")
    return torch.cat([invert(domain, part)[0] for part in torch.cat(pictures).split(domain.generator.batch)])


AUTHORS = {"coarse": ("course", (0, 4)), "medium": ("medium", (4, 8)), "fine": ("fine", (8, 18))}


def from_authors_state(state):
    """A mapper for FFHQ at 1024 px from the authors' `state_dict`, {"mapper.course_mapping...": tensor}."""
    state = {name.removeprefix("mapper."): value for name, value in state.items()}
    ours = {}
    for name, (theirs, _) in AUTHORS.items():
        for i in range(4):
            for kind in ("weight", "bias"):
                key = f"{theirs}_mapping.mapping.{i + 1}.{kind}"
                if key in state:
                    ours[f"networks.{name}.layers.{i}.{kind}"] = state[key].float()
    rows = {name: rows for name, (_, rows) in AUTHORS.items() if f"networks.{name}.layers.0.weight" in ours}
    if not rows:
        raise ValueError("These are not the weights of a mapper by the authors' code.")
    mapper = LatentMapper(rows, ours[f"networks.{next(iter(rows))}.layers.0.weight"].shape[1], normalize_over="rows")
    return fill(mapper, ours, "The file")


def load_authors_mapper(path, domain):
    """The mapper in a .pt file of the authors; tensors only are read. Raises ValueError if it does not fit.

    On `faces`, whose W+ is FFHQ's without the last two rows, those two are left out.
    """
    content = read_torch(path)
    mapper = from_authors_state(content.get("state_dict", {}) if isinstance(content, dict) else {})
    rows = domain.generator.num_layers
    if mapper.config["dim"] != domain.generator.w_dim or rows not in (16, 18):
        raise ValueError(f"{Path(path).name} is a mapper for 18 rows of {mapper.config['dim']}; {domain.name} has "
                         f"{rows} of {domain.generator.w_dim}.")
    mapper.config["rows"] = {name: (first, min(last, rows)) for name, (first, last) in mapper.config["rows"].items()}
    return mapper.to(domain.device)
