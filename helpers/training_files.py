"""What trainings leave on disk: mappers, ours and the authors'; latents to train on; sweeps."""

import hashlib
import re
from pathlib import Path

import torch

from . import images
from .clip_model import check_prompt
from .domains import DATA
from .domains.formats.safetensors_files import fill, read_safetensors, save_module, save_tensors
from .domains.formats.torch_files import read_array, read_torch
from .inversion import invert, tuned_domain
from .latents import random_w_plus
from .methods.directions import sweep
from .methods.linear_model import kept_sentences
from .methods.mapper import LatentMapper, mapper_settings, train_mapper

MINE = Path("mappers")  # where your own are kept; in Colab, put a folder of your Drive here


def save_mapper(path, mapper, domain, prompt, objective="ours"):
    """Write a mapper with its prompt and the fingerprint of the generator it was trained on, in
    half precision."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_module(path, mapper, half=True, prompt=prompt, objective=objective,
                generator=domain.w_fingerprint, domain=domain.name)


def load_mapper(path, domain):
    """The mapper that `save_mapper` wrote.

    Raises: ValueError if it is damaged, or was trained on another generator.
    """
    state, header = read_safetensors(path, needs=["prompt", "config", "generator", "domain"])
    if header["generator"] != domain.w_fingerprint:
        raise ValueError(f"{Path(path).name} is a mapper of another generator "
                         f"({header['domain']}), whose steps mean nothing to {domain.name}: "
                         "train one, or load its domain.")
    return fill(LatentMapper(**header["config"]), state, Path(path).name).to(domain.device)


def save_tuned(path, domain, tuned):
    """Write what `inversion.tune_generator` changed of a domain's generator, in half precision."""
    before, after = domain.generator.state_dict(), tuned.generator.state_dict()
    changed = {name: (after[name] - before[name]).half() for name in before
               if not torch.equal(after[name], before[name])}
    save_tensors(path, changed, tuned=domain.fingerprint, domain=domain.name)


def load_tuned(path, domain):
    """The `Domain` that `save_tuned` wrote, made of the domain it was tuned from.

    Raises: ValueError if the file is damaged, or of another generator.
    """
    changed, header = read_safetensors(path, needs=["tuned", "domain"])
    state = domain.generator.state_dict()
    fits = all(name in state and state[name].shape == part.shape for name, part in changed.items())
    if header["tuned"] != domain.fingerprint or not fits:
        raise ValueError(f"{Path(path).name} was tuned from another generator "
                         f"({header['domain']}): load its domain, or tune anew.")
    return tuned_domain(domain, {name: state[name] + part.to(domain.device)
                                 for name, part in changed.items()})


def mapper_path(domain, prompt, folder=None, objective="ours", keep=None):
    """Where the mapper of a prompt lies: in `folder`, under the domain's name, or among those that
    come with the domain.

    Part of the name is a hash of the whole prompt and of what the mapper keeps, where that is not
    the domain's own, so that two mappers never share a file.
    """
    prompt = check_prompt(prompt)
    asked = f"{objective}: {prompt}"
    kept = kept_sentences(domain, domain.neutral, prompt, keep)
    if kept != kept_sentences(domain, domain.neutral, prompt):
        asked += f", keep: {kept}"
    words = re.sub(r"[^\w]+", "-", prompt)[:60].strip("-")
    name = f"{words}-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
    if folder is None:
        return DATA / domain.name / "mappers" / f"{name}.safetensors"
    return Path(folder) / f"{domain.name}-{name}.safetensors"


def find_mapper(domain, prompt, objective="ours", keep=None):
    """The trained mapper of a prompt, one of yours or one that came along; None if there is none.

    Args: keep: as `train_mapper`.

    Raises: ValueError if the file is damaged, or holds another mapper.
    """
    for folder in (MINE, None):
        path = mapper_path(domain, prompt, folder, objective, keep)
        if path.exists():
            said = read_safetensors(path, only_header=True).get("prompt", "")
            if check_prompt(said) != check_prompt(prompt):
                raise ValueError(f"{path.name} holds the mapper of another sentence: delete it.")
            return load_mapper(path, domain)
    return None


def train_and_keep(domain, prompt, latents, objective="ours", callback=None, **options):
    """Train a mapper, or go on with its unfinished run, and keep it in `MINE` once it is trained.

    Where it cannot be written (a full disk), that is said, and the mapper is returned all the same.
    Options, returns and raises as `train_mapper`.
    """
    path = mapper_path(domain, prompt, MINE, objective, options.get("keep"))
    run = path.with_suffix(".run")
    mapper, history = train_mapper(domain, prompt, latents, objective=objective, path=run,
                                   callback=callback, **options)
    settings = mapper_settings(domain, objective, options.get("steps"), options.get("settings"))
    if len(history["loss"]) == settings.steps:  # not stopped before its end
        try:
            save_mapper(path, mapper, domain, prompt, objective)
            run.unlink(missing_ok=True)
        except OSError as error:
            print(f"The mapper is trained but not saved ({error}): "
                  "it lasts as long as this session.")
    return mapper, history


def training_latents(domain, source=None, *, seed=0, say=print):
    """w_plus [N, L, w_dim] to train on: random images, or what `source`, a folder or a .npy file,
    holds.

    How many random images, and their truncation, are settings. Files that are no pictures, or show
    no face where one is needed, are skipped, counted and named.

    Raises: ValueError where nothing is left.
    """
    if source is None:
        settings = domain.settings.mapper
        return random_w_plus(domain, settings.training_latents, seed, settings.psi)
    source = Path(source)
    if source.suffix == ".npy":  # the authors' 68 inverted faces come as one
        return domain.generator.check_w_plus(read_array(source).float()).to(domain.device)
    if not source.is_dir():
        raise ValueError(f"There is no folder {source}: "
                         "give a folder of pictures, or a .npy file of latents.")
    pictures, skipped = [], []
    for path in images.files_in(source):
        try:
            picture = images.open_image(path, domain.generator.resolution, silent, domain.align)
            pictures.append(picture)
        except (ValueError, OSError, RuntimeError):  # the last kind is dlib's
            skipped.append(path.name)
    if skipped:
        more = " ..." if len(skipped) > 5 else ""
        say(f"Skipped {len(skipped)} files that cannot be used: {', '.join(skipped[:5])}{more}")
    if not pictures:
        raise ValueError(f"{source} holds no picture that can be opened: "
                         "put PNG or JPEG files there.")
    say(f"Encoding {len(pictures)} pictures.")
    parts = torch.cat(pictures).split(domain.generator.batch)
    return torch.cat([invert(domain, part)[0] for part in parts])


def silent(text):
    """Takes a sentence, and shows it nowhere."""


def from_authors_state(state):
    """A mapper for FFHQ at 1024 px from the authors' `state_dict`, {"mapper.course_mapping...":
    tensor}.

    Raises: ValueError if these are other weights.
    """
    state = {name.removeprefix("mapper."): value for name, value in state.items()}
    ours, rows = {}, {}
    for name, theirs, part in (("coarse", "course", (0, 4)), ("medium", "medium", (4, 8)),
                               ("fine", "fine", (8, 18))):
        for i in range(4):
            for kind in ("weight", "bias"):
                key = f"{theirs}_mapping.mapping.{i + 1}.{kind}"
                if key in state:
                    ours[f"networks.{name}.layers.{i}.{kind}"] = state[key].float()
                    rows[name] = part
    if not rows or f"networks.{next(iter(rows))}.layers.0.weight" not in ours:
        raise ValueError("These are not the weights of a mapper by the authors' code.")
    dim = ours[f"networks.{next(iter(rows))}.layers.0.weight"].shape[1]
    return fill(LatentMapper(rows, dim, normalize_over="rows"), ours, "The file")


def load_authors_mapper(path, domain):
    """The mapper in a .pt file of the authors; tensors only are read.

    On `faces`, whose W+ is FFHQ's without the last two rows, those two are left out. Raises:
    ValueError if it does not fit the domain.
    """
    content = read_torch(path)
    mapper = from_authors_state(content.get("state_dict", {}) if isinstance(content, dict) else {})
    rows = domain.generator.num_layers
    if mapper.config["dim"] != domain.generator.w_dim or rows not in (16, 18):
        raise ValueError(f"{Path(path).name} is a mapper for 18 rows of {mapper.config['dim']}; "
                         f"{domain.name} has {rows} of {domain.generator.w_dim}.")
    mapper.config["rows"] = {name: (first, min(last, rows))
                             for name, (first, last) in mapper.config["rows"].items()}
    return mapper.to(domain.device)


def say_time_left(state):
    """Print how far a sweep is, now and then."""
    if state["step"] % 100 == 0 or state["step"] == state["steps"]:
        left = f"{state['seconds_left']:.0f} s left"
        print(f"channel {state['step']} of {state['steps']}, {left}", flush=True)


def keep_sweep(domain, path=None, *, callback=say_time_left, accelerator=None, **options):
    """Sweep a domain and write what was found to `path`, by default where the domain looks for it.

    Options and raises as `sweep`. Returns True when it is whole; run again, a sweep that was
    stopped goes on.
    """
    path = Path(path or domain.sweep_path())
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    found, done = sweep(domain, path=unfinished, callback=callback, accelerator=accelerator,
                        **options)
    if not done.all():
        print(f"Stopped with {int(done.sum())} of {len(found)} channels done; "
              "run it again to go on.")
        return False
    if accelerator is None or accelerator.is_main_process:
        save_tensors(path, {"directions": found.half()}, generator=domain.w_fingerprint,
                     clip=domain.clip_fingerprint)
        for part in path.parent.glob(f"{unfinished.name}*"):
            part.unlink()
    domain.kept.pop("sweep", None)  # what an older sweep said
    domain.kept.pop("relevance", None)
    return True
