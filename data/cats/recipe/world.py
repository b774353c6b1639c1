"""The cats' world: kittens put together of David Revoy's layers (CC BY 4.0, peppercarrot.com).

The layers lie in the package robohash 2.0. It is fetched and read as an archive of pictures;
nothing of it is installed or run.
"""

import math
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

import numpy as np
from PIL import Image, ImageOps

from data.worlds.world import World, between
from helpers.domains.download import PackageSource, fetch

LAYERS = PackageSource(
    "robohash", "2.0", "robohash-2.0-py3-none-any.whl",
    "fbb51f1e30924200a3c055360eddc09d722018a47ff28f4a73d523889b3d6ba4", 43_664_315)
FOLDERS = {"body": "000#00body", "fur": "001#01fur", "eyes": "002#02eyes", "mouth": "003#03mouth",
           "accessory": "004#04accessories"}
DRAWN = ("coat", "pattern", "eyes", "mouth", "accessory")  # from the lowest layer to the uppermost
FINER = 2  # a kitten is put together and turned at so many times the final side


def member(name):
    """Where a layer, for example "eyes 4", lies in the archive."""
    part, number = name.split()
    return f"robohash/sets/set4/{FOLDERS[part]}/{int(number):03d}#{part}{number}.png"


@lru_cache(maxsize=2)  # of two sizes; reading the archive takes a second
def layers(names, side):
    """David Revoy's layers, fetched where they must be: {name: RGBA picture of side x side}.

    Raises: as `fetch`, and ValueError, in one sentence, if the archive lacks a layer.
    """
    found, path = {}, fetch((LAYERS,))
    with ZipFile(path) as archive:
        for name in names:
            try:
                content = archive.read(member(name))
            except KeyError:
                raise ValueError(f"{path} has no {member(name)}: delete it, and it is fetched "
                                 "anew.") from None
            picture = Image.open(BytesIO(content), formats=["PNG"]).convert("RGBA")
            found[name] = picture.resize((side, side), Image.Resampling.BOX)
    return found


class Cats(World):
    """Kittens before a plain background, turned to the right or to the left."""

    def labels(self, choices):
        """What pictures show: int64 [N, attributes], -1 for what cannot be seen.

        The file's "hidden" says where: a mouth under a scarf, light patterns on cream.
        """
        seen = choices[:, :len(self.attributes)].copy()
        for attribute, cases in self.file["hidden"].items():
            for case in cases:
                hidden = np.ones(len(choices), bool)
                for other, names in case.items():
                    hidden &= self.is_one_of(choices, other, names)
                seen[hidden, self.columns.index(attribute)] = -1
        return seen

    def placement(self, pose, side):
        """Where in a kitten each pixel of a picture lies: the numbers of PIL's affine transform."""
        ranges = self.file["pose"]
        angle = math.radians(between(ranges["rotate_degrees"], pose[0]))
        right = between(ranges["translate_x_percent"], pose[1]) / 100
        below = between(ranges["translate_y_percent"], pose[2]) / 100
        scale = between(ranges["scale"], pose[3])
        # The kitten turns about its middle; its lower edge lies below that of the picture.
        x, y = (0.5 + right) * side, (1 + below - scale / 2) * side
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        return (cos, sin, side / 2 - cos * x - sin * y, -sin, cos, side / 2 + sin * x - cos * y)

    def render(self, choice, pose, resolution):
        """Draw one kitten, rows of `draw`'s arrays: uint8 [resolution, resolution, 3].

        Raises: as `layers`.
        """
        chosen = {name: of[choice[i]] for i, (name, of) in enumerate(self.attributes.items())}
        side = FINER * resolution
        pieces = layers(tuple(self.file["layers"]), side)
        kitten = Image.new("RGBA", (side, side))
        for attribute in DRAWN:
            drawing = self.drawing(attribute, choice)
            if drawing is not None:
                kitten.alpha_composite(pieces[drawing])
        if chosen["facing"] == "left":
            kitten = ImageOps.mirror(kitten)
        kitten = kitten.transform(kitten.size, Image.Transform.AFFINE, self.placement(pose, side),
                                  Image.Resampling.BICUBIC)
        color = self.file["colors"]["background"][chosen["background"]]
        picture = Image.new("RGBA", kitten.size, color)
        picture.alpha_composite(kitten)
        return np.asarray(picture.convert("RGB").reduce(FINER))


CATS = Cats(Path(__file__).parent / "world.json", varied=DRAWN)
