"""Notebook 2's Adam beside the authors' optimiser, Ranger (from pytorch-optimizer): the held-out loss on the way.

Same start, same batches, same number of steps. Writes build/optimizers.json.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from pytorch_optimizer import Ranger  # noqa: E402

from helpers.domains import load_domain  # noqa: E402
from helpers.mapper_files import training_latents  # noqa: E402
from helpers.methods import mapper  # noqa: E402
from helpers.runs import Run  # noqa: E402

PROMPTS = ("a bald person", "a person with purple hair")
RANGER = dict(betas=(0.95, 0.999), eps=1e-5, k=6, alpha=0.5, use_gc=True)  # as the authors set it


def held_out_losses(domain, prompt, latents, rate, make):
    """The held-out losses of a run by our objective, every 25 steps; `make` builds the optimiser, None keeps ours."""
    settings = replace(domain.settings.mapper, rate=rate)
    torch.manual_seed(0)
    network = mapper.new_mapper(domain, "ours")
    mapper.start_at_suggestion(domain, network, prompt, settings)
    optimizer = make(network.parameters()) if make else mapper.FallingRate(network, rate, settings.steps)
    run = Run(network, optimizer, {})
    mapper.training_loop(run, mapper.our_objective(domain, prompt, latents, settings, domain.draw),
                         *mapper.split_latents(latents, settings.batch), settings, 0)
    return run.history["held_out"]


def main():
    domain = load_domain("avatars", "cpu")
    latents, report = training_latents(domain), {}
    recipes = {"Adam 1.0": (1.0, None), "Ranger 0.5": (0.5, lambda p: Ranger(p, lr=0.5, **RANGER)),
               "Ranger 1.0": (1.0, lambda p: Ranger(p, lr=1.0, **RANGER))}
    for prompt in PROMPTS:
        for name, (rate, make) in recipes.items():
            losses = held_out_losses(domain, prompt, latents, rate, make)
            report.setdefault(name, {})[prompt] = losses
            print(f"{prompt:28} {name:12}", *(f"{loss:.3f}" for loss in losses[::3]), f"best {min(losses):.3f}",
                  flush=True)
    (ROOT / "build" / "optimizers.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
