import pytest
import torch
from conftest import golden

from helpers.images import open_image
from helpers.inversion import invert, learning_rate
from helpers.latents import w_space


def test_schedule_is_the_authors():
    right = golden("learning_rate")
    for t, rate in zip(right["t"].tolist(), right["lr"].tolist()):
        assert learning_rate(t, 1, 0.1) == pytest.approx(rate, abs=1e-9)


def test_w_space_covers_the_generators_own_w(domain):
    generator, space = domain.generator, w_space(domain.generator)
    w = generator.map(torch.randn(2000, generator.z_dim, generator=torch.Generator().manual_seed(99)))
    v = (w - space.mean) @ space.axes.T / space.spread
    assert v.std(dim=0).sub(1).abs().max() < 0.15
    left = (w - space.mean - space.offset(v)).square().sum() / (w - space.mean).square().sum()
    assert left < 0.01


def test_a_sample_is_found_again(domain):
    image = open_image(domain.samples[0], 64)
    steps = []
    w_plus, history = invert(domain, image, callback=lambda state: steps.append(state["step"]))
    again = domain.generator(w_plus).clamp(-1, 1)
    assert 10 * torch.log10(4 / (again - image).square().mean()) > 24
    assert steps == list(range(1, len(history["loss"]) + 1))
    read = [domain.classifier.read(x) for x in (image, again)]
    same = [torch.equal(read[0][name][0], read[1][name][0]) for name in read[0]]
    assert sum(same) >= len(same) - 1


def test_stopping_returns_the_best_so_far(domain):
    image = open_image(domain.samples[1], 64)
    w_plus, history = invert(domain, image, callback=lambda state: state["step"] == 7)
    assert len(history["loss"]) == 7 and w_plus.shape == (1, 10, domain.generator.w_dim)
    first, _ = invert(domain, image, steps=1)
    assert (domain.generator(w_plus) - image).abs().mean() < (domain.generator(first) - image).abs().mean()


def test_a_start_is_where_the_search_begins(domain):
    image = open_image(domain.samples[2], 64)
    found, _ = invert(domain, image, steps=60)
    again, history = invert(domain, image, steps=5, start=found)
    cold, cold_history = invert(domain, image, steps=5)
    assert history["loss"][0] < 0.7 * cold_history["loss"][0]
    assert (domain.generator(again) - image).abs().mean() < 0.7 * (domain.generator(cold) - image).abs().mean()
    with pytest.raises(ValueError, match="another generator"):
        invert(domain, image, steps=5, start=torch.zeros(1, 18, 512))


def test_the_encoder_has_the_published_parameters_and_is_read_as_data(domain, tmp_path, monkeypatch):
    from dataclasses import replace

    from helpers import e4e
    with torch.device("meta"):
        state = e4e.Encoder().state_dict()
    shapes = {"styles.17.convs.10.weight": (512, 512, 3, 3), "styles.0.convs.6.bias": (512,), "styles.3.linear.weight":
              (512, 512), "latlayer1.weight": (512, 256, 1, 1), "body.23.res_layer.5.fc1.weight": (32, 512, 1, 1)}
    assert {name: tuple(state[name].shape) for name in shapes} == shapes
    assert sum(name.startswith("styles") and name.endswith("linear.bias") for name in state) == 18
    with pytest.raises(ValueError, match="no published encoder for avatars"):
        e4e.load_encoder(domain)

    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.zeros(18, 512))

        def forward(self, image):
            return self.w.expand(len(image), -1, -1)

    path = tmp_path / "e4e.pt"
    torch.save({"state_dict": {"encoder.w": torch.ones(18, 512), "decoder.x": torch.ones(1)},
                "latent_avg": torch.full([512], 2.0)}, path)
    monkeypatch.setattr(e4e, "Encoder", Small)
    monkeypatch.setattr(e4e, "fetch", lambda sources: path)
    encode = e4e.load_encoder(replace(domain, e4e=("a source",)))
    assert encode(torch.zeros(2, 3, 64, 64)).shape == (2, 18, 512) and (encode(torch.zeros(2, 3, 64, 64)) == 3).all()


def test_an_image_of_another_size_is_refused(domain):
    with pytest.raises(ValueError, match=r"must be \[N, 3, 64, 64\].*open_image"):
        invert(domain, torch.zeros(1, 3, 32, 32))
