"""Writes NVIDIA's format of weights, for tests: their tree of persistent objects, without their code."""

import pickle
import sys
import types
from contextlib import contextmanager

import numpy as np
import torch


def _reconstruct_persistent_obj(meta):
    raise AssertionError("code of a file was executed")


class EasyDict(dict):
    pass


class Network:
    """Pickles itself as NVIDIA's persistent classes do: a dict of the module's state and its class's source code."""

    def __init__(self, **state):
        self.state = dict(_parameters={}, _buffers={}, _modules={}, training=False, **state)

    def __reduce__(self):
        meta = dict(type="class", version=6, module_src="raise AssertionError('executed')", class_name="Network",
                    state=self.state)
        return _reconstruct_persistent_obj, (EasyDict(meta),), None


def nvidia_network(state, clamp=None, mapping_lr=0.01):
    """NVIDIA's tree of networks around plain tensors under their names."""
    root = Network(_non_persistent_buffers_set=set(), weight_gain=1 / np.sqrt(8), rng=np.int64(3))
    for name, value in state.items():
        *path, last = name.split(".")
        node = root
        for part in path:
            node = node.state["_modules"].setdefault(part, Network(conv_clamp=clamp, bias_gain=mapping_lr))
        kind = "_buffers" if last in ("w_avg", "noise_const") else "_parameters"
        node.state[kind][last] = value if kind == "_buffers" else torch.nn.Parameter(value, requires_grad=False)
        node.state["_buffers"]["nothing"] = None
    return root


def nvidia_state(generator):
    """Our generator's tensors under NVIDIA's names."""
    ours, state = generator.state_dict(), {}
    for name, value in ours.items():
        kind, *rest = name.split(".")
        if kind in ("w_avg", "constant"):
            state[{"w_avg": "mapping.w_avg", "constant": "synthesis.b4.const"}[kind]] = value
        elif kind == "mapping":
            state[f"mapping.fc{rest[0]}.{rest[1]}"] = value
        else:
            i = int(rest[0])
            block, layer = (i, "torgb") if kind == "to_rgb" else ((i + 1) // 2, "conv0" if i % 2 else "conv1")
            last = ".".join(rest[1:]).replace("noise_strength", "STRENGTH").replace("noise", "noise_const")
            state[f"synthesis.b{2 ** (block + 2)}.{layer}.{last.replace('STRENGTH', 'noise_strength')}"] = value
    return state


@contextmanager
def nvidia_modules():
    """The modules whose names NVIDIA's files hold, while a test writes one."""
    before = dict(sys.modules)
    for name, thing in (("torch_utils.persistence", _reconstruct_persistent_obj), ("dnnlib.util", EasyDict)):
        module = types.ModuleType(name)
        setattr(module, thing.__name__, thing)
        thing.__module__ = name
        sys.modules |= {name: module, name.split(".")[0]: types.ModuleType(name.split(".")[0])}
    try:
        yield
    finally:
        for name in set(sys.modules) - set(before):
            if name.split(".")[0] in ("torch_utils", "dnnlib"):
                del sys.modules[name]


def nvidia_pickle(state, clamp=None, protocol=3, mapping_lr=0.01):
    """The bytes of a .pkl file with these tensors, {their name: tensor}."""
    network = nvidia_network(state, clamp, mapping_lr)
    with nvidia_modules():
        return pickle.dumps(dict(G=None, D=network, G_ema=network, training_set_kwargs=EasyDict(), augment_pipe=None),
                            protocol)
