"""Pools of generated faces: who z is, and their pictures at 256 px. A pool is drawn once, in parts, into a work folder.

| pool  | seed | faces | used for                                                     |
|-------|------|-------|--------------------------------------------------------------|
| train | 1001 | 4,032 | CLIP, identity and encoder; some labelled by eye             |
| judge | 2002 | 1,512 | the judge alone; others labelled by eye than those of CLIP   |
| test  | 3003 | 324   | labelled by eye; nothing is trained on it                    |
"""

import numpy as np
import torch
from numpy.lib.format import open_memmap

POOLS = {"train": (1001, 4032), "judge": (2002, 1512), "test": (3003, 324)}
SIDE, PART = 256, 8


def latents(generator, pool):
    """The w [N, w_dim] of a pool; each face has a truncation psi of its own, from 0.6 to 1."""
    seed, count = POOLS[pool]
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(count, generator.z_dim, generator=random)
    psi = 0.6 + 0.4 * torch.rand(count, 1, generator=random)
    with torch.no_grad():
        return generator.w_avg.lerp(generator.map(z), psi)


@torch.no_grad()
def pictures(generator, pool, folder):
    """A pool's pictures, uint8 [N, 256, 256, 3]; drawn where they are not in the folder yet, going on after a stop."""
    w, path, done = latents(generator, pool), folder / f"{pool}.npy", folder / f"{pool}.done"
    shape = (len(w), SIDE, SIDE, 3)
    drawn = int(done.read_text()) if done.exists() else 0
    pixels = open_memmap(path, mode="r+" if drawn else "w+", dtype=np.uint8, shape=None if drawn else shape)
    for start in range(drawn, len(w), PART):
        image = generator(generator.broadcast(w[start:start + PART]), resolution=SIDE)
        pixels[start:start + PART] = ((image.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        if start % (25 * PART) == 0 or start + PART >= len(w):
            pixels.flush()
            done.write_text(str(min(len(w), start + PART)))
            print(f"{pool}: {min(len(w), start + PART)} of {len(w)} faces drawn", flush=True)
    return pixels
