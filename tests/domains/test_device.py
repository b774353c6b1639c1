"""Where tensors are made and meet: the methods on a pretended GPU (`pretend_gpu.py`), with true
numbers.

What cannot be pretended: CUDA's own kernels and their precision (cuDNN's convolutions, fused
attention, half-precision arithmetic as a GPU rounds it), for which `tests/networks/test_gpu.py`
wants a GPU; its memory, random numbers drawn on the GPU, several GPUs, and streams; nor are
gradients followed from one place to the other, which no code here asks for.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pretend_gpu import GpuTensor, aten, pretend_gpu
from safetensors.torch import save
from toy import toy_domain

from helpers.domains import load_domain
from helpers.domains.e4e import E4eEncoder
from helpers.domains.formats import safetensors_files
from helpers.evaluation import evaluate_edit
from helpers.fused_ops import half_type
from helpers.images import open_image
from helpers.inversion import invert
from helpers.latents import random_w_plus
from helpers.methods import directions
from helpers.methods.directions import alpha_for, global_direction, sweep
from helpers.methods.linear_model import fit_linear_model
from helpers.methods.mapper import apply_mapper, mapper_step, new_mapper, train_mapper
from helpers.methods.optimization import optimize_latent
from helpers.mobile_stylegan import MobileGenerator
from helpers.panels import GlobalPanel, MapperPanel, OptimizationPanel
from helpers.training_files import find_mapper, load_mapper, save_mapper

PROMPT = "a person with glasses"


def save_here(tensors, header):
    """safetensors takes a GPU's tensors as they are; it cannot read a pretended one's memory."""
    return save({name: value.cpu() for name, value in tensors.items()}, header)


@pytest.fixture(scope="module")
def gpu():
    """A pretended GPU as a T4 is, without bfloat16, and a domain on it, with few images."""
    with pretend_gpu(bfloat16=False) as places, pytest.MonkeyPatch.context() as patch:
        domain = load_domain("avatars", "cuda")
        few = replace(domain.settings.directions, gradient_images=4)
        domain.settings = replace(domain.settings, directions=few)
        patch.setattr(safetensors_files, "save", save_here)
        yield places, domain


def test_the_pretended_gpu_refuses_what_a_gpu_refuses():
    with pretend_gpu():
        here, there = torch.ones(2, 3), torch.ones(2, 3, device="cuda")
        assert there.device.type == "cuda" and isinstance(there + 1, GpuTensor)
        assert here.device.type == "cpu"
        for wrong in (lambda: here + there, lambda: there @ here.T,
                      lambda: torch.cat([here, there]),
                      lambda: torch.nn.functional.linear(there, here), lambda: here[here > there],
                      lambda: torch.randn(2, generator=torch.Generator(), device="cuda"),
                      there.numpy, lambda: np.asarray(there)):
            with pytest.raises((RuntimeError, TypeError)):
                wrong()
        assert there[torch.tensor([0])].device.type == "cuda"
        assert (there * torch.tensor(2.0)).sum().item() == 12
        assert not isinstance(there.cpu(), GpuTensor) and there.to(here).device.type == "cpu"
        weight = here.to("cuda").requires_grad_()
        (weight * there).sum().backward()
        assert isinstance(weight.grad, GpuTensor) and weight.grad.cpu().eq(1).all()


def test_encoding(gpu):
    places, domain = gpu
    picture = open_image(domain.samples[0], 64)
    found, history = invert(domain, picture, steps=3)
    again, _ = invert(domain, picture, steps=2, start=found)
    assert found.device == again.device == domain.device
    assert history["loss"][2] < history["loss"][0]
    assert (aten.convolution, torch.float16) in places.seen  # CLIP, in half precision on a GPU


def test_the_encoder_of_photographs():
    """On the device "meta", as it is large: nothing it makes on the way is on the CPU."""
    with torch.device("meta"):
        encoder = E4eEncoder().eval()
    assert encoder(torch.zeros(1, 3, 256, 256, device="meta")).shape == (1, 18, 512)


@pytest.mark.parametrize("objective", ["ours", "paper"])
def test_method_1(gpu, objective):
    _, domain = gpu
    source = random_w_plus(domain, 2, seed=1)
    for given in (source, source.cpu()):
        edited, history = optimize_latent(domain, given, PROMPT, objective=objective, steps=3)
        assert edited.device == domain.device and len(history["loss"]) == 3


def test_method_2(gpu, tmp_path):
    _, domain = gpu
    faces, path = random_w_plus(domain, 20, seed=0), tmp_path / "a.run"
    settings = replace(domain.settings.mapper, steps=4, batch=4)
    train_mapper(domain, PROMPT, faces, settings=settings, path=path,
                 callback=lambda state: state["step"] == 2)
    mapper, history = train_mapper(domain, PROMPT, faces, settings=settings, path=path)
    assert len(history["loss"]) == 4  # it went on from the file
    assert all(isinstance(value, GpuTensor) for value in mapper.parameters())
    assert apply_mapper(domain, mapper, faces).device == domain.device
    save_mapper(tmp_path / "a.safetensors", mapper, domain, PROMPT)
    again = load_mapper(tmp_path / "a.safetensors", domain)
    assert apply_mapper(domain, again, faces.cpu()).device == domain.device
    assert mapper_step(domain, new_mapper(domain), faces).device == domain.device


@pytest.mark.parametrize("method", ["linear", "sweep", "gradient"])
def test_method_3(gpu, method):
    _, domain = gpu
    direction = global_direction(domain, domain.neutral, PROMPT, method=method, channels=30)
    s = domain.generator.styles(random_w_plus(domain, 2, seed=1))
    assert domain.generator.synthesize(s + 2 * direction).device == domain.device
    assert alpha_for(domain, s, domain.neutral, PROMPT).device == domain.device


def test_a_linear_model_is_fitted_where_the_networks_are():
    """Where none came along, with the person's part."""
    with pretend_gpu():
        toy = toy_domain()
        for network in (toy.generator, toy.clip, toy.identity):
            network.to("cuda")
        tensors = fit_linear_model(toy)
        assert set(tensors) == {"clip", "clip model", "identity model"}
        assert all(isinstance(values, GpuTensor) for values in tensors.values())


def test_the_sweep_in_the_gpus_half_precision(gpu, monkeypatch):
    places, domain = gpu
    few = directions.swept_channels(domain.generator)[::300]
    monkeypatch.setattr(directions, "swept_channels", lambda generator: few)
    start = len(places.seen)
    found, done = sweep(domain, images=2)
    assert found.device.type == "cpu" and done.all() and len(found) == len(few)
    kinds = [dtype for operation, dtype in places.seen[start:] if operation is aten.convolution]
    assert kinds.count(torch.float16) > 0.9 * len(kinds) and torch.bfloat16 not in kinds
    assert domain.generator.precision is None and half_type(domain.device) == torch.float16
    with pretend_gpu(bfloat16=True):
        assert half_type(domain.device) == torch.bfloat16


def test_the_classifier(gpu):
    _, domain = gpu
    image = domain.generator(random_w_plus(domain, 2, seed=1))
    assert domain.classifier.changes(image, image) == ["nothing"] * 2
    assert evaluate_edit(domain, image, image, PROMPT).unchanged == 1


def quick_invert(domain, image, callback):
    return invert(domain, image, steps=2, callback=callback)


def quick_optimize(domain, w_plus, prompt, **settings):
    return optimize_latent(domain, w_plus, prompt, **settings | {"steps": 2})


def test_the_panels_pictures(gpu, tmp_path):
    _, domain = gpu

    def find(prompt, objective):
        return find_mapper(domain, prompt, objective)

    panels = [OptimizationPanel(domain, quick_invert, quick_optimize, folder=tmp_path),
              MapperPanel(domain, quick_invert, find, None, apply_mapper, folder=tmp_path),
              GlobalPanel(domain, quick_invert, global_direction, folder=tmp_path)]
    for panel in panels:
        panel.faces.another.click()
        before = panel.pictures.after.value
        panel.prompt.value = PROMPT
        panel.run.click()
        panel.wait(60)
        panel.strength.value, panel.pictures.compare.value = 0.7, 0.2
        panel.exports.gif.click()
        assert panel.pictures.after.value != before
        assert "Saved" in panel.status.value, panel.status.value


def test_the_generator_of_faces():
    """Both ways through a small one on the pretended GPU, with an early stop."""
    with pretend_gpu():
        generator = MobileGenerator([16, 16, 8], z_dim=12, w_dim=12, mapping_layers=2,
                                    readouts=[16]).to("cuda")
        w_plus = generator.broadcast(generator.map(torch.randn(2, 12).to("cuda")))
        s = generator.styles(w_plus).detach().requires_grad_()
        image = generator.synthesize(s)
        (image.square().sum() + generator.synthesize(s, 16).square().sum()).backward()
        assert image.device.type == "cuda" and isinstance(s.grad, GpuTensor)


def recipe(name):
    """A module of data/; the test is skipped where a package of requirements-dev.txt lacks."""
    return pytest.importorskip(f"data.{name}")


def test_the_pools_of_the_recipe(tmp_path, monkeypatch):
    """A face on its way to another moves in its coarse, medium or fine rows, or in several;
    pictures come as bytes."""
    pools = recipe("faces.recipe.pools")
    monkeypatch.setattr(pools, "POOLS", {"few": pools.Pool(1, 50, 40)})
    monkeypatch.setattr(pools, "SIDE", 32)
    torch.manual_seed(0)
    here = MobileGenerator([16, 16, 16, 16, 8], z_dim=12, w_dim=12, mapping_layers=2,
                           readouts=[32])
    w, moved = here.broadcast(pools.latents(here, "few")), pools.moved(here, "few")
    changed = (moved - w).abs().amax(dim=2) > 1e-6
    assert changed.shape == (40, 10)
    levels = torch.stack([changed[:, 0], changed[:, 4], changed[:, 8]], dim=1)
    rows = levels.repeat_interleave(torch.tensor([4, 4, 2]), dim=1)
    assert torch.equal(changed, rows)
    assert levels.any(dim=1).sum() > 35  # a few are on their way to themselves
    assert 0.4 < levels.float().mean() < 0.8
    with pretend_gpu():
        there = here.to("cuda")
        assert torch.equal(pools.moved(there, "few"), moved)  # as here, and on the CPU again
        pictures = pools.drawn(there, moved, tmp_path / "few.npy")
    assert pictures.shape == (40, 32, 32, 3) and pictures.dtype == np.uint8 and pictures.std() > 1


def test_what_the_recipes_probes_see(tmp_path, monkeypatch):
    """The same on a GPU, kept; of its principal components the first varies most."""
    looks = recipe("faces.recipe.looks")
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
    assert parts.shape == (10, 3) and parts[:, 0].std() == pytest.approx(1)
    assert parts[:, 1].std() < 0.9 and len(set(np.sign(parts[:5, 0]))) == 1
    assert (np.sign(parts[:5, 0]) == -np.sign(parts[5:, 0])).all()


class RandomLabels:
    """What is seen on 60 faces, at random."""

    def __init__(self, attributes):
        random = np.random.default_rng(0)
        columns = [random.integers(0, len(of), 60) for of in attributes.values()]
        self.choices = np.stack(columns, axis=1)
        self.beliefs = {name: np.eye(len(of), dtype=np.float32)[column]
                        for (name, of), column in zip(attributes.items(), columns)}

    def spread(self, vectors=None):
        assert vectors is None or not isinstance(vectors, GpuTensor)
        return self.choices, self.beliefs


def test_the_trainings_of_the_recipe(tmp_path, monkeypatch):
    """Of the faces' networks, two steps each; what comes back is on the CPU."""
    networks, small_clip = recipe("faces.recipe.networks"), recipe("small_clip")
    training, random = recipe("training"), np.random.default_rng(0)
    pixels = random.integers(0, 255, (60, 128, 128, 3), dtype=np.uint8)
    descriptors, w = random.normal(size=(120, 128)), torch.randn(60, 16)
    labels = RandomLabels(networks.ATTRIBUTES)
    monkeypatch.setattr(networks, "DEVICE", torch.device("cuda"))
    monkeypatch.setattr(networks, "teach_words", lambda model, *given: model)
    monkeypatch.setattr(networks, "words_of_captions", lambda choices: [])
    monkeypatch.setattr(small_clip, "token_vectors", lambda folder: torch.randn(49408, 96))
    monkeypatch.setattr(training.Trainer, "index",
                        lambda trainer, step: np.arange(trainer.batch) % 8)
    # It cannot read a pretended GPU's memory.
    monkeypatch.setattr(training.torch, "save", lambda state, path: Path(path).touch())
    with pretend_gpu() as places:
        found = [
            networks.train_identity(np.concatenate([pixels, pixels]), descriptors, tmp_path,
                                    steps=2),
            networks.train_judge(pixels, labels, tmp_path, steps=2),
            networks.train_encoder(pixels, w, torch.zeros(16), tmp_path, steps=2),
            networks.train_clip(pixels, labels, tmp_path, steps=2, text_steps=2)]
    for model in found:
        assert not any(isinstance(value, GpuTensor) for value in model.state_dict().values())
    assert (aten.convolution, torch.bfloat16) in places.seen
