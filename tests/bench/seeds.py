"""Other random numbers everywhere, so that margins.py sees what hangs on one seed."""

from dataclasses import replace

import torch

import helpers.domains
from helpers.latents import WSpace
from helpers.methods.linear_model import SEED as LINEAR_MODEL_SEED

STRIDE = 10_000  # from one run's seeds to the next
Fixed, set_global_seed, load = torch.Generator, torch.manual_seed, helpers.domains.load_domain
measure = WSpace.__init__


class Moved(torch.Generator):
    """A generator of random numbers whose seeds are moved."""

    run = 0

    def manual_seed(self, seed):
        if seed == LINEAR_MODEL_SEED:  # CLIP's vectors of these images come along
            return super().manual_seed(seed)
        return super().manual_seed(seed + STRIDE * Moved.run)


def measure_as_ever(space, generator):
    """W's axes with their own seed, since they are part of what a mapper's file means."""
    torch.Generator = Fixed
    measure(space, generator)
    torch.Generator = Moved


def set_moved_seed(seed):
    """In place of `torch.manual_seed`."""
    return set_global_seed(seed + STRIDE * Moved.run)


def load_with_other_samples(*arguments, **options):
    """In place of `load_domain`: the samples come in another order."""
    domain, first = load(*arguments, **options), 7 * Moved.run
    samples, latents = domain.samples[first:] + domain.samples[:first], domain.sample_latents
    if latents is not None:
        latents = torch.cat([latents[first:], latents[:first]])
    return replace(domain, samples=samples, sample_latents=latents)


def move(run):
    """Give every generator of random numbers in this process another seed; run 0 is as it was."""
    Moved.run = run
    WSpace.__init__ = measure_as_ever
    torch.Generator, torch.manual_seed = Moved, set_moved_seed
    helpers.domains.load_domain = load_with_other_samples
