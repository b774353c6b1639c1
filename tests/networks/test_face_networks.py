"""Identity network, encoder and attribute classifier: their tensors' names, shapes and crops."""

import json

import pytest
import torch
from conftest import ROOT
from safetensors import safe_open

from helpers.face_networks import IR_SE50, AttributeClassifier, Encoder, IdentityNetwork


def test_has_the_published_networks_parameters():
    with torch.device("meta"):
        network = IdentityNetwork()
    state = network.state_dict()
    assert sum(count for _, count in IR_SE50) == len(network.body) == 24
    shapes = {"input_layer.0.weight": (64, 3, 3, 3), "input_layer.2.weight": (64,),
              "body.3.shortcut_layer.0.weight": (128, 64, 1, 1),
              "body.3.res_layer.5.fc1.weight": (8, 128, 1, 1),
              "body.23.res_layer.3.weight": (512, 512, 3, 3),
              "output_layer.3.weight": (512, 512 * 7 * 7), "output_layer.4.running_mean": (512,)}
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


@pytest.mark.parametrize("path, kind", [
    ("avatars/identity", IdentityNetwork), ("faces/identity", IdentityNetwork),
    ("avatars/classifier", AttributeClassifier), ("faces/classifier", AttributeClassifier),
    ("faces/encoder", Encoder)])
def test_has_the_parameters_of_the_file(path, kind):
    with safe_open(ROOT / "data" / f"{path}.safetensors", "pt") as file:
        config = json.loads(file.metadata()["config"])
        right = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    with torch.device("meta"):
        state = kind(**config).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == right


def test_the_authors_crop():
    network = IdentityNetwork(((16, 1),) * 4, dim=8)
    image = torch.zeros(1, 3, 512, 512)
    image[:, :, 70:446, 64:440] = 1  # rows 35:223 and columns 32:220 of 256, at 512
    crop = network.preprocess(image)
    assert crop.shape == (1, 3, 112, 112) and crop.min() == 1


def test_unit_vectors_and_batch_independence(domain, faces):
    image = domain.generator(faces)
    together = domain.identity(image)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(together[:1], domain.identity(image[:1]), atol=1e-5, rtol=1e-4)


def test_a_folded_encoder_gives_w_itself():
    torch.manual_seed(0)
    encoder = Encoder(((16, 1),) * 3, size=16, w_dim=5, hidden=4).eval()
    image = torch.randn(2, 3, 64, 64)
    mean, axes, spread = torch.randn(5), torch.randn(5, 5), torch.rand(5)  # axes [K, w_dim]
    with torch.no_grad():
        right = mean + encoder(image) * spread @ axes
        encoder.fold(mean, axes, spread)
        torch.testing.assert_close(encoder(image), right, atol=1e-5, rtol=1e-4)


def test_changes_names_what_reads_differently(domain, faces):
    image = domain.generator(faces)
    classifier = domain.classifier
    readings = classifier.read(image)
    assert classifier.changes(image, image) == ["nothing"] * 4
    lines = classifier.changes(image, image.roll(1, 0))
    for i, line in enumerate(lines):
        for name, choices in classifier.attributes.items():
            index, probability = readings[name]
            assert 0 < probability[i] <= 1
            pair = f"{name}: {choices[index[i]]} -> {choices[index[i - 1]]}"
            assert (pair in line.split("; ")) == (index[i] != index[i - 1])
