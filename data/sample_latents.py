"""The latents of a domain's samples, so that panels open with an edit on show.

    python -m data.sample_latents faces      takes a minute for each face
"""

import argparse

import torch

from helpers.domains import DATA, EMBEDDED, load_domain
from helpers.domains.formats.safetensors_files import save_tensors
from helpers.images import open_image
from helpers.inversion import invert


def write_sample_latents(folder):
    """Encode the samples of the domain in a folder: w_plus [N, L, w_dim], in half precision.

    N in the order of `domain.samples`. The file says which pictures they are, and of which
    generator.
    """
    domain = load_domain(folder, "cpu")
    latents = []
    for path in domain.samples:
        image = open_image(path, domain.generator.resolution)
        w_plus, _ = invert(domain, image)
        latents.append(w_plus)
        print(f"{path.name}: {len(latents)} of {len(domain.samples)}", flush=True)
    save_tensors(folder / "samples" / "latents.safetensors",
                 {"w_plus": torch.cat(latents).half()}, generator=domain.fingerprint,
                 samples=[path.name for path in domain.samples])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Encode the samples of a domain.")
    parser.add_argument("domain", choices=EMBEDDED)
    write_sample_latents(DATA / parser.parse_args().domain)
