"""The three methods beside their authors' own code: the same latents, weights and directions?

    git clone https://github.com/orpatashnik/StyleCLIP
    python -m tests.bench.authors StyleCLIP

Runs their `optimization/run_optimization.py`, their mapper's `Coach` with their Ranger, and their
`MapTS.py` for ten steps, ten steps and three sentences, as they stand, on a generator of 256 px
with random weights, ViT-B/32 and IR-SE50; then ours from the same start. Of theirs, only what
needs a GPU, TensorFlow or a log is replaced; of ours, only the colours that CLIP is given: theirs
come as they are, in [-1, 1], ours shifted and scaled as CLIP was trained with. Nothing of theirs
is part of this repository. Result: authors.
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

from helpers.clip_model import ClipModel
from helpers.domains.formats.generators import load_generator
from helpers.face_networks import IdentityNetwork
from helpers.losses import text_direction
from helpers.methods.directions import channel_directions, select, swept_channels
from helpers.methods.mapper import MapperObjective, paper_optimizer
from helpers.methods.optimization import optimize_paper
from helpers.settings import PAPER_MAPPER, PAPER_OPTIMIZATION
from helpers.training_files import from_authors_state
from helpers.training_state import TrainingRun

from .originals import importing_from, largest, random_clip, stay_here, stir
from .results import add_keep, save

STEPS, SIDE, PROMPT = 10, 256, "a person with purple hair"
SENTENCES = ("person with purple hair", "smiling person", "old person")


class Enough(Exception):
    """Ten steps are done."""


class Watched:
    """A generator that keeps each latent it draws for an optimiser, and stops after ten steps."""

    def __init__(self, generator):
        self.generator, self.seen = generator, []

    def __getattr__(self, name):
        return getattr(self.generator, name)

    def __call__(self, latents, **options):
        """Theirs: the image of a list of latents."""
        self.note(latents[0])
        return self.generator(latents, **options)

    def styles(self, w_plus):
        """Ours: the styles of w_plus [N, L, w_dim], the first half of drawing it."""
        self.note(w_plus)
        return self.generator.styles(w_plus)

    def note(self, latent):
        """Keep a latent that is optimised."""
        if latent.requires_grad:
            self.seen.append(latent.detach().clone())
            if len(self.seen) > STEPS:
                raise Enough


@contextmanager
def their_code(folder, model):
    """Their folders importable, on a CPU, with this CLIP; what they only log with is replaced."""
    logs = ("torch.utils.tensorboard", "tensorflow", "example_try")
    idle = {name: MagicMock() for name in logs}
    packages = ("models", "criteria", "mapper", "optimization", "utils")
    with ExitStack() as stack:
        stack.enter_context(importing_from(folder / "global_directions", "MapTS"))
        stack.enter_context(importing_from(folder, *packages))
        stack.enter_context(patch.dict(sys.modules, idle))
        stack.enter_context(patch.object(clip, "load", lambda *args, **options: (model, None)))
        for kind in (torch.nn.Module, torch.Tensor):
            stack.enter_context(patch.object(kind, "cuda", stay_here))
            stack.enter_context(patch.object(kind, "to", without_cuda(kind.to)))
        yield


def without_cuda(to):
    """`.to()` that leaves "cuda:0" out."""
    return lambda self, *places, **options: (
        self if places == ("cuda:0",) else to(self, *places, **options))


class Weights:
    """One generator, CLIP and identity network, in the authors' files and in our classes."""

    def __init__(self, folder, place):
        self.clip = random_clip()
        self.clip.logit_scale.data.fill_(math.log(100))  # as published: the authors divide by 100
        identity = IdentityNetwork().eval().requires_grad_(False)
        self.ir_se50, self.generator_file = place / "ir_se50.pth", place / "generator.pt"
        torch.save(identity.state_dict(), self.ir_se50)
        with importing_from(folder, "models"):
            model = importlib.import_module("models.stylegan2.model")
            theirs = model.Generator(SIDE, 512, 8).eval()
            stir(theirs)
            average = theirs.mean_latent(4096)[0].detach()
        state = {"g_ema": theirs.state_dict(), "latent_avg": average}
        torch.save(state, self.generator_file)
        generator = load_generator(self.generator_file)
        rows = {"coarse": slice(0, 4), "medium": slice(4, 8),
                "fine": slice(8, generator.num_layers)}
        with torch.no_grad():
            w = generator.map(torch.randn(2 * STEPS, 512), truncation=0.7)
            self.latents = generator.broadcast(w)  # [2 STEPS, L, 512]
        ours = ClipModel(self.clip)
        ours.mean.fill_(0.5)
        ours.std.fill_(0.5)
        self.domain = SimpleNamespace(
            generator=generator, clip=ours, identity=identity, device=torch.device("cpu"),
            preview_resolution=None, rows=rows)


def compare_method_1(folder, weights, place):
    """Largest difference of the latent after each of ten steps of 300."""
    latent = place / "latent.pt"
    torch.save(weights.latents[:1], latent)
    paper = PAPER_OPTIMIZATION
    options = argparse.Namespace(
        description=PROMPT, ckpt=str(weights.generator_file), stylegan_size=SIDE, lr=paper.lr,
        step=paper.steps, mode="edit", l2_lambda=paper.lambda_l2, id_lambda=paper.lambda_id,
        latent_path=str(latent), truncation=0.7, work_in_stylespace=False,
        save_intermediate_image_every=0, results_dir=str(place),
        ir_se50_weights=str(weights.ir_se50))
    with their_code(folder, weights.clip):
        module = importlib.import_module("optimization.run_optimization")
        watched = []

        class Generator(module.Generator):
            """Theirs, watched from the moment they ask for a GPU."""

            def cuda(self):
                watched.append(Watched(self))
                return watched[-1]

        with patch.object(module, "Generator", Generator), suppress(Enough):
            module.main(options)
    theirs, ours = watched[0], Watched(weights.domain.generator)
    domain = SimpleNamespace(**vars(weights.domain) | {"generator": ours})
    with suppress(Enough):
        optimize_paper(domain, weights.latents[:1], PROMPT, paper)
    steps = [largest(*pair) for pair in zip(theirs.seen[1:], ours.seen[1:], strict=True)]
    return {"moved": largest(theirs.seen[-1], weights.latents[:1]), "differences": steps,
            "difference after two steps": steps[1], "difference after ten steps": steps[-1]}


def train_theirs(folder, weights, place):
    """Ten steps of the authors' training.

    Returns: the mapper's state before and after, and the latents of its batches [2 STEPS, L, 512].
    """
    train, test = place / "train.pt", place / "test.pt"
    torch.save(weights.latents, train)
    torch.save(weights.latents[:5], test)
    paper = PAPER_MAPPER
    options = argparse.Namespace(
        description=PROMPT, exp_dir=str(place), mapper_type="LevelsMapper", no_coarse_mapper=False,
        no_medium_mapper=False, no_fine_mapper=False, latents_train_path=train,
        latents_test_path=test, work_in_stylespace=False, batch_size=paper.batch,
        test_batch_size=1, workers=0, test_workers=0, learning_rate=paper.lr, optim_name="ranger",
        id_lambda=paper.lambda_id, clip_lambda=1.0, latent_l2_lambda=paper.lambda_l2,
        stylegan_weights=str(weights.generator_file), stylegan_size=SIDE,
        ir_se50_weights=str(weights.ir_se50), checkpoint_path=None, max_steps=STEPS,
        image_interval=100, board_interval=50, val_interval=2000, save_interval=2000)
    with their_code(folder, weights.clip):
        module, batches = importlib.import_module("mapper.training.coach"), []
        no_log = patch.object(module.Coach, "parse_and_log_images", lambda *args, **names: None)
        with no_log:
            coach = module.Coach(options)
            network = coach.net.mapper
            before = {name: value.clone() for name, value in network.state_dict().items()}
            network.register_forward_pre_hook(
                lambda module, inputs: batches.append(inputs[0]) if module.training else None)
            coach.train()
    return before, network.state_dict(), torch.cat(batches)


def compare_method_2(folder, weights, place):
    """Largest difference of a mapper's weights and biases after ten steps of their training."""
    before, after, latents = train_theirs(folder, weights, place)
    ours = from_authors_state(before).train().requires_grad_(True)
    ours.config["rows"] = {name: (rows.start, rows.stop)
                           for name, rows in weights.domain.rows.items()}
    run = TrainingRun(ours, paper_optimizer(ours, PAPER_MAPPER.lr))
    objective = MapperObjective(weights.domain, PROMPT, latents, PAPER_MAPPER, None)
    for index in torch.arange(len(latents)).split(PAPER_MAPPER.batch):
        losses, _ = objective.compute_losses(ours, index, [0])
        run.train_step(losses, PAPER_MAPPER.lr)
    theirs = from_authors_state(after).state_dict()
    started, mine = from_authors_state(before).state_dict(), ours.state_dict()
    found = {"steps": run.step}
    for kind in ("weight", "bias"):  # weights, some hundreds large, are rounded at 3e-5
        names = [name for name in theirs if name.endswith(kind)]
        found[kind] = {"moved": max(largest(theirs[name], started[name]) for name in names),
                       "difference": max(largest(theirs[name], mine[name]) for name in names)}
    return found


def compare_method_3(folder, weights, place):
    """Largest difference of Delta-s for three sentences, from the same images' vectors."""
    layout = weights.domain.generator.style_layout
    random = np.random.default_rng(0)
    std = np.abs(random.standard_normal(weights.domain.generator.style_dim)).astype("float32")
    swept = swept_channels(weights.domain.generator)
    vectors = random.standard_normal((len(swept), 5, 1, 512))
    vectors = vectors + 0.5 * random.standard_normal((len(swept), 5, 2, 512))
    vectors = vectors.astype("float32")
    np.save(place / "single_channel.npy", vectors)
    colours = [i for i, part in enumerate(layout) if part.kind == "toRGB"]
    manipulator = SimpleNamespace(
        mindexs=[i for i in range(len(layout)) if i not in colours],
        s_names=["ToRGB" if i in colours else "Conv" for i in range(len(layout))],
        dlatents=[np.zeros((1, part.stop - part.start)) for part in layout],
        code_std=[std[part.slice] for part in layout])
    theirs = {}
    with their_code(folder, weights.clip):
        module = importlib.import_module("MapTS")
        sweep = module.GetFs(f"{place}/")
        for sentence in SENTENCES:
            change = module.GetDt([sentence, "person"], weights.clip)
            step = module.GetBoundary(sweep, change, manipulator, threshold=0.1)[0]
            theirs[sentence] = torch.from_numpy(np.concatenate(step))
    channels, differences, counts = channel_directions(torch.from_numpy(vectors)), [], []
    for sentence, right in theirs.items():
        relevance = torch.zeros(len(std))
        relevance[swept] = channels @ text_direction(weights.domain.clip, "person", sentence)
        ours = select(relevance, 0.1) * torch.from_numpy(std)
        differences.append(largest(ours, right))
        counts.append(int((right != 0).sum()))
    return {"sentences": len(SENTENCES), "channels": [min(counts), max(counts)],
            "difference": max(differences)}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("styleclip", type=Path, help="a copy of orpatashnik/StyleCLIP")
    add_keep(parser)
    options = parser.parse_args()
    folder = options.styleclip.resolve()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as place:
        weights, place = Weights(folder, Path(place)), Path(place)
        torch.manual_seed(0)  # before each, so that it gives the same figures alone
        first = compare_method_1(folder, weights, place)
        torch.manual_seed(0)
        second = compare_method_2(folder, weights, place)
        torch.manual_seed(0)
        third = compare_method_3(folder, weights, place)
    print(json.dumps([first, second, third], indent=1))
    save("authors", keep=options.keep, seed=0, method_1=first, method_2=second, method_3=third)


if __name__ == "__main__":
    main()
