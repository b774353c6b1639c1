"""Published formats of weights: read as data, and only as data."""

import os
import pickle
import pickletools
from pathlib import Path

import pytest
import torch
from conftest import golden
from nvidia_format import nvidia_pickle, nvidia_state
from safetensors.torch import save_file

from helpers.checkpoints import (
    from_nvidia_state,
    from_rosinality_state,
    load_generator,
    read_nvidia_pickle,
    read_torch,
    save_module,
)
from helpers.stylegan2 import Generator


def rosinality_state(generator):
    """Our generator's tensors under rosinality's names and in its shapes."""
    state = {"input.input": generator.constant[None], "latent_avg": generator.w_avg}
    for i, layer in enumerate(generator.mapping):
        state |= {f"style.{i + 1}.weight": layer.weight, f"style.{i + 1}.bias": layer.bias}

    def modulated(name, layer):
        return {f"{name}.conv.weight": layer.weight[None], f"{name}.conv.modulation.weight": layer.affine.weight,
                f"{name}.conv.modulation.bias": layer.affine.bias}

    for i, layer in enumerate(generator.layers):
        name = "conv1" if i == 0 else f"convs.{i - 1}"
        state |= modulated(name, layer) | {f"{name}.activate.bias": layer.bias, f"noises.noise_{i}":
                                           layer.noise[None, None], f"{name}.noise.weight": layer.noise_strength[None]}
    for i, layer in enumerate(generator.to_rgb):
        name = "to_rgb1" if i == 0 else f"to_rgbs.{i - 1}"
        state |= modulated(name, layer) | {f"{name}.bias": layer.bias.reshape(1, 3, 1, 1)}
    return {name: value.detach() for name, value in state.items()}


@pytest.fixture
def generator():
    torch.manual_seed(0)
    generator = Generator(32, {4: 8, 8: 8, 16: 6, 32: 4}, z_dim=6, w_dim=6, mapping_layers=3)
    for layer in generator.layers:
        layer.noise_strength.data.fill_(0.1)
    generator.w_avg.normal_()
    return generator.eval().requires_grad_(False)


def same(a, b):
    z = torch.randn(2, a.z_dim, generator=torch.Generator().manual_seed(1))
    return torch.equal(a(a.broadcast(a.map(z, truncation=0.7))), b(b.broadcast(b.map(z, truncation=0.7))))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("clamp", [None, 256])
def test_nvidias_pickles_are_read_without_running_them(tmp_path, generator, protocol, clamp):
    path = tmp_path / "network.pkl"
    path.write_bytes(nvidia_pickle(nvidia_state(generator), clamp, protocol))
    asked = {arg for op, arg, _ in pickletools.genops(path.read_bytes()) if op.name == "GLOBAL"}
    assert protocol > 3 or {"torch_utils.persistence _reconstruct_persistent_obj", "dnnlib.util EasyDict"} <= asked
    loaded = load_generator(path)
    assert loaded.clamp == clamp and same(loaded, generator)
    save_module(tmp_path / "converted.safetensors", loaded)
    again = load_generator(tmp_path / "converted.safetensors")
    assert again.clamp == clamp and same(again, generator)


def test_nvidias_weights_in_their_pickle_draw_nvidias_image(tmp_path):
    right = golden("stylegan2_32px")
    state = {key[6:]: value for key, value in right.items() if key.startswith("state/")}
    (tmp_path / "network.pkl").write_bytes(nvidia_pickle(state))
    assert (load_generator(tmp_path / "network.pkl")(right["w_plus"]) - right["image_w_plus"]).abs().max() <= 1e-4


@pytest.mark.parametrize("new_format", [True, False])
def test_rosinalitys_files(tmp_path, generator, new_format):
    state = rosinality_state(generator)
    average = state.pop("latent_avg")
    path = tmp_path / "network.pt"
    torch.save({"g_ema": state, "latent_avg": average, "d": {}}, path, _use_new_zipfile_serialization=new_format)
    assert same(load_generator(path), generator)


def test_rosinalitys_files_without_the_mean_or_the_noise(generator):
    state = rosinality_state(generator)
    partial = {name: value for name, value in state.items() if name != "latent_avg" and not name.startswith("noises")}
    first, second = from_rosinality_state(partial), from_rosinality_state(partial)
    assert same(first, second) and first.w_avg.isfinite().all()
    z = torch.randn(20_000, generator.z_dim)
    assert (first.w_avg - generator.map(z).mean(dim=0)).abs().max() < 0.1 * generator.map(z).std()
    assert "latent_avg" not in partial


@pytest.mark.parametrize("names", [nvidia_state, rosinality_state])
def test_plain_safetensors_under_published_names(tmp_path, generator, names):
    save_file({name: value.contiguous() for name, value in names(generator).items()}, tmp_path / "plain.safetensors")
    assert same(load_generator(tmp_path / "plain.safetensors"), generator)


def test_what_is_missing_is_named(generator):
    state = nvidia_state(generator)
    del state["synthesis.b8.torgb.bias"]
    with pytest.raises(ValueError, match=r"lack synthesis.b8.torgb.bias \(1 missing"):
        from_nvidia_state(state)
    state = rosinality_state(generator)
    del state["convs.0.activate.bias"]
    with pytest.raises(ValueError, match=r"lack convs.0.activate.bias"):
        from_rosinality_state(state)
    with pytest.raises(ValueError, match="several classes"):
        from_nvidia_state(nvidia_state(generator) | {"mapping.embed.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="contradict"):
        from_nvidia_state(nvidia_state(generator) | {"synthesis.b8.conv0.weight": torch.zeros(1)})


class Malicious:
    """Runs a function when it is unpickled."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def attacks(marker):
    """Pickles that would make the file `marker`, and what they ask for."""
    touch = f"touch {marker}"
    nested = Malicious(torch.storage._load_from_bytes, pickle.dumps(Malicious(os.system, touch)))
    return {"os.system": (Malicious(os.system, touch), f"{os.system.__module__}.system"),
            "eval": (Malicious(eval, f"open({str(marker)!r}, 'w')"), r"(builtins\.|__builtin__\.|)eval"),
            "a class with __reduce__": (Malicious(Path(marker).touch), r"__?builtins?(__)?\.getattr|builtins.getattr"),
            "a global outside the list": (Path(marker), "pathlib"),
            "hidden in a storage": (nested,
                                    f"among its numbers, it (asks for {os.system.__module__}|holds more than weights)")}


@pytest.mark.parametrize("kind", ["os.system", "eval", "a class with __reduce__", "a global outside the list",
                                  "hidden in a storage"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_pickles_are_refused_by_name(tmp_path, kind, protocol):
    marker = tmp_path / "marker"
    content, asked = attacks(marker)[kind]
    (tmp_path / "network.pkl").write_bytes(pickle.dumps({"G_ema": content}, protocol))
    with pytest.raises(ValueError, match=asked) as caught:
        read_nvidia_pickle(tmp_path / "network.pkl")
    assert "network.pkl" in str(caught.value) and "\n" not in str(caught.value)
    assert not marker.exists()
    pickle.loads((tmp_path / "network.pkl").read_bytes()) if kind == "os.system" else None
    assert marker.exists() == (kind == "os.system")  # the attack itself works where nobody is careful


@pytest.mark.parametrize("kind", ["os.system", "eval", "a global outside the list"])
@pytest.mark.parametrize("new_format", [True, False])
def test_malicious_torch_files_are_refused_by_name(tmp_path, kind, new_format):
    marker = tmp_path / "marker"
    content, asked = attacks(marker)[kind]
    torch.save({"g_ema": content}, tmp_path / "network.pt", _use_new_zipfile_serialization=new_format)
    with pytest.raises(ValueError, match=f"refused: it asks for {asked}") as caught:
        load_generator(tmp_path / "network.pt")
    assert "\n" not in str(caught.value) and not marker.exists()


def test_damaged_files_get_one_sentence(tmp_path, generator):
    (tmp_path / "whole.pkl").write_bytes(nvidia_pickle(nvidia_state(generator)))
    torch.save({"g_ema": rosinality_state(generator)}, tmp_path / "whole.pt")
    for name in ("whole.pkl", "whole.pt"):
        content = (tmp_path / name).read_bytes()
        for size in (len(content) // 3, len(content) - 20):
            (tmp_path / f"cut-{name}").write_bytes(content[:size])
            with pytest.raises(ValueError, match=f"cut-{name}.*fetch it again") as caught:
                load_generator(tmp_path / f"cut-{name}")
            assert "\n" not in str(caught.value)
    (tmp_path / "page.pkl").write_text("<!DOCTYPE html><html>quota exceeded</html>")
    with pytest.raises(ValueError, match="neither safetensors nor"):
        load_generator(tmp_path / "page.pkl")
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="does not hold a generator"):
        load_generator(tmp_path / "other.pt")


def test_options_beside_the_weights_do_no_harm(tmp_path):
    from argparse import Namespace
    torch.save({"weights": torch.ones(2), "args": Namespace(size=256)}, tmp_path / "a.pt")
    assert read_torch(tmp_path / "a.pt")["weights"].tolist() == [1, 1]
