"""Train a mapper with notebook 2's code, on one process or several.

python -m helpers.commands.train_mapper "a person with a beard"
torchrun --standalone --nproc_per_node 2 -m helpers.commands.train_mapper "a person with a beard"
"""

import argparse
from dataclasses import replace

import torch
from accelerate import Accelerator

from helpers.domains import load_domain
from helpers.methods.mapper import mapper_settings, train_mapper
from helpers.training_files import mapper_path, save_mapper, training_latents


def say_loss(state):
    """Print the loss now and then."""
    if state["step"] % 50 == 0:
        print(f"step {state['step']} of {state['steps']}, loss {state['loss']:.3f}", flush=True)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt")
    parser.add_argument("--objective", choices=("ours", "paper"), default="ours")
    parser.add_argument("--domain", help="as for load_domain; without it, load_domain decides")
    parser.add_argument("--source", help="a folder of pictures, or a .npy file of w_plus; "
                                         "without it, random images")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--folder", default="mappers", help="where the mapper is kept")
    options = parser.parse_args()

    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    domain = load_domain(options.domain, accelerator.device)
    latents = training_latents(domain, options.source)
    settings = mapper_settings(domain, options.objective, options.steps)
    if options.batch is not None:
        settings = replace(settings, batch=options.batch)
    path = mapper_path(domain, options.prompt, options.folder, options.objective)
    run = path.with_suffix(".run")
    mapper, history = train_mapper(
        domain, options.prompt, latents, objective=options.objective, settings=settings, path=run,
        callback=say_loss if accelerator.is_main_process else None, accelerator=accelerator)
    if accelerator.is_main_process:
        save_mapper(path, mapper, domain, options.prompt, options.objective)
        run.unlink()
        print(f"{path}: held-out loss {min(history['held_out']):.4f}")
    accelerator.wait_for_everyone()  # a process that ends first would abort the others
    accelerator.end_training()


if __name__ == "__main__":
    main()
