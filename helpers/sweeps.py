"""Method 3's sweep on disk: kept while it runs, gone on with, found again, or fetched as its authors published it."""

import time
from functools import lru_cache
from pathlib import Path

import torch

from .checkpoints import read_array, read_safetensors, save_tensors
from .domains import DATA
from .fetching import fetch
from .stylegan2 import HalfPrecision

SAVE_EVERY = 20  # seconds


def visit(domain, channels, direction_of, settings, *, path=None, callback=None, accelerator=None):
    """Delta-i [C, D] of channels by `direction_of(channel)`, and which are done, bool [C].

    With a path, a sweep that was cut goes on. `callback` gets {"step", "steps", "seconds_left"} and may return True to
    stop. Several processes (`accelerator`) share the channels out; each keeps a file of its own.
    """
    rank, processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    path = path and Path(f"{path}.{rank}" if processes > 1 else path)
    found = torch.zeros(len(channels), domain.clip.encode_text([domain.neutral]).shape[1])
    done = torch.zeros(len(channels), dtype=torch.uint8)
    if path and path.exists():
        tensors, header = read_safetensors(path, needs=["settings", "directions", "done"])
        if header["settings"] != settings:
            raise ValueError(f"{path.name} holds a sweep with other settings: delete it to begin anew.")
        found, done = tensors["directions"].clone(), tensors["done"].clone()
    todo = [i for i in range(rank, len(channels), processes) if not done[i]]
    started = saved = time.perf_counter()
    with HalfPrecision(domain.generator):
        for count, i in enumerate(todo, 1):
            found[i], done[i] = direction_of(channels[i]).cpu(), 1
            now = time.perf_counter()
            left = (now - started) / count * (len(todo) - count)
            stop = callback and callback({"step": count, "steps": len(todo), "seconds_left": left})
            if path and (stop or count == len(todo) or now - saved > SAVE_EVERY):
                save_tensors(path, {"directions": found, "done": done}, settings=settings)
                saved = now
            if stop:
                break
    if accelerator:
        found, done = (accelerator.reduce(x.to(accelerator.device)).cpu() for x in (found, done))
    return found, done.bool()


def sweep_path(domain, folder="sweeps"):
    """Where the sweep of a domain with its CLIP is: in data/ for the embedded ones, else in a folder of yours."""
    embedded = DATA / domain.name / "sweep.safetensors"
    if embedded.exists() and domain.clip_name == "its own":
        return embedded
    return Path(folder) / f"{domain.name}-{domain.clip_name.replace('/', '-').replace(' ', '-')}.safetensors"


def has_sweep(domain):
    """Is there a sweep of this domain, here or published?"""
    return domain.sweep != () or sweep_path(domain).exists()


@lru_cache(maxsize=2)
def find_sweep(domain, count):
    """Delta-i of a domain's `count` swept channels [C, D].

    Raises: ValueError if there is no sweep yet, or one of another generator or CLIP.
    """
    path = sweep_path(domain)
    if path.exists():
        tensors, header = read_safetensors(path, needs=["generator", "directions"])
        if header["generator"] != domain.fingerprint or header.get("clip") != domain.clip_fingerprint:
            raise ValueError(f"{path.name} is no sweep of this generator and CLIP: make one with keep_sweep(domain).")
        directions = tensors["directions"]
    elif domain.sweep:
        directions = read_array(fetch(domain.sweep)).float()
    else:
        raise ValueError(f"There is no sweep of {domain.name} yet: run keep_sweep(domain), or use another method.")
    width = domain.clip.encode_text([domain.neutral]).shape[1]
    if directions.ndim != 2 or len(directions) < count or directions.shape[1] != width:
        raise ValueError(f"The sweep is {list(directions.shape)}; {domain.name} with this CLIP needs {[count, width]}.")
    return directions[:count].to(domain.device)


def time_left(state):
    """Print how far a sweep is, now and then."""
    if state["step"] % 100 == 0 or state["step"] == state["steps"]:
        print(f"channel {state['step']} of {state['steps']}, {state['seconds_left']:.0f} s left", flush=True)


def keep_sweep(domain, path=None, *, callback=time_left, accelerator=None, **options):
    """Sweep a domain and write what was found to `path` (or its place); options as `sweep`. True when it is whole."""
    from .methods import directions  # which itself looks for sweeps here
    path = Path(path or sweep_path(domain))
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    found, done = directions.sweep(domain, path=unfinished, callback=callback, accelerator=accelerator, **options)
    if not done.all():
        print(f"Stopped with {int(done.sum())} of {len(found)} channels done; run it again to go on.")
        return False
    if accelerator is None or accelerator.is_main_process:
        save_tensors(path, {"directions": found.half()}, generator=domain.fingerprint,
                     clip=domain.clip_fingerprint)
        for part in path.parent.glob(f"{unfinished.name}*"):
            part.unlink()
    find_sweep.cache_clear()
    directions.relevance_of.cache_clear()  # what an older sweep said
    return True
