"""The avatars' world: people that DiceBear draws in the avataaars style."""

import json
from functools import lru_cache
from importlib.resources import files
from io import BytesIO
from pathlib import Path

import numpy as np
import resvg_py
from dicebear import Avatar, Style
from dicebear.options import OptionsValidator
from PIL import Image

from data.worlds.world import World, between

HAIRLESS_TOPS = ("bald", "beanie", "hat", "turban", "hijab")


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


class Avatars(World):
    """Cartoon people."""

    def hair_is_visible(self, choices):
        """Whether the hair colour can be seen, by the hair, a beard or a moustache: bool [N]."""
        return ~(self.is_one_of(choices, "top", HAIRLESS_TOPS)
                 & self.is_one_of(choices, "facial_hair", ["none"]))

    def labels(self, choices):
        """What pictures show: int64 [N, attributes], -1 for what cannot be seen.

        That is the colour of hair that is covered or absent, and the clothes under a hijab.
        """
        seen = choices[:, :len(self.attributes)].copy()
        hijab = self.is_one_of(choices, "top", ["hijab"])
        seen[hijab, self.columns.index("clothes")] = -1
        seen[~self.hair_is_visible(choices), self.columns.index("hair_color")] = -1
        return seen

    def options(self, choice, pose):
        """The options of the avataaars style for one avatar, rows of `draw`'s arrays."""
        chosen = {name: of[choice[i]] for i, (name, of) in enumerate(self.attributes.items())}
        variants, colors, ranges = self.file["variants"], self.file["colors"], self.file["pose"]
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
            drawing = self.drawing(attribute, choice)
            options[f"{component}Probability"] = 100 if drawing else 0
            if drawing:
                options[f"{component}Variant"] = drawing
        return options

    def render(self, choice, pose, resolution):
        """Draw one avatar, rows of `draw`'s arrays: uint8 [resolution, resolution, 3]."""
        size = round(self.file["render"]["size"] * resolution)
        svg = Avatar(avataaars(), {**self.options(choice, pose), "size": size}).to_string()
        png = resvg_py.svg_to_bytes(svg_string=svg, skip_system_fonts=True)
        crop = [round(edge * resolution) for edge in self.file["render"]["crop"]]
        return np.asarray(Image.open(BytesIO(png)).convert("RGB").crop(crop))


AVATARS = Avatars(Path(__file__).parent / "world.json", varied=("top", "glasses", "facial_hair"))
