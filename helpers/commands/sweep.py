"""Sweep a domain's channels with notebook 3's code, on one process or several; cut, it goes on.

python -m helpers.commands.sweep
torchrun --standalone --nproc_per_node 2 -m helpers.commands.sweep
"""

import argparse

import torch
from accelerate import Accelerator

from helpers.domains import load_domain
from helpers.training_files import keep_sweep, say_time_left


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", help="as for load_domain; without it, load_domain decides")
    parser.add_argument("--count", type=int, help="images; the authors take 100")
    parser.add_argument("--seed", type=int, default=0, help="of the images")
    parser.add_argument("--to", help="where to write it; without it, where the notebook looks")
    options = parser.parse_args()

    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    domain = load_domain(options.domain, accelerator.device)
    keep_sweep(domain, options.to, accelerator=accelerator, seed=options.seed, images=options.count,
               callback=say_time_left if accelerator.is_main_process else None)
    accelerator.wait_for_everyone()  # a process that ends first would abort the others
    accelerator.end_training()


if __name__ == "__main__":
    main()
