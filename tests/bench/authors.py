"""The three methods beside their authors' own code, on the same weights: the same latents, weights and directions?

    git clone https://github.com/orpatashnik/StyleCLIP ; python tests/bench/authors.py StyleCLIP

Runs their `optimization/run_optimization.py`, their mapper's `Coach` with their Ranger, and their `MapTS.py` for ten
steps, ten steps and three sentences, as they stand, on a generator of 256 px with random weights, ViT-B/32 and IR-SE50;
then ours from the same start. Of theirs, only what needs a GPU, TensorFlow or a log is replaced; of ours, only the
colours that CLIP is given: theirs come as they are, in [-1, 1], ours shifted and scaled as CLIP was trained with.
Nothing of theirs is part of this repository. Writes build/authors.json.
"""

import argparse
import importlib
import json
import math
import sys
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import clip
import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from originals import importing_from, largest, random_clip, stir  # noqa: E402

from helpers.checkpoints import load_generator  # noqa: E402
from helpers.clip_model import ClipModel  # noqa: E402
from helpers.identity import IdentityNetwork  # noqa: E402
from helpers.mapper_files import from_authors_state  # noqa: E402
from helpers.methods import directions, mapper, optimization  # noqa: E402
from helpers.runs import Run  # noqa: E402
from helpers.settings import PAPER_MAPPER, PAPER_OPTIMIZATION  # noqa: E402

STEPS, SIDE, PROMPT = 10, 256, "a person with purple hair"
SENTENCES = ("person with purple hair", "smiling person", "old person")


class Enough(Exception):
    """Ten steps are done."""


class Watched:
    """A generator that keeps each latent it is asked to draw for an optimiser, and stops after ten steps."""

    def __init__(self, generator):
        self.generator, self.seen = generator, []

    def __getattr__(self, name):
        return getattr(self.generator, name)

    def __call__(self, w_plus, **options):
        w = w_plus[0] if isinstance(w_plus, list) else w_plus
        if w.requires_grad:
            self.seen.append(w.detach().clone())
            if len(self.seen) > STEPS:
                raise Enough
        return self.generator(w_plus, **options)


@contextmanager
def their_code(folder, model):
    """Their folders importable, on a CPU, with this CLIP; what they only log with is replaced."""
    idle = {name: MagicMock() for name in ("torch.utils.tensorboard", "tensorflow", "example_try")}
    with ExitStack() as stack:
        stack.enter_context(importing_from(folder / "global_directions", "MapTS"))
        stack.enter_context(importing_from(folder, "models", "criteria", "mapper", "optimization", "utils"))
        stack.enter_context(patch.dict(sys.modules, idle))
        stack.enter_context(patch.object(clip, "load", lambda *args, **options: (model, None), create=True))
        for kind in (torch.nn.Module, torch.Tensor):
            stack.enter_context(patch.object(kind, "cuda", lambda self: self))
            stack.enter_context(patch.object(kind, "to", without_cuda(kind.to)))
        yield


def without_cuda(to):
    return lambda self, *places, **options: self if places == ("cuda:0",) else to(self, *places, **options)


class Weights:
    """One generator, CLIP and identity network, in the authors' files and in our classes."""

    def __init__(self, folder, place):
        self.clip = random_clip()
        self.clip.logit_scale.data.fill_(math.log(100))  # as published: the authors divide by 100
        identity = IdentityNetwork().eval().requires_grad_(False)
        self.ir_se50, self.generator_file = place / "ir_se50.pth", place / "generator.pt"
        torch.save(identity.state_dict(), self.ir_se50)
        with importing_from(folder, "models"):
            theirs = importlib.import_module("models.stylegan2.model").Generator(SIDE, 512, 8).eval()
            stir(theirs)
            average = theirs.mean_latent(4096)[0].detach()
        torch.save({"g_ema": theirs.state_dict(), "latent_avg": average}, self.generator_file)
        generator = load_generator(self.generator_file)
        rows = {"coarse": slice(0, 4), "medium": slice(4, 8), "fine": slice(8, generator.num_layers)}
        with torch.no_grad():
            self.latents = generator.broadcast(generator.map(torch.randn(2 * STEPS, 512), truncation=0.7))
        ours = ClipModel(self.clip)
        ours.mean.fill_(0.5), ours.std.fill_(0.5)
        self.domain = SimpleNamespace(generator=generator, clip=ours, identity=identity, device=torch.device("cpu"),
                                      draw=None, rows=rows)


def method_1(folder, weights, place):
    """Largest difference of the latent, after each of ten steps of 300."""
    latent = place / "latent.pt"
    torch.save(weights.latents[:1], latent)
    options = argparse.Namespace(
        description=PROMPT, ckpt=str(weights.generator_file), stylegan_size=SIDE, lr=PAPER_OPTIMIZATION.rate,
        step=PAPER_OPTIMIZATION.steps, mode="edit", l2_lambda=PAPER_OPTIMIZATION.lambda_l2,
        id_lambda=PAPER_OPTIMIZATION.lambda_id, latent_path=str(latent), truncation=0.7, work_in_stylespace=False,
        save_intermediate_image_every=0, results_dir=str(place), ir_se50_weights=str(weights.ir_se50))
    with their_code(folder, weights.clip):
        module, watched = importlib.import_module("optimization.run_optimization"), []

        class Generator(module.Generator):
            def cuda(self):
                watched.append(Watched(self))
                return watched[-1]

        with patch.object(module, "Generator", Generator), suppress(Enough):
            module.main(options)
    ours = Watched(weights.domain.generator)
    with suppress(Enough):
        optimization.optimize_paper(SimpleNamespace(**vars(weights.domain) | {"generator": ours}), weights.latents[:1],
                                    PROMPT, PAPER_OPTIMIZATION)
    return {"way of the latent": largest(watched[0].seen[-1], weights.latents[:1]),
            "latent after each step": [largest(*pair) for pair in zip(watched[0].seen[1:], ours.seen[1:], strict=True)]}


def method_2(folder, weights, place):
    """Largest difference of a mapper's weights and biases after ten steps of the authors' training."""
    train, test = place / "train.pt", place / "test.pt"
    torch.save(weights.latents, train), torch.save(weights.latents[:5], test)
    options = argparse.Namespace(
        description=PROMPT, exp_dir=str(place), mapper_type="LevelsMapper", no_coarse_mapper=False,
        no_medium_mapper=False, no_fine_mapper=False, latents_train_path=train, latents_test_path=test,
        work_in_stylespace=False, batch_size=PAPER_MAPPER.batch, test_batch_size=1, workers=0, test_workers=0,
        learning_rate=PAPER_MAPPER.rate, optim_name="ranger", id_lambda=PAPER_MAPPER.lambda_id, clip_lambda=1.0,
        latent_l2_lambda=PAPER_MAPPER.lambda_l2, stylegan_weights=str(weights.generator_file), stylegan_size=SIDE,
        ir_se50_weights=str(weights.ir_se50), checkpoint_path=None, max_steps=STEPS, image_interval=100,
        board_interval=50, val_interval=2000, save_interval=2000)
    with their_code(folder, weights.clip):
        module, batches = importlib.import_module("mapper.training.coach"), []
        with patch.object(module.Coach, "parse_and_log_images", lambda *arguments, **names: None):
            coach = module.Coach(options)
            begin = {name: value.clone() for name, value in coach.net.mapper.state_dict().items()}
            coach.net.mapper.register_forward_pre_hook(
                lambda module, inputs: batches.append(inputs[0]) if module.training else None)
            coach.train()
    latents = torch.cat(batches)
    ours = from_authors_state(begin).train().requires_grad_(True)
    ours.config["rows"] = {name: (rows.start, rows.stop) for name, rows in weights.domain.rows.items()}
    run = Run(ours, mapper.paper_optimizer(ours, PAPER_MAPPER.rate), {})
    terms_of = mapper.paper_objective(weights.domain, PROMPT, latents, PAPER_MAPPER, None)
    for index in torch.arange(len(latents)).split(PAPER_MAPPER.batch):
        run.learn(terms_of(ours, index, [0])[0])
    theirs, started = (from_authors_state(state).state_dict() for state in (coach.net.mapper.state_dict(), begin))
    found = {"steps": run.step}
    for kind in ("weight", "bias"):  # float32 rounds the weights, some hundreds large, at 3e-5; biases begin at 0
        names = [name for name in theirs if name.endswith(kind)]
        found[kind] = {"way": max(largest(theirs[name], started[name]) for name in names),
                       "difference": max(largest(theirs[name], ours.state_dict()[name]) for name in names)}
    return found


def method_3(folder, weights, place):
    """Largest difference of Delta-s for three sentences, from the same images' vectors."""
    layout = weights.domain.generator.style_layout
    random = np.random.default_rng(0)
    std = np.abs(random.standard_normal(weights.domain.generator.style_dim)).astype("float32")
    swept = directions.swept_channels(weights.domain.generator)
    vectors = random.standard_normal((len(swept), 5, 1, 512)) + 0.5 * random.standard_normal((len(swept), 5, 2, 512))
    np.save(place / "single_channel.npy", vectors.astype("float32"))
    colours = [i for i, part in enumerate(layout) if part.kind == "toRGB"]
    manipulator = SimpleNamespace(
        mindexs=[i for i in range(len(layout)) if i not in colours],
        s_names=["ToRGB" if i in colours else "Conv" for i in range(len(layout))],
        dlatents=[np.zeros((1, part.stop - part.start)) for part in layout],
        code_std=[std[part.slice] for part in layout])
    found = {}
    with their_code(folder, weights.clip):
        module = importlib.import_module("MapTS")
        sweep = module.GetFs(f"{place}/")
        theirs = {sentence: module.GetBoundary(sweep, module.GetDt([sentence, "person"], weights.clip), manipulator,
                                               threshold=0.1)[0] for sentence in SENTENCES}
    channels = directions.channel_directions(torch.from_numpy(vectors.astype("float32")))
    for sentence, right in theirs.items():
        relevance = torch.zeros(len(std))
        relevance[swept] = channels @ directions.text_difference(weights.domain, "person", sentence)
        step = directions.select(relevance, 0.1) * torch.from_numpy(std)
        right = torch.from_numpy(np.concatenate(right))
        found[sentence] = {"channels": int((right != 0).sum()), "Delta-s": largest(step, right)}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("styleclip", type=Path, help="a copy of orpatashnik/StyleCLIP")
    folder, found = parser.parse_args().styleclip.resolve(), {}
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        weights = Weights(folder, Path(place))
        for method in (method_1, method_2, method_3):
            torch.manual_seed(0)  # so that each gives the same figures alone
            found[method.__name__] = method(folder, weights, Path(place))
            print(method.__name__, json.dumps(found[method.__name__], indent=1), flush=True)
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "authors.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
