"""Notebook 2's Adam beside the authors' optimiser, Ranger (from pytorch-optimizer): the held-out loss on the way.

Same start, same batches, same number of steps. Writes build/optimizers.json.
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from pytorch_optimizer import Ranger  # noqa: E402

from helpers.domains import load_domain  # noqa: E402
from helpers.notebook_code import notebook_code  # noqa: E402

PROMPTS = ("a bald person", "a person with purple hair")
RANGER = dict(betas=(0.95, 0.999), eps=1e-5, k=6, alpha=0.5, use_gc=True)  # as the authors set it


def held_out_losses(code, domain, task, prompt, rate, make):
    """The held-out losses of a run, every 25 steps; `make` builds the optimiser, None keeps the notebook's."""
    training, held_out = code["split_latents"](task["latents"], 8)
    settings = dict(prompt=prompt, steps=code["STEPS"], batch=8, rate=rate, lambda_id=0.1, lambda_l2=0.03,
                    networks=list(domain.rows), seed=0)
    run = code["new_run"](domain, task, settings)
    if make:
        run.optimizer = make(run.mapper.parameters())
    while run.step < settings["steps"]:
        code["train_step"](domain, run, task, training)
        if run.step % code["EVERY"] == 0:
            code["look"](domain, run, task, held_out)
    return run.history["held_out"]


def main():
    code, domain = notebook_code("02_latent_mapper"), load_domain("avatars", "cpu")
    latents, report = code["training_latents"](domain), {}
    recipes = {"Adam 1.0": (1.0, None), "Ranger 0.5": (0.5, lambda p: Ranger(p, lr=0.5, **RANGER)),
               "Ranger 1.0": (1.0, lambda p: Ranger(p, lr=1.0, **RANGER))}
    for prompt in PROMPTS:
        task = code["training_task"](domain, prompt, latents)
        for name, (rate, make) in recipes.items():
            losses = held_out_losses(code, domain, task, prompt, rate, make)
            report.setdefault(name, {})[prompt] = losses
            print(f"{prompt:28} {name:12}", *(f"{loss:.3f}" for loss in losses[::3]), f"best {min(losses):.3f}",
                  flush=True)
    (ROOT / "build" / "optimizers.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
