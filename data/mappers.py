"""The mappers that come with a domain, trained by notebook 2's own code: into data/<domain>/mappers/.

python data/mappers.py faces        those of its card; a run that was cut goes on from its file in build/mappers

The card also says which of the three networks each has: on faces, only hair colour has the fine one. The authors leave
it out for shapes, too; with it, a beard came with red hair, and age with orange skin.
"""

import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from helpers.domains import DATA, load_domain  # noqa: E402
from helpers.mapper_files import mapper_path, save_mapper, training_latents  # noqa: E402
from helpers.methods import train_mapper  # noqa: E402


def main(name):
    domain, work = load_domain(name, "cpu"), ROOT / "build" / "mappers" / name
    latents = training_latents(domain)
    for prompt, networks in json.loads((DATA / name / "domain.json").read_text("utf-8"))["mappers"].items():
        path = mapper_path(domain, prompt)
        if path.exists():
            continue
        started, run = time.time(), work / path.with_suffix(".run").name
        mapper, history = train_mapper(domain, prompt, latents, networks=networks, path=run)
        save_mapper(path, mapper, domain, prompt)
        run.unlink(missing_ok=True)
        print(f"{prompt}: held-out loss {history['held_out'][0]:.3f} -> {min(history['held_out']):.3f}, "
              f"{time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
