"""Where tensors are made and meet: the methods on a pretended GPU (`pretend_gpu.py`), with true numbers.

What cannot be pretended: CUDA's own kernels and their precision (cuDNN's convolutions, fused attention, half-precision
arithmetic as a GPU rounds it), for which `test_gpu.py` wants a GPU; its memory, random numbers drawn on the GPU,
several GPUs (`accelerate launch --multi_gpu`), and streams; nor are gradients followed from one place to the other,
which no code here asks for.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pretend_gpu import GpuTensor, aten, pretend_gpu
from safetensors.torch import save

from helpers import checkpoints, e4e, images, latents, mapper_files, stylegan2, sweeps
from helpers.domains import load_domain
from helpers.inversion import invert
from helpers.judging import judge
from helpers.latents import random_w_plus
from helpers.methods import directions, mapper, optimization
from helpers.mobile_stylegan import MobileGenerator
from helpers.panels import GlobalPanel, MapperPanel, OptimizationPanel

PROMPT = "a person with glasses"


@pytest.fixture(scope="module")
def gpu():
    """A pretended GPU as a T4 is, without bfloat16; a domain on it; and the notebooks' functions, with few images."""
    with pretend_gpu(bfloat16=False) as places, pytest.MonkeyPatch.context() as patch:
        domain = load_domain("avatars", "cuda")
        few = replace(domain.settings.directions, gradient_images=4)
        domain.settings = replace(domain.settings, directions=few)
        one, two, three = optimization, mapper, directions
        for module in (latents.w_space, latents.gallery, three.style_statistics, three.relevance_of,
                       three.derivative_lengths, sweeps.find_sweep):
            module.cache_clear()
        # safetensors takes a GPU's tensors as they are; of a pretended one it cannot read the memory.
        patch.setattr(checkpoints, "save", lambda tensors, header: save(
            {name: value.cpu() for name, value in tensors.items()}, header))
        yield places, domain, (one, two, three)


def test_the_pretended_gpu_refuses_what_a_gpu_refuses():
    with pretend_gpu():
        here, there = torch.ones(2, 3), torch.ones(2, 3, device="cuda")
        assert there.device.type == "cuda" and isinstance(there + 1, GpuTensor) and here.device.type == "cpu"
        for wrong in (lambda: here + there, lambda: there @ here.T, lambda: torch.cat([here, there]),
                      lambda: torch.nn.functional.linear(there, here), lambda: here[here > there],
                      lambda: torch.randn(2, generator=torch.Generator(), device="cuda"), there.numpy,
                      lambda: np.asarray(there)):
            with pytest.raises((RuntimeError, TypeError)):
                wrong()
        assert there[torch.tensor([0])].device.type == "cuda" and (there * torch.tensor(2.0)).sum().item() == 12
        assert not isinstance(there.cpu(), GpuTensor) and there.to(here).device.type == "cpu"
        weight = here.to("cuda").requires_grad_()
        (weight * there).sum().backward()
        assert isinstance(weight.grad, GpuTensor) and weight.grad.cpu().eq(1).all()


def test_encoding(gpu):
    places, domain, _ = gpu
    picture = images.open_image(domain.samples[0], 64)
    found, history = invert(domain, picture, steps=3)
    again, _ = invert(domain, picture, steps=2, start=found)
    assert found.device == again.device == domain.device and history["loss"][2] < history["loss"][0]
    assert (aten.convolution, torch.float16) in places.seen  # CLIP computes in half precision on a GPU


def test_the_encoder_of_photographs():
    """On the device "meta", as it is large: nothing it makes on the way is on the CPU."""
    with torch.device("meta"):
        encoder = e4e.Encoder().eval()
    assert encoder(torch.zeros(1, 3, 256, 256, device="meta")).shape == (1, 18, 512)


def test_method_1(gpu):
    places, domain, (one, _, _) = gpu
    source = random_w_plus(domain, 2, seed=1)
    for objective in ("ours", "paper"):
        edited, history = one.optimize_latent(domain, source, PROMPT, objective=objective, steps=3)
        assert edited.device == domain.device and len(history["loss"]) == 3


def test_method_2(gpu, tmp_path):
    _, domain, (_, two, _) = gpu
    faces, path = random_w_plus(domain, 20, seed=0), tmp_path / "a.run"
    settings = dict(steps=4, batch=4, path=path)
    two.train_mapper(domain, PROMPT, faces, callback=lambda state: state["step"] == 2, **settings)
    mapper, history = two.train_mapper(domain, PROMPT, faces, **settings)  # goes on from the file
    assert len(history["loss"]) == 4 and all(isinstance(value, GpuTensor) for value in mapper.parameters())
    assert two.apply_mapper(domain, mapper, faces).device == domain.device
    mapper_files.save_mapper(tmp_path / "a.safetensors", mapper, domain, PROMPT)
    again = mapper_files.load_mapper(tmp_path / "a.safetensors", domain)
    assert two.apply_mapper(domain, again, faces.cpu()).device == domain.device
    assert two.mapper_step(domain, two.new_mapper(domain), faces).device == domain.device


def test_method_3(gpu):
    _, domain, (_, _, three) = gpu
    for method in ("samples", "sweep", "gradient"):
        direction = three.global_direction(domain, domain.neutral, PROMPT, method=method, channels=30)
        s = domain.generator.styles(random_w_plus(domain, 2, seed=1))
        assert domain.generator.synthesize(s + 2 * direction).device == domain.device


def test_the_sweep_in_the_gpus_half_precision(gpu, monkeypatch):
    places, domain, (_, _, three) = gpu
    every = three.swept_channels
    monkeypatch.setattr(three, "swept_channels", lambda generator: every(generator)[::300])
    start = len(places.seen)
    found, done = three.sweep(domain, count=2)
    assert found.device.type == "cpu" and done.all()
    kinds = [dtype for operation, dtype in places.seen[start:] if operation is aten.convolution]
    assert kinds.count(torch.float16) > 0.9 * len(kinds) and torch.bfloat16 not in kinds
    assert domain.generator.precision is None and stylegan2.half_type(domain.device) == torch.float16
    with pretend_gpu(bfloat16=True):
        assert stylegan2.half_type(domain.device) == torch.bfloat16


def test_the_judge(gpu):
    _, domain, _ = gpu
    image = domain.generator(random_w_plus(domain, 2, seed=1))
    assert domain.classifier.changes(image, image) == ["nothing"] * 2
    assert judge(domain, image, image, PROMPT).unchanged == 1


def test_the_panels_pictures(gpu, tmp_path):
    _, domain, (one, two, three) = gpu

    def quick(domain, image, callback):
        return invert(domain, image, steps=2, callback=callback)

    def optimize(domain, w_plus, prompt, **settings):
        return one.optimize_latent(domain, w_plus, prompt, **settings | {"steps": 2})

    panels = [OptimizationPanel(domain, quick, optimize, folder=tmp_path),
              MapperPanel(domain, quick, lambda *asked: mapper_files.find_mapper(domain, *asked), None,
                          two.apply_mapper, folder=tmp_path),
              GlobalPanel(domain, quick, three.global_direction, folder=tmp_path)]
    for panel in panels:
        panel.again.click()
        before = panel.after.value
        panel.prompt.value = PROMPT
        panel.run.click()
        panel.wait(60)
        panel.strength.value, panel.compare.value = 0.7, 0.2
        panel.save_gif.click()
        assert panel.after.value != before and "Saved" in panel.status.value, panel.status.value


def test_the_generator_of_faces():
    """Both ways through a small one on the pretended GPU, with an early stop."""
    with pretend_gpu():
        generator = MobileGenerator([16, 16, 8], z_dim=12, w_dim=12, mapping_layers=2, readouts=[16]).to("cuda")
        w_plus = generator.broadcast(generator.map(torch.randn(2, 12).to("cuda")))
        s = generator.styles(w_plus).detach().requires_grad_()
        image = generator.synthesize(s)
        (image.square().sum() + generator.synthesize(s, 16).square().sum()).backward()
        assert image.device.type == "cuda" and isinstance(s.grad, GpuTensor)


def test_the_pools_of_the_recipe(tmp_path, monkeypatch):
    """A face on its way to another moves in its coarse, medium or fine rows, or in several; pictures come as bytes."""
    pools = pytest.importorskip("pools")
    monkeypatch.setattr(pools, "POOLS", {"few": (1, 50, 40)})
    monkeypatch.setattr(pools, "SIDE", 32)
    torch.manual_seed(0)
    here = MobileGenerator([16, 16, 16, 16, 8], z_dim=12, w_dim=12, mapping_layers=2, readouts=[32])
    w, moved = here.broadcast(pools.latents(here, "few")), pools.moved(here, "few")
    changed = (moved - w).abs().amax(dim=2) > 1e-6
    assert changed.shape == (40, 10)
    levels = torch.stack([changed[:, 0], changed[:, 4], changed[:, 8]], dim=1)
    assert torch.equal(changed, levels.repeat_interleave(torch.tensor([4, 4, 2]), dim=1))
    assert levels.any(dim=1).sum() > 35 and 0.4 < levels.float().mean() < 0.8  # a few are on their way to themselves
    with pretend_gpu():
        there = here.to("cuda")
        assert torch.equal(pools.moved(there, "few"), moved)  # computed as here, and on the CPU again
        pictures = pools.drawn(there, moved, tmp_path / "few.npy")
    assert pictures.shape == (40, 32, 32, 3) and pictures.dtype == np.uint8 and pictures.std() > 1


def test_what_the_recipes_probes_see(tmp_path, monkeypatch):
    """The same on a GPU, kept; of its principal components the first varies most."""
    looks = pytest.importorskip("looks")
    pixels = np.random.default_rng(0).integers(0, 255, (10, 256, 256, 3), dtype=np.uint8)
    pixels[5:] //= 4
    here = looks.looks(pixels, tmp_path / "here.npy", size=8)
    assert here.shape == (10, 7552) and here.dtype == np.float16
    assert np.array_equal(looks.looks(None, tmp_path / "here.npy"), here)  # read again
    with pretend_gpu():
        monkeypatch.setattr(looks, "DEVICE", torch.device("cuda"))
        there = looks.looks(pixels, tmp_path / "there.npy", size=8)
    np.testing.assert_allclose(there, here, rtol=0.01, atol=0.01)
    monkeypatch.setattr(looks, "COMPONENTS", 3)
    parts = looks.principal(here)
    assert parts.shape == (10, 3) and parts[:, 0].std() == pytest.approx(1) and parts[:, 1].std() < 0.9
    assert len(set(np.sign(parts[:5, 0]))) == 1 and (np.sign(parts[:5, 0]) == -np.sign(parts[5:, 0])).all()


def test_the_trainings_of_the_recipe(tmp_path, monkeypatch):
    """Of the faces' networks, two steps each; what comes back is on the CPU."""
    networks, small_clip = pytest.importorskip("face_networks"), pytest.importorskip("small_clip")
    training = pytest.importorskip("training")
    random, attributes = np.random.default_rng(0), networks.ATTRIBUTES
    pixels = random.integers(0, 255, (60, 128, 128, 3), dtype=np.uint8)
    choices = np.stack([random.integers(0, len(of), 60) for of in attributes.values()], axis=1)
    beliefs = {name: np.eye(len(of), dtype=np.float32)[seen] for (name, of), seen in zip(attributes.items(), choices.T)}

    def labels(vectors=None):
        assert vectors is None or not isinstance(vectors, GpuTensor)
        return choices, beliefs

    monkeypatch.setattr(networks, "DEVICE", torch.device("cuda"))
    monkeypatch.setattr(networks, "teach_words", lambda model, *captions: model)
    monkeypatch.setattr(networks, "words_of_captions", lambda choices: [])
    monkeypatch.setattr(small_clip, "token_vectors", lambda folder: torch.randn(49408, 96))
    for module in (networks, small_clip):
        monkeypatch.setattr(module, "batches", lambda count, batch, seed: lambda i: np.arange(batch) % 8)
    # It cannot read a pretended GPU's memory.
    monkeypatch.setattr(training.torch, "save", lambda state, path: Path(path).touch())
    with pretend_gpu() as places:
        found = [networks.identity(np.concatenate([pixels, pixels]), random.normal(size=(120, 128)), tmp_path, steps=2),
                 networks.judge(pixels, labels, tmp_path, steps=2),
                 networks.encoder(pixels, torch.randn(60, 16), torch.zeros(16), tmp_path, steps=2),
                 networks.clip(pixels, labels, tmp_path, steps=2, text_steps=2)]
    assert not any(isinstance(value, GpuTensor) for model in found for value in model.state_dict().values())
    assert (aten.convolution, torch.bfloat16) in places.seen
