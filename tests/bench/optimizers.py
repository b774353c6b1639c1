"""Notebook 2's Adam beside the authors' optimiser, Ranger (`paper_optimizer`): the held-out loss on the way.

Same start, same batches, same number of steps. Writes build/optimizers.json.
"""

import json
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from helpers.domains import load_domain  # noqa: E402
from helpers.mapper_files import training_latents  # noqa: E402
from helpers.methods import mapper  # noqa: E402
from helpers.runs import Run  # noqa: E402

PROMPTS = ("a bald person", "a person with purple hair")


def held_out_losses(domain, prompt, latents, make):
    """The held-out losses of a run by our objective, every 25 steps; `make` builds the optimiser of a mapper."""
    settings = domain.settings.mapper
    torch.manual_seed(0)
    network = mapper.new_mapper(domain, "ours")
    mapper.start_at_suggestion(domain, network, prompt, settings)
    optimizer = make(network)
    run = Run(network, optimizer, {})
    mapper.training_loop(run, mapper.our_objective(domain, prompt, latents, settings, domain.draw),
                         *mapper.split_latents(latents, settings.batch), settings, 0)
    return run.history["held_out"]


def main():
    domain = load_domain("avatars", "cpu")
    latents, report = training_latents(domain), {}
    settings = domain.settings.mapper
    recipes = {f"Adam {settings.rate}": partial(mapper.FallingRate, rate=settings.rate, steps=settings.steps),
               "Ranger 0.5": partial(mapper.paper_optimizer, rate=0.5),
               "Ranger 1.0": partial(mapper.paper_optimizer, rate=1.0)}
    for prompt in PROMPTS:
        for name, make in recipes.items():
            losses = held_out_losses(domain, prompt, latents, make)
            report.setdefault(name, {})[prompt] = losses
            print(f"{prompt:28} {name:12}", *(f"{loss:.3f}" for loss in losses[::3]), f"best {min(losses):.3f}",
                  flush=True)
    (ROOT / "build" / "optimizers.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
