"""The avatars' world: draw people from it, render them, and keep the renders on disk.

One avatar is a row of choices: one per attribute (`ATTRIBUTES`), one variant for each attribute
that has several drawings (`VARIANTS`), and a pose. world.json holds every choice and its weight.
"""

import json
import multiprocessing
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import resvg_py
from dicebear import Avatar, Style
from dicebear.options import OptionsValidator
from PIL import Image

WORLD = json.loads((Path(__file__).parent / "world.json").read_text("utf-8"))
ATTRIBUTES = {name: list(choices) for name, choices in WORLD["attributes"].items()}
# Attributes whose choices have several drawings: how many, for each choice.
VARIANTS = {
    name: [max(1, len(WORLD["variants"][name][choice])) for choice in ATTRIBUTES[name]]
    for name in ("top", "glasses", "facial_hair")
}
COLUMNS = [*ATTRIBUTES, *(f"{name}_variant" for name in VARIANTS)]
POSE = ("rotate", "translate_x", "translate_y", "scale")
HAIRLESS_TOPS = ("bald", "beanie", "hat", "turban", "hijab")
TRAIN_SEED, TEST_SEED = 1, 2


def probabilities(attribute):
    """The world's probability of each choice of an attribute, in the order of `ATTRIBUTES`."""
    weights = np.array(list(WORLD["attributes"][attribute].values()), dtype=float)
    return weights / weights.sum()


def draw(count, rng):
    """Draw avatars: choices int64 [count, len(COLUMNS)] and poses in [-1, 1], float32 [count, 4]."""
    choices = {name: rng.choice(len(ATTRIBUTES[name]), count, p=probabilities(name)) for name in ATTRIBUTES}
    variants = [rng.integers(np.array(counts)[choices[name]]) for name, counts in VARIANTS.items()]
    return np.stack([*choices.values(), *variants], 1), rng.uniform(-1, 1, (count, 4)).astype(np.float32)


def hair_is_visible(choices):
    """Whether the hair colour can be seen at all: by the hair, or by a beard or moustache; bool [N]."""
    hairless = [ATTRIBUTES["top"].index(top) for top in HAIRLESS_TOPS]
    shaven = ATTRIBUTES["facial_hair"].index("none")
    return ~(np.isin(choices[:, COLUMNS.index("top")], hairless)
             & (choices[:, COLUMNS.index("facial_hair")] == shaven))


def labels(choices):
    """What a picture shows: int64 [N, number of attributes], -1 for what no one can see.

    That is the colour of hair that is covered or absent, and the clothes under a hijab.
    """
    seen = choices[:, :len(ATTRIBUTES)].copy()
    hijab = choices[:, COLUMNS.index("top")] == ATTRIBUTES["top"].index("hijab")
    seen[hijab, list(ATTRIBUTES).index("clothes")] = -1
    seen[~hair_is_visible(choices), list(ATTRIBUTES).index("hair_color")] = -1
    return seen


def _style():
    if not hasattr(_style, "cached"):
        # Checking the options against their JSON schema takes 80 % of a render; ours are right by construction.
        OptionsValidator.validate = staticmethod(lambda options: None)
        _style.cached = Style(json.loads(files("dicebear_styles").joinpath("avataaars.json").read_text("utf-8")))
    return _style.cached


def _options(choice, pose):
    """The options of the avataaars style for one avatar."""
    is_ = {name: ATTRIBUTES[name][choice[i]] for i, name in enumerate(ATTRIBUTES)}
    variants, colors, ranges = WORLD["variants"], WORLD["colors"], WORLD["pose"]

    def drawing(name):
        drawings = variants[name][is_[name]]
        return drawings[choice[COLUMNS.index(f"{name}_variant")]] if drawings else None

    def between(limits, position):  # position -1 ... 1
        return float(limits[0] + (limits[1] - limits[0]) * (position + 1) / 2)

    face = variants["expression"][is_["expression"]]
    options = {
        "seed": "0", "idRandomization": False, "flip": "none",
        "rotate": between(ranges["rotate_degrees"], pose[0]),
        "translateX": between(ranges["translate_percent"], pose[1]),
        "translateY": between(ranges["translate_percent"], pose[2]),
        "scale": between(ranges["scale"], pose[3]),
        "skinColor": colors["skin"][is_["skin"]], "hairColor": colors["hair"][is_["hair_color"]],
        "facialHairColor": colors["hair"][is_["hair_color"]],
        "clothesColor": colors["clothes"][is_["clothes_color"]], "hatColor": colors["clothes"][is_["clothes_color"]],
        "backgroundColor": colors["background"][is_["background"]],
        "accessoriesColor": variants["follows"]["glasses frame"],
        "clothesVariant": variants["clothes"][is_["clothes"]][0],
        "mouthVariant": face["mouth"], "eyesVariant": face["eyes"], "eyebrowsVariant": face["eyebrows"],
    }
    for name, component in (("top", "top"), ("glasses", "accessories"), ("facial_hair", "facialHair")):
        options[f"{component}Probability"] = 100 if drawing(name) else 0
        if drawing(name):
            options[f"{component}Variant"] = drawing(name)
    return options


def render(choice, pose, resolution):
    """Draw one avatar (rows of `draw`'s arrays) as uint8 [resolution, resolution, 3]."""
    size = round(WORLD["render"]["size"] * resolution)
    svg = Avatar(_style(), {**_options(choice, pose), "size": size}).to_string()
    picture = Image.open(BytesIO(resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True))).convert("RGB")
    return np.asarray(picture.crop([round(edge * resolution) for edge in WORLD["render"]["crop"]]))


def _render_one(job):
    return render(*job)


def renders(count, resolution, seed, folder):
    """`count` avatars and their renders, from disk where they were made before.

    Returns choices [count, columns], poses [count, 4] and images uint8 [count, R, R, 3] (memory-mapped).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"renders-{resolution}px-seed{seed}-{count}.npy"
    choices, poses = draw(count, np.random.default_rng(seed))
    if not path.exists():
        part = path.with_suffix(".part")
        images = np.lib.format.open_memmap(part, "w+", np.uint8, (count, resolution, resolution, 3))
        jobs = ((choices[i], poses[i], resolution) for i in range(count))
        with multiprocessing.get_context("fork").Pool() as pool:
            for i, image in enumerate(pool.imap(_render_one, jobs, chunksize=64)):
                images[i] = image
                if (i + 1) % 20_000 == 0:
                    print(f"rendered {i + 1:,} of {count:,}", flush=True)
        images.flush()
        part.rename(path)
    return choices, poses, np.load(path, mmap_mode="r")
