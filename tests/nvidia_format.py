"""Writes NVIDIA's format of weights, for tests: persistent objects without their code."""

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
    """Pickles itself as NVIDIA's persistent classes do: a module's state, and its source code."""

    def __init__(self, source="raise AssertionError('executed')", **state):
        self.source = source
        self.state = dict(_parameters={}, _buffers={}, _modules={}, training=False, **state)

    def __reduce__(self):
        meta = dict(type="class", version=6, module_src=self.source, class_name="Network",
                    state=self.state)
        return _reconstruct_persistent_obj, (EasyDict(meta),), None


def nvidia_network(state, clamp=None, mapping_lr=0.01, **root):
    """NVIDIA's tree of networks around plain tensors under their names."""
    root = Network(_non_persistent_buffers_set=set(), weight_gain=1 / np.sqrt(8), rng=np.int64(3),
                   **root)
    for name, value in state.items():
        *path, last = name.split(".")
        node = root
        for part in path:
            child = Network(conv_clamp=clamp, bias_gain=mapping_lr)
            node = node.state["_modules"].setdefault(part, child)
        kind = "_buffers" if last in ("w_avg", "noise_const") else "_parameters"
        if kind == "_parameters":
            value = torch.nn.Parameter(value, requires_grad=False)
        node.state[kind][last] = value
        node.state["_buffers"]["nothing"] = None
    return root


def nvidia_state(generator):
    """Our generator's tensors under NVIDIA's names."""
    state = {}
    for name, value in generator.state_dict().items():
        kind, _, rest = name.partition(".")
        number, _, part = rest.partition(".")
        if kind == "w_avg":
            state["mapping.w_avg"] = value
        elif kind == "constant":
            state["synthesis.b4.const"] = value
        elif kind == "mapping":
            state[f"mapping.fc{number}.{part}"] = value
        elif kind == "to_rgb":
            state[f"synthesis.b{4 * 2 ** int(number)}.torgb.{part}"] = value
        else:
            block, conv = (int(number) + 1) // 2, "conv0" if int(number) % 2 else "conv1"
            part = "noise_const" if part == "noise" else part
            state[f"synthesis.b{4 * 2**block}.{conv}.{part}"] = value
    return state


@contextmanager
def nvidia_modules():
    """The modules whose names NVIDIA's files hold, while a test writes one."""
    before = dict(sys.modules)
    for name, thing in (("torch_utils.persistence", _reconstruct_persistent_obj),
                        ("dnnlib.util", EasyDict)):
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


def nvidia_pickle(state, clamp=None, protocol=3, mapping_lr=0.01, **root):
    """The bytes of a .pkl file with these tensors, {their name: tensor}.

    Args: root: what else the network keeps, and `source`, the code of its class.
    """
    network = nvidia_network(state, clamp, mapping_lr, **root)
    content = dict(G=None, D=network, G_ema=network, training_set_kwargs=EasyDict(),
                   augment_pipe=None)
    with nvidia_modules():
        return pickle.dumps(content, protocol)
