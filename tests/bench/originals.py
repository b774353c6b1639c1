"""Our networks beside the originals', at full size and with random weights: the same numbers?

    git clone https://github.com/NVlabs/stylegan2-ada-pytorch
    git clone https://github.com/orpatashnik/StyleCLIP
    python -m tests.bench.originals --nvidia stylegan2-ada-pytorch --styleclip StyleCLIP
    python -m tests.bench.originals --styleclip StyleCLIP --race

Their code builds a network and writes it in its published format; ours reads the file. With
--race, one step of equation (1) with ViT-B/32 and IR-SE50 is timed instead, and its memory
measured, in their code and in ours in turn, each in a process of its own; on a GPU where there is
one. Nothing of theirs is part of this repository.

Results: originals; step_MACHINE.
"""

import argparse
import importlib
import json
import multiprocessing
import pickle
import statistics
import sys
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import clip
import torch

from helpers.clip_model import CLIP, ClipModel, area_matrix
from helpers.domains import e4e, load_domain
from helpers.domains.formats.generators import load_generator
from helpers.face_networks import IdentityNetwork
from helpers.fused_ops import HalfPrecision
from helpers.losses import clip_loss, identity_loss, latent_loss
from helpers.stylegan2 import Generator

from .results import add_keep, kind_of_machine, save
from .timing import DEVICE, seconds_of

NVIDIA = {  # resolution, channel_base, conv_clamp: what their training configurations make
    "FFHQ 1024 (config-f)": (1024, 32768, None),
    "AFHQ 512 (paper512)": (512, 32768, 256),
    "FFHQ 256 (paper256)": (256, 16384, 256),
}
PROMPT = "a person with purple hair"
GB = 2**30


@contextmanager
def importing_from(folder, *packages, on_gpu=False):
    """Their packages importable here, and forgotten afterwards: names of both are the same."""
    forget(packages)
    sys.path.insert(0, str(folder))
    cuda = torch.Tensor.cuda
    if not on_gpu:
        torch.Tensor.cuda = stay_here  # StyleCLIP's activation moves its input to a GPU
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.Tensor.cuda = cuda
        sys.path.remove(str(folder))
        forget(packages)


def stay_here(what):
    """In place of `.cuda()`."""
    return what


def forget(packages):
    """Unload packages and all their modules."""
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]


def largest(a, b):
    """The largest absolute difference."""
    return (a - b).abs().max().item()


def side_by_side(styles):
    """The authors' list of [N, 1, C, 1, 1] as our s [N, S]."""
    return torch.cat([style.flatten(1) for style in styles], dim=1)


def stir(module):
    """Random values wherever a new network has zeros, so that a mistake shows."""
    random = torch.Generator().manual_seed(1)
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        if name.endswith("bias") or name.endswith("w_avg"):
            value.data.add_(0.3 * torch.randn(value.shape, generator=random))
        elif name.endswith("noise_strength") or name.endswith("noise.weight"):
            value.data.fill_(0.1)


def styles_of_nvidia(theirs, w):
    """The style channels of NVIDIA's synthesis network for w [N, L, w_dim], side by side [N, S]."""
    styles, row = [], 0
    for resolution in theirs.synthesis.block_resolutions:
        block = getattr(theirs.synthesis, f"b{resolution}")
        for name in ("conv0", "conv1", "torgb"):
            if hasattr(block, name):
                styles.append(getattr(block, name).affine(w[:, row]))
                row += name != "torgb"  # which shares its row with the next block's first layer
    return torch.cat(styles, dim=1)


@torch.no_grad()
def nvidia(folder, resolution, channel_base, conv_clamp):
    """Largest differences of w, styles and image between NVIDIA's generator and ours.

    Ours is read from their pickle.
    """
    with importing_from(folder, "dnnlib", "torch_utils", "training"):
        networks = importlib.import_module("training.networks")
        torch.manual_seed(0)
        options = {"channel_base": channel_base, "channel_max": 512, "conv_clamp": conv_clamp,
                   "num_fp16_res": 4}
        theirs = networks.Generator(512, 0, 512, resolution, 3, mapping_kwargs={"num_layers": 8},
                                    synthesis_kwargs=options).eval()
        stir(theirs)
        z = torch.randn(1, 512)
        w = theirs.mapping(z, None, truncation_psi=0.7)
        image = theirs.synthesis(w, noise_mode="const", force_fp32=True)
        styles = styles_of_nvidia(theirs, w)
        with tempfile.TemporaryDirectory() as place:
            path = Path(place, "network.pkl")
            with path.open("wb") as file:
                pickle.dump({"G": None, "D": None, "G_ema": theirs, "training_set_kwargs": None},
                            file)
            ours = load_generator(path)
    assert ours.clamp == conv_clamp
    w_plus = ours.broadcast(ours.map(z, truncation=0.7))
    s = ours.styles(w_plus)
    return {"w": largest(w_plus, w), "s": largest(s, styles), "image": largest(ours(w_plus), image),
            "largest value of the image": image.abs().max().item(),
            "channels of s": ours.style_dim}


@torch.no_grad()
def styleclip_generator(folder, resolution):
    """The same against StyleCLIP's generator, and with an s in the authors' layout."""
    with importing_from(folder, "models"):
        model = importlib.import_module("models.stylegan2.model")
        torch.manual_seed(0)
        theirs = model.Generator(resolution, 512, 8).eval()
        stir(theirs)
        z, average = torch.randn(1, 512), torch.randn(512)
        w = average + 0.7 * (theirs.style(z) - average)
        image, _, styles = theirs([w], input_is_latent=True, randomize_noise=False,
                                  return_latents=True)
        moved = [style + 0.3 * torch.randn_like(style) for style in styles]
        edited = theirs([moved], input_is_stylespace=True, randomize_noise=False)[0]
        with tempfile.TemporaryDirectory() as place:
            path = Path(place, "network.pt")
            torch.save({"g_ema": theirs.state_dict(), "latent_avg": average}, path)
            ours = load_generator(path)
    w_plus = ours.broadcast(ours.map(z, truncation=0.7))
    s = ours.styles(w_plus)
    return {"w": largest(w_plus[:, 0], w), "s": largest(s, side_by_side(styles)),
            "image": largest(ours(w_plus), image),
            "image from the authors' s": largest(ours.synthesize(side_by_side(moved)), edited),
            "largest value of the image": image.abs().max().item()}


@torch.no_grad()
def identity_network(folder):
    """IR-SE50 by the authors' own IDLoss code, with the same weights."""
    with importing_from(folder, "models", "criteria"):
        backbone = importlib.import_module("models.facial_recognition.model_irse").Backbone
        torch.manual_seed(0)
        theirs = backbone(input_size=112, num_layers=50, drop_ratio=0.6, mode="ir_se").eval()
        for module in theirs.modules():
            if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
        image = torch.rand(2, 3, 1024, 1024) * 2 - 1
        x = torch.nn.AdaptiveAvgPool2d((256, 256))(image)[:, :, 35:223, 32:220]
        features = theirs(torch.nn.AdaptiveAvgPool2d((112, 112))(x))
    ours = IdentityNetwork()
    ours.load_state_dict(theirs.state_dict())
    return {"vectors": largest(ours.eval()(image), features)}


@torch.no_grad()
def encoder(folder):
    """The e4e encoder by its authors' own code, with the same weights."""
    builds_for_a_gpu = patch("torch.utils.cpp_extension.load")
    with importing_from(folder, "models", "configs"), builds_for_a_gpu:
        torch.manual_seed(0)
        module = importlib.import_module("models.encoders.psp_encoders")
        options = argparse.Namespace(stylegan_size=1024)
        theirs = module.Encoder4Editing(50, "ir_se", options).eval()
        image = torch.rand(1, 3, 256, 256) * 2 - 1
        w_plus = theirs(image)
    ours = e4e.E4eEncoder()
    ours.load_state_dict(theirs.state_dict())
    return {"w_plus": largest(ours.eval()(image), w_plus)}


@torch.no_grad()
def resize():
    """1024 to 224 px: the authors' upsampling by 7 and pooling by 32, one colour at a time."""
    image = torch.rand(1, 1, 1024, 1024) * 2 - 1
    right = torch.nn.functional.avg_pool2d(torch.nn.Upsample(scale_factor=7)(image), 32)
    matrix = area_matrix(1024, 224).float()
    return {"pixels": largest(matrix @ image @ matrix.T, right)}


def random_clip():
    """A CLIP of ViT-B/32's size, random weights."""
    return CLIP(512, 224, 12, 768, 32, 77, 49408, 512, 8, 12).eval()


def ffhq_generator():
    """A generator of FFHQ's size with random weights."""
    torch.manual_seed(0)
    sides = [2**i for i in range(2, 11)]
    generator = Generator(1024, {side: min(512, 32768 // side) for side in sides})
    return generator.eval().requires_grad_(False).to(DEVICE)


def large_networks():
    """A `ClipModel` of ViT-B/32's size, and IR-SE50, with random weights."""
    identity = IdentityNetwork().eval().requires_grad_(False).to(DEVICE)
    return ClipModel(random_clip().to(DEVICE)), identity


class Exact(HalfPrecision):
    """`with Exact(generator):` all of it in fp32, whatever the domain has chosen."""

    def __enter__(self):
        self.generator.precision = None


class EquationStep:
    """One step of equation (1) after another, by our code.

    Args:
        side: where the generator stops, in pixels.
        precision: "fp32", "half", or None for what the generator has.
    """

    def __init__(self, generator, clip, identity, side, precision=None, batch=1):
        self.generator, self.clip, self.identity = generator, clip, identity
        self.side, self.precision = side, precision
        with torch.no_grad():
            z = torch.randn(batch, generator.z_dim).to(generator.w_avg)
            self.source = generator.broadcast(generator.map(z))
            self.person = identity(self.draw(self.source))
        self.text = clip.encode_text([PROMPT])
        self.w_plus = self.source.clone().requires_grad_()
        self.optimizer = torch.optim.Adam([self.w_plus], lr=0.1)

    def draw(self, w_plus):
        """The image [N, 3, R, R] of w_plus [N, L, w_dim]."""
        if self.precision == "half":
            with HalfPrecision(self.generator):
                return self.generator(w_plus, resolution=self.side)
        if self.precision == "fp32":
            with Exact(self.generator):
                return self.generator(w_plus, resolution=self.side)
        return self.generator(w_plus, resolution=self.side)

    def run(self):
        """Take one step."""
        image = self.draw(self.w_plus)
        loss = clip_loss(self.clip.encode_image(image), self.text)
        loss = loss + 0.005 * identity_loss(self.identity(image), self.person)
        loss = loss + 0.008 * latent_loss(self.w_plus, self.source)
        self.optimizer.zero_grad()
        loss.sum().backward()
        self.optimizer.step()


class StyleclipStep:
    """One step of the authors' optimisation at 1024 px after another.

    As their optimization/run_optimization.py has it. It changes `.cuda()` for its whole process,
    which does nothing else.
    """

    def __init__(self, folder):
        on_gpu = DEVICE.type == "cuda"
        with importing_from(folder, "models", "criteria", on_gpu=on_gpu), \
                tempfile.TemporaryDirectory() as place:
            weights = Path(place, "ir_se50.pth")
            torch.save(IdentityNetwork().state_dict(), weights)
            large = random_clip().to(DEVICE)
            if on_gpu:
                clip.model.convert_weights(large)  # half precision, as `clip.load` does on a GPU
            else:
                torch.nn.Module.cuda = stay_here
            clip.load = lambda *args, **options: (large, None)
            model = importlib.import_module("models.stylegan2.model")
            self.generator = model.Generator(1024, 512, 8).eval().to(DEVICE)
            options = argparse.Namespace(stylegan_size=1024, ir_se50_weights=weights)
            self.clip_loss = importlib.import_module("criteria.clip_loss").CLIPLoss(options)
            self.id_loss = importlib.import_module("criteria.id_loss").IDLoss(options)
        if not on_gpu:
            torch.Tensor.cuda = stay_here
        self.text = clip.tokenize([PROMPT]).to(DEVICE)
        w = self.generator.style(torch.randn(1, 512).to(DEVICE)).detach()
        self.start = w[:, None].repeat(1, 18, 1)
        with torch.no_grad():
            self.original = self.draw(self.start)
        self.latent = self.start.clone().requires_grad_()
        self.optimizer = torch.optim.Adam([self.latent], lr=0.1)

    def draw(self, latent):
        """Their image [1, 3, 1024, 1024] of a latent [1, 18, 512]."""
        return self.generator([latent], input_is_latent=True, randomize_noise=False)[0]

    def run(self):
        """Take one step."""
        image = self.draw(self.latent)
        loss = self.clip_loss(image, self.text)
        loss = loss + 0.005 * self.id_loss(image, self.original)[0]
        loss = loss + 0.008 * ((self.start - self.latent) ** 2).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


THEIRS = "StyleCLIP's code"
OURS = ("fp32, 1024 px", "half precision, 1024 px", "fp32, early stop at 256 px",
        "half precision, early stop at 256 px", "faces at 256 px, ViT-B/32 and IR-SE50",
        "faces at 256 px, its own networks")


def step_of(name, folder):
    """A step of theirs or of one of `OURS`, by name. Raises ValueError for another name."""
    if name == THEIRS:
        return StyleclipStep(folder)
    if name.startswith("faces at 256 px"):
        domain = load_domain("faces", DEVICE, clip="its own")
        clip, identity = domain.clip, domain.identity
        if name.endswith("ViT-B/32 and IR-SE50"):
            clip, identity = large_networks()
        return EquationStep(domain.generator, clip, identity, domain.preview_resolution)
    if name not in OURS:
        raise ValueError(f"There is no step {name!r}.")
    precision = "half" if name.startswith("half") else "fp32"
    return EquationStep(ffhq_generator(), *large_networks(), 256 if "256" in name else 1024,
                        precision)


class Contender:
    """A step in a process of its own, which waits between steps."""

    def __init__(self, name, folder):
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self.pool.submit(prepare, name, folder).result()
        self.seconds = []

    def step(self):
        """Take a step, and note its seconds."""
        self.seconds.append(self.pool.submit(timed_step).result())

    def report(self):
        """Of the steps since the last report, the first left out: median seconds and memory.

        Memory is the peak above the networks, in GB.
        """
        seconds, self.seconds = self.seconds[1:], []
        return {"seconds": round(statistics.median(seconds), 4),
                "GB above the networks": round(self.pool.submit(peak).result(), 2)}

    def finish(self):
        """End the process."""
        self.pool.shutdown()


RUNNING = {}  # of a contender's process: its step, and the GB it held before the first


def memory(name):
    """VmRSS (now) or VmHWM (the peak) of this process, in GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**20


def prepare(name, folder):
    """Build a step in this process; the peak of memory counts from here."""
    RUNNING["step"] = step_of(name, folder)
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        RUNNING["before"] = torch.cuda.memory_allocated() / GB
    else:
        Path("/proc/self/clear_refs").write_text("5")
        RUNNING["before"] = memory("VmRSS")


def timed_step():
    """Seconds of one step in this process."""
    return seconds_of(RUNNING["step"].run)


def peak():
    """GB that were held at most since `prepare`, above what was held then."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / GB - RUNNING["before"]
    return memory("VmHWM") - RUNNING["before"]


def race(folder, repeat):
    """One step of equation (1) by ours, at each setting, in turn with the authors'."""
    theirs, rows = Contender(THEIRS, folder), {}
    for name in OURS:
        ours = Contender(name, folder)
        for _ in range(repeat + 1):
            ours.step()
            theirs.step()
        mine, other = ours.report(), theirs.report()
        ours.finish()
        for what in ("seconds", "GB above the networks"):
            other[f"{what}, times ours"] = round(other[what] / mine[what], 2)
        rows[name] = {"ours": mine, THEIRS: other}
        print(name, json.dumps(rows[name]), flush=True)
    theirs.finish()
    return rows


def differences(options):
    """The largest differences of every network that the options name."""
    found = {"resize": resize()}
    if options.nvidia:
        for name, sizes in NVIDIA.items():
            found[f"NVIDIA, {name}"] = nvidia(options.nvidia, *sizes)
    if options.styleclip:
        for side in (1024, 512, 256):
            found[f"StyleCLIP, {side} px"] = styleclip_generator(options.styleclip, side)
        found["IR-SE50"] = identity_network(options.styleclip)
    if options.e4e:
        found["e4e"] = encoder(options.e4e)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvidia", type=Path, help="a copy of NVlabs/stylegan2-ada-pytorch")
    parser.add_argument("--styleclip", type=Path, help="a copy of orpatashnik/StyleCLIP")
    parser.add_argument("--e4e", type=Path, help="a copy of omertov/encoder4editing")
    parser.add_argument("--race", action="store_true", help="time a step; needs --styleclip")
    add_keep(parser)
    options = parser.parse_args()
    if not options.race:
        found = differences(options)
        print(json.dumps(found, indent=1))
        save("originals", keep=options.keep, differences=found)
        return
    if not options.styleclip:
        parser.error("say where a copy of their code lies: --styleclip FOLDER")
    rows = race(options.styleclip, repeat=10 if DEVICE.type == "cuda" else 3)
    save(f"step_{kind_of_machine()}", keep=options.keep, rows=rows)


if __name__ == "__main__":
    main()
