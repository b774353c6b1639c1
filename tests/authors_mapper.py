"""The random weights of the authors' mapper in tests/golden/levels_mapper.npz."""

import zlib

import numpy as np
import torch


def authors_state(keys):
    """{"mapper.KEY": tensor} for the authors' keys, such as course_mapping.mapping.1.bias."""
    state = {}
    for key in keys:
        shape = (512,) if key.endswith("bias") else (512, 512)
        random = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
        values = torch.from_numpy(random.standard_normal(shape).astype(np.float32))
        state[f"mapper.{key}"] = values * (10 if key.endswith("bias") else 100)
    return state
