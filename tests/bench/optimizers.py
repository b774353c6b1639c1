"""Notebook 2's Adam beside the authors' Ranger: the held-out loss on the way.

    python -m tests.bench.optimizers [--steps 300]

Same start, same batches, same objective and number of steps. Result: optimizers.
"""

import argparse
from dataclasses import replace

from helpers.domains import load_domain
from helpers.methods.mapper import (
    LinearMapperObjective,
    mapper_settings,
    new_mapper,
    paper_optimizer,
    start_at_linear_step,
    train_mapper,
    training_loop,
)
from helpers.training_files import training_latents
from helpers.training_state import TrainingRun

from .results import add_keep, save

PROMPTS = ("a bald person", "a person with purple hair")


class ConstantRate(LinearMapperObjective):
    """Our objective with a constant learning rate, as the authors have it."""

    scheduled = False


def by_ranger(domain, prompt, latents, settings, lr):
    """The held-out losses of a training by Ranger, at the start and every 25 steps."""
    mapper = new_mapper(domain, "ours")
    start_at_linear_step(domain, mapper, prompt, settings, keep=[])
    objective = ConstantRate(domain, prompt, latents, replace(settings, lr=lr),
                             domain.preview_resolution)
    run = TrainingRun(mapper, paper_optimizer(mapper, lr))
    training_loop(run, objective, seed=0)
    return run.history["held_out"]


def by_adam(domain, prompt, latents, settings):
    """The same of notebook 2's own training, which keeps nothing here, as Ranger's."""
    _, history = train_mapper(domain, prompt, latents, keep=[], settings=settings)
    return history["held_out"]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, help="without it, as many as notebook 2 takes")
    add_keep(parser)
    options = parser.parse_args()
    domain = load_domain("avatars", "cpu")
    latents, settings = training_latents(domain), mapper_settings(domain, "ours", options.steps)
    adam = f"Adam {settings.lr}"
    report = {name: {} for name in (adam, "Ranger 0.5", "Ranger 1.0")}
    for prompt in PROMPTS:
        for name in report:
            if name == adam:
                losses = by_adam(domain, prompt, latents, settings)
            else:
                lr = float(name.removeprefix("Ranger "))
                losses = by_ranger(domain, prompt, latents, settings, lr)
            report[name][prompt] = {"first": losses[0], "best": min(losses), "losses": losses}
            print(f"{prompt:28} {name:12} first {losses[0]:.3f}, best {min(losses):.3f}",
                  flush=True)
    save("optimizers", keep=options.keep, seed=0, held_out=report)


if __name__ == "__main__":
    main()
