"""Pools of generated faces: who z is, and their pictures at 256 px.

A pool is drawn once, in parts, into a work folder.

| pool       | seed | latents | drawn | used for                                           |
|------------|------|---------|-------|----------------------------------------------------|
| train      | 1001 | 4,032   | 3,024 | CLIP, identity and encoder; some labelled by eye   |
| train-more | 1004 | 5,040   | 5,040 | the same                                           |
| judge      | 2002 | 1,512   | 1,008 | the judge alone; others labelled by eye than CLIP's |
| judge-more | 2004 | 3,024   | 3,024 | the judge alone; some labelled by eye              |
| judge-rest | 2005 | 6,048   | 6,048 | the judge alone; none labelled by eye              |
| test       | 3003 | 324     | 324   | labelled by eye; nothing is trained on it          |
| test-more  | 3004 | 576     | 576   | labelled by eye; nothing is trained on it          |
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.lib.format import open_memmap

from data.training import to_pixels
from helpers.domains.download import Source, fetch
from helpers.domains.formats.torch_files import read_array
from helpers.mobile_stylegan import from_ffhq_rows


class Pool(NamedTuple):
    """A row of the table above."""

    seed: int
    latents: int
    drawn: int


POOLS = {
    "train": Pool(1001, 4032, 3024),
    "train-more": Pool(1004, 5040, 5040),
    "judge": Pool(2002, 1512, 1008),
    "judge-more": Pool(2004, 3024, 3024),
    "judge-rest": Pool(2005, 6048, 6048),
    "test": Pool(3003, 324, 324),
    "test-more": Pool(3004, 576, 576),
}
SIDE, PART = 256, 8  # px; faces drawn at a time
TOWARDS = (0.2, 0.8)  # how far `moved` goes to another face
IN_ROWS = 0.6  # how likely `moved` moves each of the three levels
PUSHED = {"train": 110, "judge": 60, "test": 12}  # faces for each rare expression
DIRECTIONS = ("https://raw.githubusercontent.com/a312863063/generators-with-stylegan2/"
              "54615db2f0e90d7868e7e7c52287c9ab6b5cafcc/latent_directions")


class Expression(NamedTuple):
    """A published direction of FFHQ's W+, and how far it is followed."""

    source: Source
    least: float
    most: float


EXPRESSIONS = {
    "surprised": Expression(
        Source(f"{DIRECTIONS}/emotion_surprise.npy",
               "3f77343f67f310bb78f152f3fbd9205f4dbff670c673f73118ddf4a0c76bd82a"), 4, 6.5),
    "angry": Expression(
        Source(f"{DIRECTIONS}/emotion_angry.npy",
               "6e89d076b4ec1214e3b8aaa7f70dc4bc1fdf2867ab1bf6f161d9a66b38dd12f2"), 6, 10),
    "sad": Expression(
        Source(f"{DIRECTIONS}/emotion_sad.npy",
               "f4ec49ff2ceeaa0a78a53c109ce56cba534d7e9d17f9db7a65e6036208016037"), 8, 13),
}


def latents(generator, pool):
    """The w [N, w_dim] of a pool; each face has a truncation psi of its own, from 0.6 to 1."""
    seed, count, drawn = POOLS[pool]
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(count, generator.z_dim, generator=random)
    psi = 0.6 + 0.4 * torch.rand(count, 1, generator=random)
    device = generator.w_avg.device
    with torch.no_grad():
        w = generator.w_avg.lerp(generator.map(z.to(device)), psi.to(device))
    return w[:drawn].cpu()


@torch.no_grad()
def drawn(generator, w_plus, path):
    """Pictures uint8 [N, 256, 256, 3] of w_plus [N, L, w_dim], drawn where the file lacks them.

    After an interruption, it goes on where it was.
    """
    done = path.with_suffix(".done")
    if done.exists():
        first, pixels = int(done.read_text()), open_memmap(path, mode="r+")
    else:
        shape = (len(w_plus), SIDE, SIDE, 3)
        first, pixels = 0, open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    for start in range(first, len(w_plus), PART):
        part = w_plus[start:start + PART].to(generator.w_avg)
        pixels[start:start + PART] = to_pixels(generator(part, resolution=SIDE))
        last = start + PART >= len(w_plus)
        if last or start % (25 * PART) == 0:
            pixels.flush()
            count = min(len(w_plus), start + PART)
            done.write_text(str(count))
            print(f"{path.stem}: {count} of {len(w_plus)} faces drawn", flush=True)
    return np.asarray(pixels)


@torch.no_grad()
def moved(generator, pool):
    """Every face of a pool on its way to another, in some of its rows or in all.

    Like an edited face, it is the same person more or less.

    Returns: w_plus [N, L, w_dim].
    """
    w, random = latents(generator, pool), torch.Generator().manual_seed(POOLS[pool].seed + 2)
    others = w[torch.randperm(len(w), generator=random)]
    least, most = TOWARDS
    share = least + (most - least) * torch.rand(len(w), 1, generator=random)
    levels = torch.rand(len(w), 3, generator=random) < IN_ROWS  # coarse, medium, fine
    levels |= ~levels.any(dim=1, keepdim=True)
    counts = torch.tensor([4, 4, generator.num_layers - 8])
    rows = levels.repeat_interleave(counts, dim=1)  # [N, L]
    step = (share * rows)[:, :, None]
    return generator.broadcast(w).lerp(generator.broadcast(others), step)


@torch.no_grad()
def pushed(generator, pool):
    """Faces of a pool with rare expressions: w_plus [N, L, w_dim], and their N expressions' names.

    People in FFHQ smile or look calm. Published directions of its W+ (generators-with-stylegan2)
    make the rest, at strengths between which, by eye, the change was plain and the face whole.
    """
    w, random = latents(generator, pool), torch.Generator().manual_seed(POOLS[pool].seed + 1)
    count, moved, names = PUSHED[pool], [], []
    for k, (name, (source, least, most)) in enumerate(EXPRESSIONS.items()):
        direction = from_ffhq_rows(read_array(fetch((source,))))  # [L, w_dim]
        part = w[k * count:(k + 1) * count]
        strength = least + (most - least) * torch.rand(len(part), 1, 1, generator=random)
        moved.append(generator.broadcast(part) + strength * direction)
        names += [name] * len(part)
    return torch.cat(moved), names
