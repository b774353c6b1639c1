"""The avatars' world: draw people from it, render them, and keep the renders on disk.

One avatar is a row of choices: one per attribute (`ATTRIBUTES`), one variant for each attribute
that has several drawings (`VARIANTS`), and a pose. world.json holds every choice and its weight.
"""

import json
import multiprocessing
from functools import lru_cache
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
    """Draw avatars at random.

    Args: rng: `np.random.Generator`.

    Returns: choices int64 [count, len(COLUMNS)] and poses in [-1, 1], float32 [count, 4].
    """
    choices = {}
    for name, of in ATTRIBUTES.items():
        choices[name] = rng.choice(len(of), count, p=probabilities(name))
    for name, counts in VARIANTS.items():
        choices[f"{name}_variant"] = rng.integers(np.array(counts)[choices[name]])
    poses = rng.uniform(-1, 1, (count, 4)).astype(np.float32)
    return np.stack(list(choices.values()), 1), poses


def hair_is_visible(choices):
    """Whether the hair colour can be seen, by the hair, a beard or a moustache: bool [N]."""
    hairless = [ATTRIBUTES["top"].index(top) for top in HAIRLESS_TOPS]
    shaven = ATTRIBUTES["facial_hair"].index("none")
    return ~(np.isin(choices[:, COLUMNS.index("top")], hairless)
             & (choices[:, COLUMNS.index("facial_hair")] == shaven))


def labels(choices):
    """What a picture shows: int64 [N, attributes], -1 for what cannot be seen.

    That is the colour of hair that is covered or absent, and the clothes under a hijab.
    """
    seen = choices[:, :len(ATTRIBUTES)].copy()
    hijab = choices[:, COLUMNS.index("top")] == ATTRIBUTES["top"].index("hijab")
    seen[hijab, list(ATTRIBUTES).index("clothes")] = -1
    seen[~hair_is_visible(choices), list(ATTRIBUTES).index("hair_color")] = -1
    return seen


@lru_cache(maxsize=1)
def avataaars():
    """The style that avatars are drawn in."""
    # Checking the options against their JSON schema takes 80 % of a render, and ours are right by
    # construction.
    OptionsValidator.validate = staticmethod(accept)
    text = files("dicebear_styles").joinpath("avataaars.json").read_text("utf-8")
    return Style(json.loads(text))


def accept(options):
    """In place of a check of options."""


def between(limits, position):
    """Where `position`, from -1 to 1, lies between two limits."""
    return float(limits[0] + (limits[1] - limits[0]) * (position + 1) / 2)


def drawing_of(attribute, choice):
    """The style's name for the drawing of a choice of an attribute with variants, or None.

    Args: choice: a row of `draw`'s choices.
    """
    name = ATTRIBUTES[attribute][choice[COLUMNS.index(attribute)]]
    drawings = WORLD["variants"][attribute][name]
    if not drawings:
        return None
    return drawings[choice[COLUMNS.index(f"{attribute}_variant")]]


def options_of(choice, pose):
    """The options of the avataaars style for one avatar, rows of `draw`'s arrays."""
    chosen = {name: of[choice[i]] for i, (name, of) in enumerate(ATTRIBUTES.items())}
    variants, colors, ranges = WORLD["variants"], WORLD["colors"], WORLD["pose"]
    face = variants["expression"][chosen["expression"]]
    options = {
        "seed": "0",
        "idRandomization": False,
        "flip": "none",
        "rotate": between(ranges["rotate_degrees"], pose[0]),
        "translateX": between(ranges["translate_percent"], pose[1]),
        "translateY": between(ranges["translate_percent"], pose[2]),
        "scale": between(ranges["scale"], pose[3]),
        "skinColor": colors["skin"][chosen["skin"]],
        "hairColor": colors["hair"][chosen["hair_color"]],
        "facialHairColor": colors["hair"][chosen["hair_color"]],
        "clothesColor": colors["clothes"][chosen["clothes_color"]],
        "hatColor": colors["clothes"][chosen["clothes_color"]],
        "backgroundColor": colors["background"][chosen["background"]],
        "accessoriesColor": variants["follows"]["glasses frame"],
        "clothesVariant": variants["clothes"][chosen["clothes"]][0],
        "mouthVariant": face["mouth"],
        "eyesVariant": face["eyes"],
        "eyebrowsVariant": face["eyebrows"],
    }
    components = {"top": "top", "glasses": "accessories", "facial_hair": "facialHair"}
    for attribute, component in components.items():
        drawing = drawing_of(attribute, choice)
        options[f"{component}Probability"] = 100 if drawing else 0
        if drawing:
            options[f"{component}Variant"] = drawing
    return options


def render(choice, pose, resolution):
    """Draw one avatar, rows of `draw`'s arrays: uint8 [resolution, resolution, 3]."""
    size = round(WORLD["render"]["size"] * resolution)
    svg = Avatar(avataaars(), {**options_of(choice, pose), "size": size}).to_string()
    png = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True)
    crop = [round(edge * resolution) for edge in WORLD["render"]["crop"]]
    return np.asarray(Image.open(BytesIO(png)).convert("RGB").crop(crop))


def render_one(job):
    """`render` of (choice, pose, resolution), for a pool of processes."""
    return render(*job)


def renders(count, resolution, seed, folder):
    """`count` avatars and their renders, from disk where they were made before.

    Returns: choices [count, columns], poses [count, 4] and images uint8 [count, R, R, 3]
        (memory-mapped).
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"renders-{resolution}px-seed{seed}-{count}.npy"
    choices, poses = draw(count, np.random.default_rng(seed))
    if not path.exists():
        part = path.with_suffix(".part")
        shape = (count, resolution, resolution, 3)
        images = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
        jobs = ((choices[i], poses[i], resolution) for i in range(count))
        with multiprocessing.get_context("fork").Pool() as pool:
            for i, image in enumerate(pool.imap(render_one, jobs, chunksize=64)):
                images[i] = image
                if (i + 1) % 20_000 == 0:
                    print(f"rendered {i + 1:,} of {count:,}", flush=True)
        images.flush()
        part.rename(path)
    return choices, poses, np.load(path, mmap_mode="r")
