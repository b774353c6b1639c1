"""A GPU that is none: tensors that say they are on "cuda" and are computed on the CPU.

Their numbers are true, so that code which looks at them runs as ever. What is checked is places: no
operation gets tensors of both, but for what CUDA allows (a single number beside a tensor, indices
on the CPU, copies), and no random numbers are drawn on the GPU by the CPU's generator. PyTorch's
own FakeTensorMode has no numbers to decide by, and cannot go backward where there is no driver.
"""

import threading
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map

aten = torch.ops.aten
GPU = torch.device("cuda", 0)
COPIES = {aten.copy_, aten._to_copy}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}


class GpuTensor(torch.Tensor):
    """A tensor whose numbers are in `inner`, on the CPU, and which says that it is on the GPU."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype,
            storage_offset=inner.storage_offset())

    def __init__(self, inner):
        self.inner = inner

    def __format__(self, form):
        return format(self.item(), form) if self.ndim == 0 else repr(self)

    def __repr__(self):
        return f"GpuTensor({list(self.shape)}, {self.dtype})"

    device, is_cuda = property(lambda self: GPU), True
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} of a pretended GPU's tensor, outside of `pretend_gpu`")


def tensors_of(*trees):
    return [leaf for leaf in tree_iter(trees) if isinstance(leaf, torch.Tensor)]


def to_inner(leaf):
    return leaf.inner if isinstance(leaf, GpuTensor) else leaf


def to_gpu(leaf):
    return GpuTensor(leaf) if isinstance(leaf, torch.Tensor) else leaf


class Places(TorchDispatchMode):
    """Does every operation on the CPU, and checks and passes on where its tensors are.

    `making` is where a call from Python asked for its result; `seen` lists (operation, dtype of its
    first tensor).
    """

    def __init__(self):
        super().__init__()
        self.making, self.seen = None, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs, packet = kwargs or {}, func.overloadpacket
        tensors = tensors_of(args, kwargs)
        self.check(func, args, tensors)
        self.seen.append((packet, tensors[0].dtype if tensors else None))
        if self.making:
            there = self.making == GPU
        else:
            deciding = args[:1] if packet is aten.copy_ else tensors
            there = any(isinstance(tensor, GpuTensor) for tensor in deciding)
        inner_args, inner_kwargs = tree_map(to_inner, (args, kwargs))
        result = func(*inner_args, **inner_kwargs)
        if not there:
            return result
        return return_and_correct_aliasing(func, args, kwargs, tree_map(to_gpu, result))

    def check(self, func, args, tensors):
        """Raise RuntimeError where a GPU would."""
        if func.overloadpacket in COPIES:
            return
        if func.overloadpacket in INDEXING and isinstance(args[0], GpuTensor):
            tensors = tensors_of(args[0], args[2:])  # its indices may be on the CPU
        here = [tensor for tensor in tensors if not isinstance(tensor, GpuTensor)]
        if len(here) == len(tensors):
            return
        if torch.Tag.pointwise in func.tags or func.overloadpacket in INDEXING:
            here = [tensor for tensor in here if tensor.ndim]
        if here:
            shapes = [list(tensor.shape) for tensor in here]
            raise RuntimeError(f"{func} got tensors of the GPU and of the CPU, these {shapes}")


class Calls(TorchFunctionMode):
    """Takes "cuda", which PyTorch would refuse here, out of calls from Python; tells `Places`."""

    def __init__(self, places):
        super().__init__()
        self.places = places

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda):
            return self.move(func, args, kwargs)
        if func is torch.Tensor.tolist and isinstance(args[0], GpuTensor):
            return self.move(torch.Tensor.cpu, args, {}).tolist()
        if kwargs.get("device") is None:
            return func(*args, **kwargs)
        place = torch.device(kwargs["device"])
        if place.type == "cuda" and kwargs.get("generator") is not None:
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        place = GPU if place.type == "cuda" else place
        return self.making(place, func, *args, **kwargs | {"device": "cpu"})

    def making(self, place, func, *args, **kwargs):
        self.places.making = place
        try:
            return func(*args, **kwargs)
        finally:
            self.places.making = None

    def move(self, func, args, kwargs):
        """Tensor.to, .cpu and .cuda."""
        tensor, *rest = args
        place = {torch.Tensor.cpu: "cpu", torch.Tensor.cuda: "cuda"}.get(func, tensor.device)
        dtype = kwargs.pop("dtype", None)
        for value in (*rest, kwargs.pop("device", None)):
            if isinstance(value, torch.Tensor):
                place, dtype = value.device, value.dtype
            elif isinstance(value, torch.dtype):
                dtype = value
            elif isinstance(value, str | torch.device):
                place = value
        place = torch.device(place)
        if place.type == tensor.device.type:
            return tensor if dtype in (None, tensor.dtype) else func.__get__(tensor)(dtype)
        place = GPU if place.type == "cuda" else place
        return self.making(place, aten._to_copy.default, tensor, dtype=dtype or tensor.dtype)


@contextmanager
def pretend_gpu(bfloat16=True):
    """A GPU to run on, with or without bfloat16 (a T4 computes in float16 only). Yields its
    `Places`. Threads that are begun in it run on it too.
    """
    places, autocast, run = Places(), torch.autocast, threading.Thread.run

    def run_there(thread):
        with places, Calls(places):
            run(thread)

    def on_cpu(kind, *args, **options):
        return autocast("cpu", *args, **options)

    patches = {"threading.Thread.run": run_there, "torch.autocast": on_cpu,
               "torch.cuda.is_bf16_supported": lambda including_emulation=True: bfloat16,
               "torch.cuda.get_device_capability": lambda device=None: (8 if bfloat16 else 7, 5),
               "torch.cuda.get_rng_state": torch.get_rng_state}  # its random numbers are the CPU's
    with ExitStack() as stack:
        for name, replacement in patches.items():
            stack.enter_context(patch(name, replacement))
        # A plain parameter cannot become a GpuTensor.
        before = torch.__future__.get_overwrite_module_params_on_conversion()
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        stack.enter_context(places)
        stack.enter_context(Calls(places))
        yield places
