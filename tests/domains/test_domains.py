"""The domains that lie in data/, and how one is chosen and loaded."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from helpers.domains import DATA, e4e, load_domain, loading


def test_the_embedded_domain_is_complete(domain):
    generator = domain.generator
    assert (generator.resolution, generator.num_layers) == (64, 10)
    assert domain.neutral and len(domain.prompts) >= 10 and domain.licence
    assert len(domain.samples) == 32 and domain.sample_latents.shape == (32, 10, generator.w_dim)
    assert domain.identity is not None and domain.classifier is not None
    total = sum(path.stat().st_size for path in (DATA / "avatars").glob("*.safetensors"))
    assert total <= 30_000_000


def test_the_latents_of_the_samples_draw_the_samples(domain):
    from helpers.images import open_image
    pictures = torch.cat([open_image(path, 64) for path in domain.samples])
    error = (domain.generator(domain.sample_latents).clamp(-1, 1) - pictures).square()
    assert (10 * torch.log10(4 / error.mean(dim=(1, 2, 3)))).mean() > 24  # PSNR in dB


def test_the_environment_decides_before_the_default(monkeypatch, capsys):
    monkeypatch.setenv("STYLECLIP_DOMAIN", "avatars")
    assert load_domain(device="cpu").name == "avatars"
    assert "set by STYLECLIP_DOMAIN" in capsys.readouterr().out
    monkeypatch.setenv("STYLECLIP_DOMAIN", "dragons")
    with pytest.raises(ValueError, match='no domain "dragons".*avatars'):
        load_domain(device="cpu")


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A copy of data/avatars that may be damaged."""
    shutil.copytree(DATA / "avatars", tmp_path / "avatars",
                    ignore=shutil.ignore_patterns("recipe", "samples", "mappers"))
    monkeypatch.setattr(loading, "DATA", tmp_path)
    return tmp_path / "avatars"


@pytest.mark.parametrize("damage,error", [
    ("missing", FileNotFoundError), ("cut", ValueError), ("changed", ValueError)])
def test_damaged_weights_are_refused_in_one_sentence(copied, damage, error):
    path = copied / "generator.safetensors"
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[:-1000])
    elif damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(error, match="make models") as caught:
        load_domain("avatars", "cpu")
    assert "\n" not in str(caught.value)


def test_a_linear_model_is_checked_too_and_may_be_left_out(copied):
    path, card = copied / "linear_model.safetensors", copied / "domain.json"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="linear_model.safetensors is damaged"):
        load_domain("avatars", "cpu")
    card.write_text(json.dumps(json.loads(card.read_text("utf-8")) | {"linear_model": None}))
    assert load_domain("avatars", "cpu").linear_model_tensors is None


def test_a_gpu_that_cannot_compute_is_not_taken(monkeypatch, capsys):
    """As an old GPU under a new torch: it is there, and its first kernel fails."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    ones = torch.ones

    def fails_on_a_gpu(*sizes, device=None, **options):
        if device == "cuda":
            raise RuntimeError("CUDA error: no kernel image is available\nmore lines")
        return ones(*sizes, device=device, **options)

    monkeypatch.setattr(torch, "ones", fails_on_a_gpu)
    assert loading.usable_device().type == "cpu"
    said = capsys.readouterr().out
    assert "no kernel image is available): the processor is taken" in said and "more" not in said
    monkeypatch.setattr(torch, "ones", lambda *sizes, device=None: ones(*sizes))
    assert loading.usable_device().type == "cuda"


def test_a_device_that_was_never_tried_is_refused():
    with pytest.raises(ValueError, match='"mps" was never tried'):
        load_domain("avatars", "mps")


def test_a_clip_that_is_none_is_refused():
    with pytest.raises(ValueError, match='There is no CLIP "ViT-X"; there is: .*its own'):
        load_domain("avatars", "cpu", clip="ViT-X")


def test_truncation_pulls_towards_the_mean(domain):
    z = torch.randn(8, domain.generator.z_dim, generator=torch.Generator().manual_seed(0))
    w, middle = domain.generator.map(z), domain.generator.w_avg
    torch.testing.assert_close(domain.generator.map(z, truncation=0), middle.expand(8, -1))
    torch.testing.assert_close(domain.generator.map(z, truncation=0.5), (w + middle) / 2)


def test_a_domain_with_other_parts_computes_anew(domain):
    """`replace` hands nothing on that was computed for another generator."""
    assert domain.w_space is domain.w_space
    assert "w_space" in domain.kept and replace(domain, psi=0.5).kept == {}


def test_the_published_encoder_has_its_parameters(domain):
    with torch.device("meta"):
        state = e4e.E4eEncoder().state_dict()
    shapes = {"styles.17.convs.10.weight": (512, 512, 3, 3), "styles.0.convs.6.bias": (512,),
              "styles.3.linear.weight": (512, 512), "latlayer1.weight": (512, 256, 1, 1),
              "body.23.res_layer.5.fc1.weight": (32, 512, 1, 1)}
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    biases = [name for name in state
              if name.startswith("styles") and name.endswith("linear.bias")]
    assert len(biases) == 18
    with pytest.raises(ValueError, match="no published encoder for avatars"):
        e4e.load_encoder(domain)


def test_the_published_encoder_is_read_as_data(domain, tmp_path, monkeypatch):
    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(18, 512))
            self.register_buffer("latent_avg", torch.zeros(18, 512))

        def forward(self, image):
            return (self.w + self.latent_avg).expand(len(image), -1, -1)

    path = tmp_path / "e4e.pt"
    torch.save({"state_dict": {"encoder.w": torch.ones(18, 512), "decoder.x": torch.ones(1)},
                "latent_avg": torch.full([512], 2.0)}, path)
    monkeypatch.setattr(e4e, "E4eEncoder", Small)
    monkeypatch.setattr(e4e, "fetch", lambda sources: path)
    encode = e4e.load_encoder(replace(domain, e4e=("a source",)))
    w_plus = encode(torch.zeros(2, 3, 64, 64))
    assert w_plus.shape == (2, 18, 512) and (w_plus == 3).all()


def test_a_domain_is_loaded_from_its_folder(domain, tmp_path):
    found = load_domain(DATA / "avatars", "cpu")
    assert found.name == domain.name and found.fingerprint == domain.fingerprint
    with pytest.raises(FileNotFoundError, match="domain.json is missing: give the folder"):
        load_domain(tmp_path, "cpu")
