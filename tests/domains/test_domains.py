import shutil

import pytest
import torch

from helpers import domains


def test_the_embedded_domain_is_complete(domain):
    generator = domain.generator
    assert (generator.resolution, generator.num_layers) == (64, 10)
    assert domain.neutral and len(domain.prompts) >= 10 and len(domain.samples) == 32 and domain.licence
    assert domain.identity is not None and domain.classifier is not None
    total = sum(path.stat().st_size for path in (domains.DATA / "avatars").glob("*.safetensors"))
    assert total <= 30_000_000


def test_the_environment_decides_before_the_default(monkeypatch, capsys):
    monkeypatch.setenv("STYLECLIP_DOMAIN", "avatars")
    assert domains.load_domain(device="cpu").name == "avatars"
    assert "set by STYLECLIP_DOMAIN" in capsys.readouterr().out
    monkeypatch.setenv("STYLECLIP_DOMAIN", "dragons")
    with pytest.raises(ValueError, match='no domain "dragons".*avatars'):
        domains.load_domain(device="cpu")


@pytest.mark.parametrize("damage,error", [("missing", FileNotFoundError), ("cut", ValueError), ("changed", ValueError)])
def test_damaged_weights_are_refused_in_one_sentence(tmp_path, monkeypatch, damage, error):
    shutil.copytree(domains.DATA / "avatars", tmp_path / "avatars", ignore=shutil.ignore_patterns("recipe", "samples"))
    path = tmp_path / "avatars" / "generator.safetensors"
    content = path.read_bytes()
    path.unlink()
    if damage == "cut":
        path.write_bytes(content[:-1000])
    elif damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    monkeypatch.setattr(domains, "DATA", tmp_path)
    with pytest.raises(error, match="make models") as caught:
        domains.load_domain("avatars", "cpu")
    assert "\n" not in str(caught.value)


def test_truncation_pulls_towards_the_mean(domain):
    z = torch.randn(8, domain.generator.z_dim)
    w = domain.generator.map(z)
    torch.testing.assert_close(domain.generator.map(z, truncation=0), domain.generator.w_avg.expand(8, -1))
    torch.testing.assert_close(domain.generator.map(z, truncation=0.5), (w + domain.generator.w_avg) / 2)
