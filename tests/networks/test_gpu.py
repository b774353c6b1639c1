"""What only a GPU can show: its kernels, precision and memory. Skipped where there is none."""

import pytest
import torch
import torch.nn.functional as F
from conftest import golden

from helpers.domains import load_domain
from helpers.domains.download import Unavailable
from helpers.evaluation import evaluate_edit
from helpers.fused_ops import HalfPrecision
from helpers.images import open_image
from helpers.inversion import invert
from helpers.latents import random_w_plus
from helpers.methods.directions import alpha_for, global_direction
from helpers.methods.mapper import apply_mapper, train_mapper
from helpers.methods.optimization import optimize_latent
from helpers.training_files import find_mapper

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
PROMPT = "a person with glasses"


@pytest.fixture(scope="module")
def gpu():
    return load_domain("avatars", "cuda")


def psnr(image, target):
    """In dB, the least of all images between -1 and 1."""
    error = (image.cpu().float().clamp(-1, 1) - target.clamp(-1, 1)).square().flatten(1).mean(dim=1)
    return -10 * torch.log10(error.max() / 4)


def cosine(a, b):
    """The least of all vectors [..., D]."""
    return F.cosine_similarity(a.cpu().float(), b, dim=-1).min()


@torch.no_grad()
def test_pictures(domain, gpu, faces, monkeypatch):
    right, w_plus = domain.generator(faces), faces.cuda()
    s = gpu.generator.styles(w_plus).cpu()
    torch.testing.assert_close(s, domain.generator.styles(faces), atol=1e-3, rtol=1e-3)
    assert psnr(gpu.generator(w_plus), right) > 45  # convolutions in TF32, PyTorch's default
    with HalfPrecision(gpu.generator):
        assert psnr(gpu.generator(w_plus), right) > 30
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.testing.assert_close(gpu.generator(w_plus).cpu(), right, atol=1e-3, rtol=0)


@torch.no_grad()
def test_the_generator_of_faces_agrees_with_openvino(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    theirs = {name: value.cuda() for name, value in golden("faces_mobile").items()}
    try:
        generator = load_domain("faces", "cpu").generator.cuda()
    except Unavailable as error:
        pytest.skip(f"the generator of faces cannot be had: {error}")
    generator.precision = None
    w = generator.map(theirs["z"])
    assert (w - theirs["w"]).abs().max() < 1e-4
    assert (generator(generator.broadcast(w))[..., ::4, ::4] - theirs["image"]).abs().max() < 1e-3


@torch.no_grad()
def test_networks_see_the_same(domain, gpu, faces):
    image = domain.generator(faces)
    assert cosine(gpu.clip.encode_image(image.cuda()), domain.clip.encode_image(image)) > 0.999
    assert cosine(gpu.clip.encode_text([PROMPT]), domain.clip.encode_text([PROMPT])) > 0.999
    assert cosine(gpu.identity(image.cuda()), domain.identity(image)) > 0.999


def test_encoding(domain, gpu):
    picture = open_image(domain.samples[0], 64)
    ends = []
    for here in (domain, gpu):
        w_plus, _ = invert(here, picture.to(here.device))
        ends.append(psnr(here.generator(w_plus).detach(), picture))
    assert abs(ends[0] - ends[1]) < 2


@pytest.mark.parametrize("method", ["linear", "sweep", "gradient"])
def test_directions(domain, gpu, method):
    here, there = (global_direction(one, one.neutral, PROMPT, method=method)
                   for one in (domain, gpu))
    assert cosine(there, here) > 0.99


def test_edits(domain, gpu):
    """A GPU rounds otherwise; still most of twelve faces get glasses, and the rest stays."""
    source = random_w_plus(gpu, 12, seed=1)
    mapper, _ = train_mapper(gpu, PROMPT, random_w_plus(gpu, 64, seed=2))
    before = gpu.generator(source).detach()
    s = gpu.generator.styles(source)
    delta_s = global_direction(gpu, gpu.neutral, PROMPT)
    alpha = alpha_for(gpu, s, gpu.neutral, PROMPT)
    edits = {
        "method 1": gpu.generator(optimize_latent(gpu, source, PROMPT)[0]),
        "method 2": gpu.generator(apply_mapper(gpu, find_mapper(gpu, PROMPT), source)),
        "method 2, trained here": gpu.generator(apply_mapper(gpu, mapper, source)),
        "method 3": gpu.generator.synthesize(s + alpha * delta_s)}
    for name, after in edits.items():
        evaluation = evaluate_edit(gpu, before, after.detach(), PROMPT)
        assert evaluation.success > 0.6 and evaluation.unchanged > 0.85, f"{name}: {evaluation}"
