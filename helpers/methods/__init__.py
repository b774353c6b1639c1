"""The three methods, as the notebooks teach them: `make export` writes these modules from the notebooks' cells."""

from .directions import alpha_for, global_direction, sweep
from .mapper import LatentMapper, apply_mapper, new_mapper, train_mapper
from .optimization import optimize_latent

__all__ = ["LatentMapper", "alpha_for", "apply_mapper", "global_direction", "new_mapper", "optimize_latent", "sweep",
           "train_mapper"]
