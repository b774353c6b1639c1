"""Sweep a domain's channels with notebook 3's code, on one process or several; cut, it goes on where it was.

python notebooks/sweep.py
accelerate launch --cpu --num_processes 2 notebooks/sweep.py
"""

import argparse
import sys
from pathlib import Path

from accelerate import Accelerator

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from helpers.domains import load_domain  # noqa: E402
from helpers.sweeps import keep_sweep  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", help="as for load_domain; without it, load_domain decides")
    parser.add_argument("--count", type=int, help="images; the authors take 100")
    parser.add_argument("--seed", type=int, default=0, help="of the images")
    parser.add_argument("--to", help="where to write it; without it, where the notebook looks for it")
    options = parser.parse_args()

    accelerator = Accelerator()
    domain = load_domain(options.domain, accelerator.device)
    settings = {"count": options.count} if options.count else {}
    keep_sweep(domain, options.to, accelerator=accelerator, seed=options.seed, **settings)


if __name__ == "__main__":
    main()
