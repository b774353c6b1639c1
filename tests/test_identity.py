import torch

from helpers.identity import IR_SE50, IdentityNetwork


def test_has_the_published_networks_parameters():
    with torch.device("meta"):
        network = IdentityNetwork()
    state = network.state_dict()
    assert sum(count for _, count in IR_SE50) == len(network.body) == 24
    shapes = {"input_layer.0.weight": (64, 3, 3, 3), "input_layer.2.weight": (64,), "body.3.shortcut_layer.0.weight":
              (128, 64, 1, 1), "body.3.res_layer.5.fc1.weight": (8, 128, 1, 1), "body.23.res_layer.3.weight":
              (512, 512, 3, 3), "output_layer.3.weight": (512, 512 * 7 * 7), "output_layer.4.running_mean": (512,)}
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


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
