"""OpenAI's CLIP from its published tensors."""

from ...clip_model import build_model
from .safetensors_files import what_does_not_fit


def published_clip(state):
    """A `CLIP` with a vision transformer from {published name: tensor}; every size is inferred.

    OpenAI's package makes half precision of it, for GPUs; here it computes in fp32, on the same
    values.

    Raises: ValueError, in one sentence, if these are other weights, some are missing, or sizes
        contradict one another.
    """
    if "visual.proj" not in state or "token_embedding.weight" not in state:
        raise ValueError("These are not the weights of a CLIP with a vision transformer.")
    try:
        return build_model(dict(state)).float()
    except Exception as error:  # of the many that missing tensors and odd sizes cause
        raise ValueError("The weights of this CLIP are not whole, or contradict one another "
                         f"({what_does_not_fit(error)}): delete their file and fetch it again."
                         ) from None
