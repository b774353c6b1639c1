"""Train a mapper with notebook 2's code (helpers/methods/mapper.py), on one process or several.

python notebooks/train_mapper.py "a person with a beard"
accelerate launch --cpu --num_processes 2 notebooks/train_mapper.py "a person with a beard"
"""

import argparse
import sys
from pathlib import Path

from accelerate import Accelerator

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.domains import load_domain  # noqa: E402
from helpers.mapper_files import mapper_path, save_mapper, training_latents  # noqa: E402
from helpers.methods import train_mapper  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt")
    parser.add_argument("--objective", choices=("ours", "paper"), default="ours")
    parser.add_argument("--domain", help="as for load_domain; without it, load_domain decides")
    parser.add_argument("--source", help="a folder of pictures or a .npy file of w_plus; without it, random images")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--folder", default="mappers", help="where the mapper is kept")
    options = parser.parse_args()

    accelerator = Accelerator()
    domain = load_domain(options.domain, accelerator.device)
    latents = training_latents(domain, options.source)
    path = mapper_path(domain, options.prompt, options.folder, options.objective)
    settings = {name: value for name in ("steps", "batch") if (value := getattr(options, name))}
    run = path.with_suffix(".run")

    def watch(state):
        if accelerator.is_main_process and state["step"] % 50 == 0:
            print(f"step {state['step']} of {state['steps']}, loss {state['loss']:.3f}", flush=True)

    mapper, history = train_mapper(domain, options.prompt, latents, objective=options.objective, path=run,
                                   callback=watch, accelerator=accelerator, **settings)
    if accelerator.is_main_process:
        save_mapper(path, mapper, domain, options.prompt, options.objective)
        run.unlink()
        print(f"{path}: held-out loss {min(history['held_out']):.4f}")


if __name__ == "__main__":
    main()
