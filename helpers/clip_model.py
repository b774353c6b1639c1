"""CLIP (Radford et al., arXiv 2103.00020): OpenAI's `clip.model.CLIP` behind two functions with unit vectors."""

import importlib
import importlib.util
import sys
import warnings
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import torch
from torch import nn

from .checkpoints import what_does_not_fit

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP's training images


class _LazyPackage(ModuleType):
    """The `clip` package, whose own code runs at the first use of one of its functions.

    It imports torchvision for a preprocessing we do not use, and with that three seconds of torch's compiler; its
    modules `clip.model` and `clip.simple_tokenizer` need none of it.
    """

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        self.__class__ = ModuleType
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _import_clip():
    if "clip" not in sys.modules:
        spec = importlib.util.find_spec("clip")
        places = spec.submodule_search_locations if spec else None
        if not any(Path(place, "simple_tokenizer.py").exists() for place in places or []):
            raise ImportError('OpenAI\'s CLIP is missing: pip install "clip-anytorch" ("clip" is something else).')
        package = sys.modules["clip"] = _LazyPackage("clip")
        package.__spec__, package.__path__, package.__file__ = spec, spec.submodule_search_locations, spec.origin
        package.__package__ = "clip"
    return importlib.import_module("clip.model").CLIP, importlib.import_module("clip.simple_tokenizer").SimpleTokenizer


CLIP, SimpleTokenizer = _import_clip()


def published_clip(state):
    """OpenAI's CLIP from its published tensors; every size is inferred. A ValueError if they are something else.

    The package makes half precision of it, as OpenAI ran it on GPUs; here it computes in fp32, on the same values.
    """
    if "visual.proj" not in state or "token_embedding.weight" not in state:
        raise ValueError("These are not the weights of a CLIP with a vision transformer.")
    try:
        return importlib.import_module("clip.model").build_model(dict(state)).float()
    except Exception as error:  # of the many that missing tensors and odd sizes cause, some on many lines
        raise ValueError("The weights of this CLIP are not whole, or contradict one another "
                         f"({what_does_not_fit(error)}): delete their file and fetch it again.") from None


def area_matrix(source, target):
    """A [target, source] for which A @ image @ A.T averages every output pixel's area of the input exactly."""
    edges = torch.arange(target + 1, dtype=torch.float64) * source / target
    left, right = edges[:-1, None], edges[1:, None]
    pixel = torch.arange(source, dtype=torch.float64)
    overlap = (torch.minimum(right, pixel + 1) - torch.maximum(left, pixel)).clamp(min=0)
    return overlap * target / source


class ClipModel(nn.Module):
    """Text and images as unit vectors of one space.

    Args:
        model: a `clip.model.CLIP`.
        words: the words the model has learned, if it knows only some; others get a warning.
    """

    def __init__(self, model, words=None):
        super().__init__()
        self.model, self.words = model.eval().requires_grad_(False), words
        self.size = model.visual.input_resolution
        where = next(model.parameters()).device
        self.register_buffer("mean", torch.tensor(MEAN, device=where)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD, device=where)[:, None, None], persistent=False)
        self._resize = lru_cache(maxsize=8)(self._resize)
        self._sentences = {}  # what was encoded before

    def _resize(self, side, dtype, device):
        return area_matrix(side, self.size).to(device, dtype)

    def preprocess(self, image):
        """image [N, 3, R, R] in [-1, 1] -> CLIP's input [N, 3, size, size].

        The resize is the one of the authors' code (repeat the pixels, then average), computed without its large
        intermediate image. Unlike the authors, we then shift and scale colours as CLIP was trained with.
        """
        if image.shape[-1] != self.size:
            resize = self._resize(image.shape[-1], image.dtype, image.device)
            image = resize @ image @ resize.T
        return ((image + 1) / 2 - self.mean) / self.std

    def encode_image(self, image):
        """image [N, 3, R, R] in [-1, 1] -> unit vectors [N, D]. Computed in half precision on a GPU, as OpenAI's is."""
        with torch.autocast("cuda", torch.float16, enabled=image.device.type == "cuda"):
            features = self.model.encode_image(self.preprocess(image)).to(image.dtype)
        return features / features.norm(dim=-1, keepdim=True)

    def encode_text(self, texts):
        """list of N sentences -> unit vectors [N, D]. A ValueError says what is wrong with a sentence."""
        if isinstance(texts, str):
            raise TypeError("encode_text takes a list of sentences, not one string.")
        texts = [check_prompt(text) for text in texts]
        new = [text for text in dict.fromkeys(texts) if text not in self._sentences]
        if new:
            self._encode(new)
        return torch.stack([self._sentences[text] for text in texts])

    def caution(self, text):
        """A sentence of warning if the model has met no word of the text in training, else an empty string."""
        if self.words is None or set(text.lower().replace(",", " ").replace(".", " ").split()) & self.words:
            return ""
        known = ", ".join(sorted(word for word in self.words if len(word) > 3))
        return f'This small CLIP has met no word of "{text}" and goes by their likeness to those it knows: {known}.'

    @torch.no_grad()
    def _encode(self, texts):
        cautions = [self.caution(text) for text in texts]
        if any(cautions):
            warnings.warn(next(filter(None, cautions)), stacklevel=3)
        tokens = torch.stack([tokenize(text) for text in texts]).to(self.mean.device)
        features = torch.cat([self.model.encode_text(part) for part in tokens.split(100)])
        self._sentences.update(zip(texts, features / features.norm(dim=1, keepdim=True)))


CONTEXT = 77  # tokens that CLIP reads


@lru_cache(maxsize=1)
def _tokenizer():
    return SimpleTokenizer()


def tokenize(text):
    """A sentence as int64 [77]: start, its byte pairs, end, zeros."""
    tokens = _tokenizer().encoder["<|startoftext|>"], *_tokenizer().encode(text), _tokenizer().encoder["<|endoftext|>"]
    return torch.tensor([*tokens, *[0] * (CONTEXT - len(tokens))])


def check_prompt(text):
    """The prompt without outer spaces; a ValueError in one sentence if it is empty or over CLIP's 77 tokens."""
    text = text.strip()
    if not text:
        raise ValueError("The prompt is empty: describe the face you want, for example: a person with glasses.")
    tokens = len(_tokenizer().encode(text)) + 2  # start and end
    if tokens > CONTEXT:
        raise ValueError(f"The prompt has {tokens} tokens and CLIP reads {CONTEXT}: shorten it.")
    return text
