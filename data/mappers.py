"""Train the mappers that come with a domain, by notebook 2's own code, into data/<domain>/mappers/.

    python -m data.mappers faces    those of its card; an interrupted run goes on from build/mappers

The card also says which of the three networks a mapper has. On faces only hair colour has the
fine one: the authors leave it out for shapes, and with it a beard came with red hair, and age
with orange skin.
"""

import argparse
import time
from pathlib import Path

from data import cards
from helpers.domains import DATA, EMBEDDED, load_domain
from helpers.methods.mapper import train_mapper
from helpers.training_files import mapper_path, save_mapper, training_latents

WORK = Path(__file__).resolve().parent.parent / "build" / "mappers"


def write_mappers(folder):
    """Train each mapper of the card of a domain in data/ that has no file yet."""
    domain = load_domain(folder, "cpu")
    latents = training_latents(domain)
    for prompt, networks in cards.read(folder)["mappers"].items():
        path = mapper_path(domain, prompt)
        if path.exists():
            continue
        started = time.time()
        run = WORK / domain.name / path.with_suffix(".run").name
        mapper, history = train_mapper(domain, prompt, latents, networks=networks, path=run)
        save_mapper(path, mapper, domain, prompt)
        run.unlink(missing_ok=True)
        print(f"{prompt}: held-out loss {history['held_out'][0]:.3f} -> "
              f"{min(history['held_out']):.3f}, {time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train the mappers that come with a domain.")
    parser.add_argument("domain", choices=EMBEDDED)
    write_mappers(DATA / parser.parse_args().domain)
