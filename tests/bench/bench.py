"""`make bench`: what the README's tables say, measured here. Writes build/bench.json and build/edits.jpg.

python tests/bench/bench.py              times, and the quality of notebook 1's default, on 32 faces
python tests/bench/bench.py --plain 8    only the same table for equation (1) as it stands, on the first 8 faces
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

from conftest import notebook_functions  # noqa: E402
from judge import ASKED, faces_to_judge, judge, summary  # noqa: E402

from helpers import images  # noqa: E402
from helpers.domains import load_domain  # noqa: E402
from helpers.inversion import invert  # noqa: E402


def median_seconds(action, repeats):
    """Median wall time of an action, after one run to warm up."""
    action()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def quality(domain, optimize, latents):
    """The ten prompts on all faces: a table, and the edited images of each prompt."""
    before, results, edited, rows = faces_to_judge(domain, latents), {}, {}, {}
    for prompt in ASKED:
        edited[prompt] = faces_to_judge(domain, optimize(domain, latents, prompt)[0])
        success, kept = results[prompt] = judge(domain.classifier, before, edited[prompt], prompt)
        shares = [sum(values) / len(values) for values in kept.values() if values]
        rows[prompt] = {"faces": len(success), "asked attribute there": sum(success) / len(success),
                        "others unchanged": sum(shares) / len(shares)}
        print(f"  {prompt:28}", *(f"{value:.2f}" for value in rows[prompt].values()), flush=True)
    success, kept = summary(results)
    print(f"  mean: asked attribute there {success:.3f}, others unchanged {kept:.3f}", flush=True)
    return {"asked attribute there": success, "others unchanged": kept, "prompts": rows}, edited


def judge_equation_1(count):
    domain = load_domain("avatars", "cpu")
    faces = torch.cat([images.open_image(path, domain.generator.resolution) for path in domain.samples[:count]])
    optimize = notebook_functions("01_latent_optimization.ipynb")["optimize_equation_1"]
    print(f"notebook 1, equation (1) as it stands, {count} faces", flush=True)
    report, _ = quality(domain, optimize, invert(domain, faces)[0])
    (ROOT / "build" / "bench_equation_1.json").write_text(json.dumps(report, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", type=int, metavar="FACES", help="judge equation (1) as it stands on so many faces")
    plain = parser.parse_args().plain
    if plain:
        return judge_equation_1(plain)
    load = [sys.executable, "-c", "from helpers.domains import load_domain; load_domain('avatars', 'cpu')"]
    report = {"threads": torch.get_num_threads(), "seconds": {}, "quality": {}}
    seconds = report["seconds"]
    seconds["import and load"] = median_seconds(
        lambda: subprocess.run(load, cwd=ROOT, check=True, capture_output=True), 3)
    domain = load_domain("avatars", "cpu")
    method1 = notebook_functions("01_latent_optimization.ipynb")
    faces = torch.cat([images.open_image(path, domain.generator.resolution) for path in domain.samples])
    seconds["encode one image"] = median_seconds(lambda: invert(domain, faces[:1]), 3)
    latents = torch.cat([invert(domain, part)[0] for part in faces.split(8)])
    seconds["faces to start from, once"] = median_seconds(lambda: method1["gallery"].__wrapped__(domain), 1)
    seconds["one 200-step optimization"] = median_seconds(
        lambda: method1["optimize_latent"](domain, latents[:1], "a person with glasses", steps=200), 3)
    print(json.dumps(seconds, indent=1), flush=True)

    print("notebook 1, recommended: faces, asked attribute there, others unchanged", flush=True)
    report["quality"]["recommended"], edited = quality(domain, method1["optimize_latent"], latents)
    shown = [0, 2, 5, 9, 13, 21]
    rows = [faces_to_judge(domain, latents)[shown], *(after[shown] for after in edited.values())]
    (ROOT / "build").mkdir(exist_ok=True)
    sheet = torch.cat(rows).unflatten(0, (len(rows), len(shown))).transpose(0, 1).flatten(0, 1)
    (ROOT / "build" / "edits.jpg").write_bytes(images.to_jpeg(images.grid(sheet, columns=len(rows), size=96)))
    (ROOT / "build" / "bench.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
