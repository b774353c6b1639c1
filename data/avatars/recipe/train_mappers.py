"""The six mappers that come with the avatars, trained by notebook 2's own code: into data/avatars/mappers/."""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "data")]

from helpers.domains import load_domain  # noqa: E402
from helpers.notebook_code import notebook_code  # noqa: E402


def main(work=ROOT / "build" / "models"):
    """Train the mappers of notebook 2's READY; a run that was cut goes on from its file in `work`."""
    code, domain = notebook_code("02_latent_mapper"), load_domain("avatars", "cpu")
    latents = code["training_latents"](domain)
    for prompt in code["READY"]:
        started, path = time.time(), code["mapper_path"](domain, prompt)
        path.parent.mkdir(exist_ok=True)
        run = work / path.with_suffix(".run").name
        mapper, history = code["train_mapper"](domain, prompt, latents, path=run)
        code["save_mapper"](path, mapper, domain, prompt)
        run.unlink()
        print(f"{prompt}: held-out loss {history['held_out'][0]:.3f} -> {min(history['held_out']):.3f}, "
              f"{time.time() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
