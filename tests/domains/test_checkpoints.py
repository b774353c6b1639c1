"""Published formats of weights: read as data, and only as data."""

import errno
import io
import json
import os
import pickle
import pickletools
import resource
import shutil
import struct
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import golden
from nvidia_format import nvidia_pickle, nvidia_state
from safetensors import safe_open
from safetensors.torch import save, save_file

from helpers.domains import e4e
from helpers.domains.formats.clip_weights import published_clip
from helpers.domains.formats.generators import load_generator
from helpers.domains.formats.nvidia import from_nvidia_state, read_nvidia_pickle
from helpers.domains.formats.openvino import read_members
from helpers.domains.formats.rosinality import from_rosinality_state
from helpers.domains.formats.safetensors_files import (
    fill,
    part_of,
    read_safetensors,
    save_module,
    save_tensors,
)
from helpers.domains.formats.torch_files import read_array, read_torch
from helpers.face_networks import IdentityNetwork
from helpers.stylegan2 import Generator


def rosinality_state(generator):
    """Our generator's tensors under rosinality's names and in its shapes."""
    state = {"input.input": generator.constant[None], "latent_avg": generator.w_avg}
    for i, layer in enumerate(generator.mapping):
        state |= {f"style.{i + 1}.weight": layer.weight, f"style.{i + 1}.bias": layer.bias}

    def modulated(name, layer):
        return {f"{name}.conv.weight": layer.weight[None],
                f"{name}.conv.modulation.weight": layer.affine.weight,
                f"{name}.conv.modulation.bias": layer.affine.bias}

    for i, layer in enumerate(generator.layers):
        name = "conv1" if i == 0 else f"convs.{i - 1}"
        state |= modulated(name, layer) | {f"{name}.activate.bias": layer.bias,
                                           f"{name}.noise.weight": layer.noise_strength[None],
                                           f"noises.noise_{i}": layer.noise[None, None]}
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
    images = [one(one.broadcast(one.map(z, truncation=0.7))) for one in (a, b)]
    return torch.equal(*images)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("clamp", [None, 256])
def test_nvidias_pickles_are_read_without_running_them(tmp_path, generator, protocol, clamp):
    path = tmp_path / "network.pkl"
    path.write_bytes(nvidia_pickle(nvidia_state(generator), clamp, protocol))
    asked = {arg for op, arg, _ in pickletools.genops(path.read_bytes()) if op.name == "GLOBAL"}
    theirs = {"torch_utils.persistence _reconstruct_persistent_obj", "dnnlib.util EasyDict"}
    assert protocol > 3 or theirs <= asked
    loaded = load_generator(path)
    assert loaded.clamp == clamp and same(loaded, generator)
    save_module(tmp_path / "converted.safetensors", loaded)
    again = load_generator(tmp_path / "converted.safetensors")
    assert again.clamp == clamp and same(again, generator)


def test_nvidias_weights_in_their_pickle_draw_nvidias_image(tmp_path):
    right = golden("stylegan2_32px")
    state = {key[6:]: value for key, value in right.items() if key.startswith("state/")}
    (tmp_path / "network.pkl").write_bytes(nvidia_pickle(state))
    image = load_generator(tmp_path / "network.pkl")(right["w_plus"])
    assert (image - right["image_w_plus"]).abs().max() <= 1e-4


@pytest.mark.parametrize("new_format", [True, False])
def test_rosinalitys_files(tmp_path, generator, new_format):
    state = rosinality_state(generator)
    average = state.pop("latent_avg")
    path = tmp_path / "network.pt"
    content = {"g_ema": state, "latent_avg": average, "d": {}}
    torch.save(content, path, _use_new_zipfile_serialization=new_format)
    assert same(load_generator(path), generator)


def test_rosinalitys_files_without_the_mean_or_the_noise(generator):
    state = rosinality_state(generator)
    partial = {name: value for name, value in state.items()
               if name != "latent_avg" and not name.startswith("noises")}
    first, second = from_rosinality_state(partial), from_rosinality_state(partial)
    assert same(first, second) and first.w_avg.isfinite().all()
    z = torch.randn(20_000, generator.z_dim)
    assert (first.w_avg - generator.map(z).mean(dim=0)).abs().max() < 0.1 * generator.map(z).std()
    assert "latent_avg" not in partial


@pytest.mark.parametrize("names", [nvidia_state, rosinality_state])
def test_plain_safetensors_under_published_names(tmp_path, generator, names):
    path = tmp_path / "plain.safetensors"
    save_file({name: value.contiguous() for name, value in names(generator).items()}, path)
    assert same(load_generator(path), generator)


@pytest.mark.parametrize("names", [nvidia_state, rosinality_state])
def test_another_size_and_depth_without_the_mean_of_w(tmp_path, names):
    """256 px, two mapping layers, no w_avg, as people train them."""
    torch.manual_seed(1)
    other = Generator(256, {2**i: 4 for i in range(2, 9)}, z_dim=8, w_dim=8, mapping_layers=2)
    other = other.eval().requires_grad_(False)
    state = {name: value for name, value in names(other).items()
             if name not in ("mapping.w_avg", "latent_avg")}
    torch.save({"g_ema": state}, tmp_path / "network.pt")
    (tmp_path / "network.pkl").write_bytes(nvidia_pickle(state))
    name = "network.pkl" if names is nvidia_state else "network.pt"
    loaded = load_generator(tmp_path / name)
    assert loaded.resolution == 256 and len(loaded.mapping) == 2
    w = other.map(torch.randn(20_000, 8))
    assert (loaded.w_avg - w.mean(dim=0)).abs().max() < 0.1 * w.std()
    w_plus = other.broadcast(w[:1])
    assert torch.equal(loaded(w_plus), other(w_plus))


class TensorFlowNetwork:
    """Pickles itself as networks of StyleGAN's TensorFlow code did: by the name of their class."""

    def __reduce__(self):
        return tensorflow_network, ()


def tensorflow_network():
    raise AssertionError("code of a file was executed")


def test_files_of_other_kinds_are_named_as_what_they_are(tmp_path, generator, monkeypatch):
    module = ModuleType("dnnlib.tflib.network")
    for name in ("dnnlib", "dnnlib.tflib"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "dnnlib.tflib.network", module)
    monkeypatch.setattr(tensorflow_network, "__module__", module.__name__)
    module.tensorflow_network = tensorflow_network
    for protocol in (2, 3, 4):
        (tmp_path / "old.pkl").write_bytes(pickle.dumps((TensorFlowNetwork(),) * 3, protocol))
        with pytest.raises(ValueError, match="old.pkl is a pickle of .*TensorFlow.*legacy.py"):
            load_generator(tmp_path / "old.pkl")
        # StyleGAN3's layers hold arrays, and their files the source code of its networks.
        content = nvidia_pickle({"synthesis.input.freqs": torch.ones(2)}, protocol=protocol,
                                source="class SynthesisInput(torch.nn.Module):", sides=np.ones(2))
        (tmp_path / "three.pkl").write_bytes(content)
        with pytest.raises(ValueError, match="three.pkl is a StyleGAN3 network") as caught:
            load_generator(tmp_path / "three.pkl")
        assert "delete" not in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_missing_is_named(generator):
    state = nvidia_state(generator)
    del state["synthesis.b8.torgb.bias"]
    with pytest.raises(ValueError, match=r"lack synthesis.b8.torgb.bias \(1 in all"):
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
    touch, system = f"touch {marker}", f"{os.system.__module__}.system"
    nested = Malicious(torch.storage._load_from_bytes, pickle.dumps(Malicious(os.system, touch)))
    return {"os.system": (Malicious(os.system, touch), system),
            "eval": (Malicious(eval, f"open({str(marker)!r}, 'w')"),
                     r"(builtins\.|__builtin__\.|)eval"),
            "a class with __reduce__": (Malicious(Path(marker).touch),
                                        r"__?builtins?(__)?\.getattr|builtins.getattr"),
            "a global outside the list": (Path(marker), "pathlib"),
            "hidden in a storage": (
                nested, f"among its numbers, it (asks for {system}|holds more than weights)")}


@pytest.mark.parametrize("kind", ["os.system", "eval", "a class with __reduce__",
                                  "a global outside the list", "hidden in a storage"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_pickles_are_refused_by_name(tmp_path, kind, protocol):
    marker = tmp_path / "marker"
    content, asked = attacks(marker)[kind]
    (tmp_path / "network.pkl").write_bytes(pickle.dumps({"G_ema": content}, protocol))
    with pytest.raises(ValueError, match=asked) as caught:
        read_nvidia_pickle(tmp_path / "network.pkl")
    assert "network.pkl" in str(caught.value) and "\n" not in str(caught.value)
    assert not marker.exists()
    if kind == "os.system":  # the attack itself works where nobody is careful
        pickle.loads((tmp_path / "network.pkl").read_bytes())
        assert marker.exists()


@pytest.mark.parametrize("kind", ["os.system", "eval", "a global outside the list"])
@pytest.mark.parametrize("new_format", [True, False])
def test_malicious_torch_files_are_refused_by_name(tmp_path, kind, new_format):
    marker = tmp_path / "marker"
    content, asked = attacks(marker)[kind]
    torch.save({"g_ema": content}, tmp_path / "network.pt",
               _use_new_zipfile_serialization=new_format)
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


def build(function, attribute, value):
    """A pickle that asks for a function by name and sets its attribute (BUILD, state of slots)."""
    module, name = function.rsplit(".", 1)
    return (b"\x80\x02}X\x05\x00\x00\x00G_emac" + f"{module}\n{name}\n".encode() + b"N}"
            + pickle.dumps(attribute, 2)[2:-1] + pickle.dumps(value, 2)[2:-1] + b"s\x86bs.")


@pytest.mark.parametrize("function", [
    "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter",
    "torch.storage._load_from_bytes", "_codecs.encode", "numpy.dtype",
    "numpy._core.multiarray.scalar", "collections.OrderedDict", "dnnlib.util.EasyDict"])
def test_a_refused_pickle_changes_nothing(tmp_path, generator, function):
    before = torch._utils._rebuild_tensor_v2.__defaults__
    (tmp_path / "evil.pkl").write_bytes(build(function, "__defaults__", (True, None)))
    with pytest.raises(ValueError, match="evil.pkl"):
        read_nvidia_pickle(tmp_path / "evil.pkl")
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before
    (tmp_path / "network.pkl").write_bytes(nvidia_pickle(nvidia_state(generator)))
    assert same(load_generator(tmp_path / "network.pkl"), generator)


def test_a_function_among_the_numbers_is_refused(tmp_path):
    """What torch's reader gives back may be a function of torch's, for the pickle to change."""
    torch.save({}, buffer := io.BytesIO())
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(inner := io.BytesIO(), "w") as archive:
        for name in whole.namelist():
            asks = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n."
            archive.writestr(name, asks if name.endswith("data.pkl") else whole.read(name))
    inner.seek(0)
    assert torch.load(inner, weights_only=True) is torch._utils._rebuild_tensor_v2
    outer = b"\x80\x04}\x8c\x05G_ema\x8c\rtorch.storage\x8c\x10_load_from_bytes\x93" + pickle.dumps(
        inner.getvalue(), 4)[11:-1] + b"\x85RN}\x8c\x0c__defaults__NNN\x87s\x86bs."
    before = torch._utils._rebuild_tensor_v2.__defaults__
    (tmp_path / "evil.pkl").write_bytes(outer)
    with pytest.raises(ValueError, match="among its numbers, it holds more than weights"):
        read_nvidia_pickle(tmp_path / "evil.pkl")
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, generator, value):
    generator.layers[1].weight[0, 0, 0, 0] = value
    (tmp_path / "a.pkl").write_bytes(nvidia_pickle(nvidia_state(generator)))
    torch.save({"g_ema": rosinality_state(generator)}, tmp_path / "a.pt")
    save_module(tmp_path / "a.safetensors", generator)
    np.save(tmp_path / "a.npy", np.array([value]))
    for name, read in (("a.pkl", load_generator), ("a.pt", load_generator), ("a.npy", read_array),
                       ("a.safetensors", load_generator), ("a.safetensors", read_safetensors)):
        with pytest.raises(ValueError, match=f"{name}.*NaN or infinite") as caught:
            read(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_tensors_of_eight_bits_are_looked_through_as_larger_ones(tmp_path, monkeypatch):
    """torch 2.11, which is Colab's, has no `isfinite` for them."""
    isfinite = torch.Tensor.isfinite

    def as_in_colab(tensor):
        assert tensor.dtype != torch.float8_e4m3fn
        return isfinite(tensor)

    monkeypatch.setattr(torch.Tensor, "isfinite", as_in_colab)
    for name, value in (("good", 0.5), ("bad", float("nan"))):
        values = torch.tensor([1.0, value]).to(torch.float8_e4m3fn)
        save_file({"table": values}, tmp_path / f"{name}.safetensors")
    assert read_safetensors(tmp_path / "good.safetensors")[0]["table"].float().tolist() == [1, 0.5]
    with pytest.raises(ValueError, match="table.* NaN or infinite"):
        read_safetensors(tmp_path / "bad.safetensors")


def odd_generators(generator):
    """Files that are whole and hold something else than they should, as {name: bytes}."""
    def kept(**changes):
        config = json.loads(json.dumps(generator.config)) | changes
        tensors = {name: value.contiguous() for name, value in generator.state_dict().items()}
        return save(tensors, {"config": json.dumps(config)})

    def torch_file(content, **options):
        torch.save(content, buffer := io.BytesIO(), **options)
        return buffer.getvalue()

    state = rosinality_state(generator)
    blocks = state | {f"to_rgbs.{i}.bias": state["to_rgb1.bias"] for i in range(40)}
    large, deflated = torch_file({"g_ema": {"a": torch.zeros(3_000_000)}}), io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(large)) as whole, \
            zipfile.ZipFile(deflated, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in whole.namelist():
            archive.writestr(name, whole.read(name))
    return {
        "pixels.safetensors": kept(resolution=2**20, channels={str(2**i): 8 for i in range(2, 21)}),
        "layers.safetensors": kept(mapping_layers=10**6), "width.safetensors": kept(w_dim=10**9),
        "channels.safetensors": kept(channels={"4": "many"}),
        "text.safetensors": kept(resolution="large"),
        "unknown.safetensors": kept(colour="red"), "list.safetensors": kept(channels=[1, 2]),
        "config.safetensors": save({"a": torch.zeros(1)},
                                   {"config": json.dumps(["mapping_layers"])}),
        "blocks.pt": torch_file(blocks), "list.pt": torch_file({"g_ema": [1, 2]}),
        "number.pt": torch_file(3), "none.pt": torch_file({"g_ema": None}),
        "texts.pt": torch_file({"conv1.conv.weight": "a", "style.1.weight": "b"}),
        "expanded.pt": torch_file({"a": torch.zeros(1).expand(10**6, 10**6)}),
        "deflated.pt": deflated.getvalue(), "empty.pkl": pickle.dumps({}),
        "list.pkl": pickle.dumps([1]), "number.pkl": pickle.dumps({"G_ema": 1})}


def test_odd_files_get_one_sentence_and_little_memory(tmp_path, generator):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, content in odd_generators(generator).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name) as caught:
            load_generator(tmp_path / name)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600, name
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def test_a_plain_text_in_a_header_is_kept_as_text(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"author": "a person", "steps": "[1, 2]"})
    assert read_safetensors(path)[1] == {"author": "a person", "steps": [1, 2]}


@pytest.mark.parametrize("content", [
    np.array([{}]), np.array(["a"]), b"PK\x03\x04", b"", b"\x93NUMPY"])
def test_what_is_no_array_gets_one_sentence(tmp_path, content):
    path = tmp_path / "a.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(ValueError, match="a.npy is not a whole .npy file of numbers") as caught:
        read_array(path)
    assert "\n" not in str(caught.value)
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="is not a whole .npy file of numbers"):
        read_array(tmp_path / "a.npz")


def zipped(compression, size, claimed=None):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("a.bin", bytes(size))
    content = buffer.getvalue()
    if claimed is None:
        return content
    return content.replace(struct.pack("<L", size), struct.pack("<L", claimed))


def test_members_of_a_zip_are_read_as_bytes(tmp_path):
    path = tmp_path / "a.whl"
    path.write_bytes(zipped(zipfile.ZIP_DEFLATED, 1000))
    assert read_members(path, ["a.bin"]) == {"a.bin": bytes(1000)}
    assert os.listdir(tmp_path) == ["a.whl"]


@pytest.mark.parametrize("content,why", [
    (zipped(zipfile.ZIP_DEFLATED, 10**7), "larger than 1000000 bytes"), (b"PK", "BadZipFile"),
    (zipped(zipfile.ZIP_DEFLATED, 10**7, claimed=9), "Bad CRC"),
    (zipped(zipfile.ZIP_LZMA, 90), "unusual"),
    (zipped(zipfile.ZIP_STORED, 999).replace(b"a.bin", b"b.bin"), "no item named 'a.bin'")])
def test_a_zip_that_is_a_bomb_or_damaged_is_refused(tmp_path, content, why):
    (tmp_path / "a.whl").write_bytes(content)
    with pytest.raises(ValueError, match=f"a.whl cannot be read .*{why}") as caught:
        read_members(tmp_path / "a.whl", ["a.bin"], limit=1_000_000)
    assert "\n" not in str(caught.value)


def test_two_writers_of_one_path_do_not_disturb_each_other(tmp_path):
    """Every save works, and every file that is read is one writer's alone."""
    path, failures = tmp_path / "a.safetensors", []

    def write(number):
        try:
            for _ in range(60):
                save_tensors(path, {"a": torch.full([3000], float(number))}, number=number)
                state, header = read_safetensors(path)
                assert state["a"].unique().tolist() == [header["number"]]
        except Exception as error:
            failures.append(error)

    writers = [Thread(target=write, args=[number]) for number in (1, 2)]
    [writer.start() for writer in writers], [writer.join() for writer in writers]
    assert not failures and os.listdir(tmp_path) == ["a.safetensors"]


def test_a_file_that_is_replaced_while_it_is_read_is_one_writers_alone(tmp_path):
    """`safe_open` opens a file twice: one in eight reads had the header of 1, the numbers of 2."""
    for number in (1, 2):
        tensors = {"a": torch.full([3000], float(number))}
        save_tensors(tmp_path / str(number), tensors, number=number)
    shutil.copy(tmp_path / "1", tmp_path / "a.safetensors")
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent("""
        import os
        while True:
            for number in "12":
                os.link(number, "part")
                os.replace("part", "a.safetensors")""")], cwd=tmp_path)
    try:
        read, times, late = set(), 0, time.monotonic() + 60
        # The writer takes a while to begin.
        while times < 1000 or (2, 2) not in read and time.monotonic() < late:
            state, header = read_safetensors(tmp_path / "a.safetensors")
            read.add((*state["a"].unique().tolist(), header["number"]))
            times += 1
    finally:
        writer.kill()
        writer.wait()
    assert read == {(1, 1), (2, 2)}


def test_what_a_killed_writer_left_goes_after_a_day_and_the_umask_counts(tmp_path):
    path = tmp_path / "a.safetensors"
    left, fresh = part_of(path), part_of(path)
    left.touch(), fresh.touch()
    os.utime(left, (time.time() - 25 * 3600,) * 2)
    before = os.umask(0o022)
    try:
        save_tensors(path, {"a": torch.zeros(1)})
    finally:
        os.umask(before)
    assert sorted(tmp_path.iterdir()) == sorted([path, fresh])
    assert path.stat().st_mode & 0o777 == 0o644


def test_reading_a_bomb_takes_little_memory(tmp_path):
    """A deflated .pt of 2 GB of zeros is refused before anything of it is unpacked."""
    torch.save({"g_ema": {"a": torch.zeros(9)}}, buffer := io.BytesIO())
    with zipfile.ZipFile(buffer) as whole, \
            zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bomb:
        for name in whole.namelist():
            if "/data/" in name:
                with bomb.open(name, "w", force_zip64=True) as file:
                    [file.write(bytes(10**7)) for _ in range(200)]
            else:
                bomb.writestr(name, whole.read(name))
    code = textwrap.dedent("""
        import resource, sys
        from helpers.domains.formats.generators import load_generator
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            load_generator(sys.argv[1])
        except ValueError as error:
            print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)""")
    said = subprocess.run([sys.executable, "-c", code, tmp_path / "a.pt"], capture_output=True,
                          text=True).stdout
    assert int(said.split()[0]) < 100_000 and "unpacks to more than its size" in said


def test_foreign_weights_of_a_network_get_one_sentence(tmp_path):
    identity = IdentityNetwork().state_dict()
    name = next(iter(identity))
    foreign = {"missing": {key: value for key, value in identity.items() if key != name},
               "unknown": identity | {"another": torch.zeros(1)},
               "size": identity | {name: torch.zeros(3, 3)},
               "text": identity | {name: "text"}, "list": [1, 2], "nothing": {}, "number": 3}
    for kind, state in foreign.items():
        sentence = f"^{kind}.pt does not hold the weights .*IdentityNetwork"
        with pytest.raises(ValueError, match=sentence) as caught:
            fill(IdentityNetwork(), state, f"{kind}.pt")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 300, kind
    network = fill(IdentityNetwork(), identity, "identity.pt")
    assert not network.training and not any(value.requires_grad for value in network.parameters())


@pytest.mark.parametrize("state", [
    {}, {"visual.proj": torch.zeros(2, 2), "token_embedding.weight": torch.zeros(2, 2)}])
def test_a_clip_that_is_none_gets_one_sentence(state):
    with pytest.raises(ValueError, match="CLIP") as caught:
        published_clip(state)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [
    3, {}, {"state_dict": [], "latent_avg": torch.zeros(512)},
    {"state_dict": {"encoder.a": torch.zeros(1)}, "latent_avg": torch.zeros(512)},
    {"state_dict": {}, "latent_avg": torch.zeros(3)}])
def test_an_e4e_encoder_that_is_none_gets_one_sentence(tmp_path, monkeypatch, content):
    torch.save(content, tmp_path / "e4e.pt")
    monkeypatch.setattr(e4e, "fetch", lambda sources: tmp_path / "e4e.pt")
    monkeypatch.setattr(e4e, "E4eEncoder", lambda: torch.nn.Linear(2, 2))
    with pytest.raises(ValueError, match="e4e.pt does not hold") as caught:
        e4e.load_encoder(SimpleNamespace(e4e=("a source",), device="cpu"))
    assert "\n" not in str(caught.value)


def test_a_file_that_lacks_what_is_needed_gets_one_sentence(tmp_path):
    save_tensors(tmp_path / "mapper.safetensors", {"weight": torch.ones(2)}, prompt="a person")
    path = tmp_path / "mapper.safetensors"
    sentence = "mapper.safetensors.*it lacks generator.*delete it"
    assert read_safetensors(path, needs=["prompt", "weight"])[1] == {"prompt": "a person"}
    for only_header in (False, True):
        with pytest.raises(ValueError, match=sentence) as caught:
            read_safetensors(path, only_header, needs=["prompt", "generator"])
        assert "\n" not in str(caught.value)


def test_a_lost_drive_is_named(tmp_path, monkeypatch, generator):
    """Colab's Drive answers so when it has lost its connection."""
    save_module(tmp_path / "a.safetensors", generator)
    torch.save({}, tmp_path / "a.pt")

    def lost(path, *arguments, **options):
        raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))

    monkeypatch.setattr("pathlib.Path.read_bytes", lost)
    monkeypatch.setattr("pathlib.Path.open", lost)
    monkeypatch.setattr("torch.load", lost)
    monkeypatch.setattr("numpy.load", lost)
    monkeypatch.setattr("zipfile.ZipFile.getinfo", lost)
    for read, name in ((read_safetensors, "a.safetensors"), (load_generator, "a.safetensors"),
                       (read_torch, "a.pt"), (read_array, "a.npy"),
                       (lambda path: read_members(path, ["a"]), "a.pt")):
        with pytest.raises(OSError, match=f"{name} cannot be read .*drive is not connected"):
            read(tmp_path / name)


def test_one_latent_row_each_of_an_encoder(tmp_path, monkeypatch):
    """The encoder's mean w is that of all rows or of each; what it finds is the mean and more."""
    class Small(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("latent_avg", torch.zeros(18, 512))

        def forward(self, image):
            return self.latent_avg.expand(len(image), -1, -1)

    monkeypatch.setattr(e4e, "fetch", lambda sources: tmp_path / "e4e.pt")
    monkeypatch.setattr(e4e, "E4eEncoder", Small)
    for mean in (torch.randn(512), torch.randn(18, 512)):
        torch.save({"state_dict": {"decoder.a": torch.ones(1)}, "latent_avg": mean},
                   tmp_path / "e4e.pt")
        encoder = e4e.load_encoder(SimpleNamespace(e4e=("a source",), device="cpu"))
        assert torch.equal(encoder(torch.zeros(1, 3, 64, 64))[0], mean.expand(18, 512))


def test_tensors_are_stored_as_small_as_was_said(tmp_path):
    """In half precision, but for names that stay exact, and those of eight bits."""
    module = torch.nn.ModuleDict({"mapping": torch.nn.Linear(3, 2), "table": torch.nn.Linear(3, 2)})
    module.config = {}
    path = tmp_path / "small.safetensors"
    save_module(path, module, half=True, exact=("mapping.",), eight=("table.weight",))
    with safe_open(path, "pt") as file:
        kinds = {name: file.get_tensor(name).dtype for name in file.keys()}
    assert kinds == {"mapping.weight": torch.float32, "mapping.bias": torch.float32,
                     "table.weight": torch.float8_e4m3fn, "table.bias": torch.float16}
    state, _ = read_safetensors(path)
    assert all(value.dtype == torch.float32 for value in state.values())
    assert torch.equal(state["mapping.weight"], module["mapping"].weight)
    assert torch.allclose(state["table.weight"], module["table"].weight, rtol=0.07, atol=1e-3)
