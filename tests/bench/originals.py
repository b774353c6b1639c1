"""Our networks beside the originals', at full size and with random weights: the same numbers?

    git clone https://github.com/NVlabs/stylegan2-ada-pytorch ; git clone https://github.com/orpatashnik/StyleCLIP
    python tests/bench/originals.py --nvidia stylegan2-ada-pytorch --styleclip StyleCLIP

Their code builds a network and writes it in its published format; ours reads the file. Then one step of equation (1)
with ViT-B/32 and IR-SE50 is timed, and its memory measured, in their code and in ours in turn, each in a process
of its own; on a GPU where there is one. `--before FOLDER` (a `git worktree` of an earlier commit) puts this project's
earlier code beside ours, too. Nothing of theirs is part of this repository. Writes build/originals.json.
"""

import argparse
import importlib
import json
import multiprocessing
import pickle
import statistics
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from helpers import criteria  # noqa: E402
from helpers.checkpoints import load_generator  # noqa: E402
from helpers.clip_model import CLIP, ClipModel, area_matrix  # noqa: E402
from helpers.domains import load_domain  # noqa: E402
from helpers.e4e import Encoder  # noqa: E402
from helpers.identity import IdentityNetwork  # noqa: E402
from helpers.stylegan2 import HalfPrecision  # noqa: E402

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NVIDIA = {  # resolution, channel_base, conv_clamp: what their training configurations make
    "FFHQ 1024 (config-f)": (1024, 32768, None),
    "AFHQ 512 (paper512)": (512, 32768, 256),
    "FFHQ 256 (paper256)": (256, 16384, 256),
}


@contextmanager
def importing_from(folder, *packages, on_gpu=False):
    """Their packages importable here, and forgotten afterwards: both projects use the same names."""
    forget(packages)
    sys.path.insert(0, str(folder))
    cuda = torch.Tensor.cuda
    if not on_gpu:
        torch.Tensor.cuda = lambda self: self  # StyleCLIP's activation moves its input to a GPU
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.Tensor.cuda = cuda
        sys.path.remove(str(folder))
        forget(packages)


def forget(packages):
    for name in [name for name in sys.modules if name.split(".")[0] in packages]:
        del sys.modules[name]


def largest(a, b):
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


@torch.no_grad()
def nvidia(folder, resolution, channel_base, conv_clamp):
    """Largest differences of w, styles and image between NVIDIA's generator and ours, read from their pickle."""
    with importing_from(folder, "dnnlib", "torch_utils", "training"):
        networks = importlib.import_module("training.networks")
        torch.manual_seed(0)
        theirs = networks.Generator(512, 0, 512, resolution, 3, mapping_kwargs={"num_layers": 8}, synthesis_kwargs={
            "channel_base": channel_base, "channel_max": 512, "conv_clamp": conv_clamp, "num_fp16_res": 4}).eval()
        stir(theirs)
        z = torch.randn(1, 512)
        w = theirs.mapping(z, None, truncation_psi=0.7)
        image = theirs.synthesis(w, noise_mode="const", force_fp32=True)
        styles, i = [], 0
        for r in theirs.synthesis.block_resolutions:
            block = getattr(theirs.synthesis, f"b{r}")
            for name in ("conv0", "conv1", "torgb"):
                if hasattr(block, name):
                    styles.append(getattr(block, name).affine(w[:, i]))
                    i += name != "torgb"
        with tempfile.TemporaryDirectory() as place:
            path = Path(place, "network.pkl")
            with path.open("wb") as file:
                pickle.dump({"G": None, "D": None, "G_ema": theirs, "training_set_kwargs": None}, file)
            started = time.perf_counter()
            ours = load_generator(path)
            seconds = time.perf_counter() - started
    assert ours.clamp == conv_clamp
    w_plus = ours.broadcast(ours.map(z, truncation=0.7))
    s = ours.styles(w_plus)
    return {"w": largest(w_plus, w), "s": largest(s, torch.cat(styles, dim=1)), "image": largest(ours(w_plus), image),
            "size of the image's values": image.abs().max().item(), "layers of s": len(ours.style_layout),
            "channels of s": ours.style_dim, "reading the file, seconds": round(seconds, 1)}


@torch.no_grad()
def styleclip_generator(folder, resolution):
    """The same against the generator of StyleCLIP's code, and with an s in the authors' layout."""
    with importing_from(folder, "models"):
        model = importlib.import_module("models.stylegan2.model")
        torch.manual_seed(0)
        theirs = model.Generator(resolution, 512, 8).eval()
        stir(theirs)
        z, average = torch.randn(1, 512), torch.randn(512)
        w = average + 0.7 * (theirs.style(z) - average)
        image, _, styles = theirs([w], input_is_latent=True, randomize_noise=False, return_latents=True)
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
            "size of the image's values": image.abs().max().item()}


@torch.no_grad()
def identity(folder):
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
    with importing_from(folder, "models", "configs"), patch("torch.utils.cpp_extension.load"):  # builds for a GPU
        torch.manual_seed(0)
        options = argparse.Namespace(stylegan_size=1024)
        theirs = importlib.import_module("models.encoders.psp_encoders").Encoder4Editing(50, "ir_se", options).eval()
        image = torch.rand(1, 3, 256, 256) * 2 - 1
        w_plus = theirs(image)
    ours = Encoder()
    ours.load_state_dict(theirs.state_dict())
    return {"w_plus": largest(ours.eval()(image), w_plus), "size of its values": w_plus.abs().max().item()}


@torch.no_grad()
def resize():
    """1024 to 224 px: the authors' upsampling by 7 and pooling by 32, one colour at a time."""
    image = torch.rand(1, 1, 1024, 1024) * 2 - 1
    right = torch.nn.functional.avg_pool2d(torch.nn.Upsample(scale_factor=7)(image), 32)
    matrix = area_matrix(1024, 224).float()
    return {"pixels": largest(matrix @ image @ matrix.T, right)}


def styleclip_step(folder):
    """One step of the authors' optimisation at 1024 px, as their optimization/run_optimization.py has it."""
    on_gpu = DEVICE.type == "cuda"
    with importing_from(folder, "models", "criteria", on_gpu=on_gpu), tempfile.TemporaryDirectory() as place:
        weights = Path(place, "ir_se50.pth")
        torch.save(IdentityNetwork().state_dict(), weights)
        import clip
        large = random_clip().to(DEVICE)
        if on_gpu:
            clip.model.convert_weights(large)  # to half precision, as `clip.load` does on a GPU
        else:
            torch.nn.Module.cuda = lambda self: self
        clip.load = lambda *args, **options: (large, None)
        generator = importlib.import_module("models.stylegan2.model").Generator(1024, 512, 8).eval().to(DEVICE)
        options = argparse.Namespace(stylegan_size=1024, ir_se50_weights=weights)
        clip_loss = importlib.import_module("criteria.clip_loss").CLIPLoss(options)
        id_loss = importlib.import_module("criteria.id_loss").IDLoss(options)
    if not on_gpu:
        torch.Tensor.cuda = lambda self: self  # this process does nothing else
    text = clip.tokenize(["a person with purple hair"]).to(DEVICE)
    start = generator.style(torch.randn(1, 512).to(DEVICE)).detach()[:, None].repeat(1, 18, 1)
    with torch.no_grad():
        original, _ = generator([start], input_is_latent=True, randomize_noise=False)
    latent = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([latent], lr=0.1)

    def step():
        image, _ = generator([latent], input_is_latent=True, randomize_noise=False)
        loss = clip_loss(image, text) + 0.005 * id_loss(image, original)[0] + 0.008 * ((start - latent) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def our_step(root=ROOT, side=1024, half=False):
    """One step of equation (1) in this project's code, as it stands in a folder; drawn at `side` px."""
    with importing_from(root, "helpers"):
        stylegan2, criteria = (importlib.import_module(f"helpers.{name}") for name in ("stylegan2", "criteria"))
    generator = ffhq_generator(stylegan2)

    def draw(w_plus):
        with HalfPrecision(generator) if half else nullcontext():
            return generator(w_plus, resolution=side)

    return equation_1_step(criteria, generator, draw, *large_networks(ClipModel))


def ffhq_generator(stylegan2):
    """A generator of FFHQ's size with random weights, by this project's code or an earlier state of it."""
    torch.manual_seed(0)
    generator = stylegan2.Generator(1024, {2 ** i: min(512, 32768 // 2 ** i) for i in range(2, 11)})
    return generator.eval().requires_grad_(False).to(DEVICE)


def faces_step(large):
    """The same on `faces`, drawn at 256 px as the domain does it, by its own small networks or the authors' large."""
    domain = load_domain("faces", DEVICE, clip="its own")
    clip, identity = large_networks(ClipModel) if large else (domain.clip, domain.identity)
    return equation_1_step(criteria, domain.generator,
                           lambda w_plus: domain.generator(w_plus, resolution=domain.draw), clip, identity)


def large_networks(clip_model):
    return clip_model(random_clip().to(DEVICE)), IdentityNetwork().eval().requires_grad_(False).to(DEVICE)


def equation_1_step(criteria, generator, draw, clip, identity, batch=1):
    with torch.no_grad():
        source = generator.broadcast(generator.map(torch.randn(batch, generator.z_dim).to(generator.w_avg)))
        person, text = identity(draw(source)), clip.encode_text(["a person with purple hair"])
    w_plus = source.clone().requires_grad_()
    optimizer = torch.optim.Adam([w_plus], lr=0.1)

    def step():
        image = draw(w_plus)
        loss = (criteria.clip_distance(clip.encode_image(image), text) + 0.005 * criteria.identity_distance(
            identity(image), person) + 0.008 * criteria.latent_distance(w_plus, source)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return step


def random_clip():
    """A CLIP of ViT-B/32's size, random weights."""
    return CLIP(512, 224, 12, 768, 32, 77, 49408, 512, 8, 12).eval()


class Contender:
    """A step in a process of its own, which waits between steps."""

    def __init__(self, build, *arguments):
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self.pool.submit(prepare, build, arguments).result()
        self.seconds = []

    def step(self):
        self.seconds.append(self.pool.submit(timed_step).result())

    def report(self):
        """Median seconds of a step since the last report, the first left out, and the peak of memory in GB above the
        networks."""
        seconds, self.seconds = self.seconds[1:], []
        return {"seconds": round(statistics.median(seconds), 4),
                "GB above the networks": round(self.pool.submit(peak).result(), 2)}

    def finish(self):
        self.pool.shutdown()


STATE = {}  # of a contender's process


def memory(name):
    """VmRSS (now) or VmHWM (the peak) of this process, in GB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 2**20


def prepare(build, arguments):
    STATE["step"] = build(*arguments)
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        STATE["before"] = torch.cuda.memory_allocated() / 2**30
        return
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    STATE["before"] = memory("VmRSS")


def timed_step():
    started = time.perf_counter()
    STATE["step"]()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def peak():
    return (torch.cuda.max_memory_allocated() / 2**30 if DEVICE.type == "cuda" else memory("VmHWM")) - STATE["before"]


OURS = {  # name: how a step of ours is built
    "fp32, 1024 px": (our_step, ROOT, 1024, False),
    "half precision allowed, 1024 px": (our_step, ROOT, 1024, True),
    "early stop at 256 px, fp32": (our_step, ROOT, 256, False),
    "early stop at 256 px, half precision allowed": (our_step, ROOT, 256, True),
    "faces at 256 px, ViT-B/32 and IR-SE50": (faces_step, True),
    "faces at 256 px, its own networks": (faces_step, False),
}


def race(others, repeat=3 if DEVICE.type == "cpu" else 10):
    """One step of equation (1) by ours, at each setting, in turn with each of `others`: {name: (build, argument)}."""
    others, found = {name: Contender(*build) for name, build in others.items()}, {}
    for name, build in OURS.items():
        ours = Contender(*build)
        for _ in range(repeat + 1):
            for contender in (ours, *others.values()):
                contender.step()
        found[name] = {"ours": ours.report()} | {other: contender.report() for other, contender in others.items()}
        ours.finish()
        for row in list(found[name].values())[1:]:
            for what in ("seconds", "GB above the networks"):
                row[f"{what}, times ours"] = round(row[what] / found[name]["ours"][what], 2)
        print(name, json.dumps(found[name]), flush=True)
    for contender in others.values():
        contender.finish()
    return {"equation (1), one step": found}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nvidia", type=Path, help="a copy of NVlabs/stylegan2-ada-pytorch")
    parser.add_argument("--styleclip", type=Path, help="a copy of orpatashnik/StyleCLIP")
    parser.add_argument("--e4e", type=Path, help="a copy of omertov/encoder4editing")
    parser.add_argument("--before", type=Path, help="a folder with an earlier state of this project")
    options = parser.parse_args()
    found = {"resize": resize()}
    if options.nvidia:
        found |= {f"NVIDIA, {name}": nvidia(options.nvidia, *sizes) for name, sizes in NVIDIA.items()}
    if options.styleclip:
        found |= {f"StyleCLIP, {side} px": styleclip_generator(options.styleclip, side) for side in (1024, 512, 256)}
        found["IR-SE50"] = identity(options.styleclip)
    if options.e4e:
        found["e4e"] = encoder(options.e4e)
    others = {"StyleCLIP's code": (styleclip_step, options.styleclip)} if options.styleclip else {}
    others |= {"our code before": (our_step, options.before)} if options.before else {}
    print(json.dumps(found, indent=1), flush=True)
    found |= race(others)
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build" / "originals.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
