"""CLIP (Radford et al., arXiv 2103.00020): OpenAI's network, with unit vectors as its results."""

import re
import sys
import unicodedata
import warnings
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path

import torch
from torch import nn

MEAN = (0.48145466, 0.4578275, 0.40821073)  # of the colours of CLIP's training images, 0 to 1
STD = (0.26862954, 0.26130258, 0.27577711)
CONTEXT = 77  # tokens that CLIP reads
WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
FUNCTION_WORDS = frozenset(
    "a an and are as at be by for from has have he her him his in is it its no not of on or she "
    "someone that the their them they this to very wears who with without".split())
ALIKE = 0.6  # cosine from which an unknown word acts like a known one, looked at for 30 sentences


def _openai_module(name):
    """The module `clip/<name>.py` of OpenAI's package, as `helpers.clip_model.<name>`.

    `import clip` takes 1.9 s on two cores, 1.6 s of it for torchvision, which nothing here needs,
    and prints a warning that pkg_resources is deprecated. The two modules that are needed stand
    alone and take 0.04 s. Pickle finds their classes under this name, in any process.

    Raises: ImportError if the package is missing.
    """
    package = find_spec("clip")
    folders = package.submodule_search_locations if package else None
    path = Path(folders[0], f"{name}.py") if folders else None
    if path is None or not path.exists():
        raise ImportError('OpenAI\'s CLIP is missing: pip install "clip-anytorch" '
                          '("clip" is something else).')
    spec = spec_from_file_location(f"{__name__}.{name}", path)
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_model = _openai_module("model")
CLIP, build_model = _model.CLIP, _model.build_model
SimpleTokenizer = _openai_module("simple_tokenizer").SimpleTokenizer


def area_matrix(source, target):
    """Matrix A [target, source], float64, that averages areas: A @ image @ A.T resizes an image.

    Args: source, target: sides in pixels. Every pixel of the result is the exact average of its
        area of the image [source, source].
    """
    edges = torch.arange(target + 1, dtype=torch.float64) * source / target
    left, right = edges[:-1, None], edges[1:, None]  # [target, 1]
    pixel = torch.arange(source, dtype=torch.float64)  # [source]
    overlap = (torch.minimum(right, pixel + 1) - torch.maximum(left, pixel)).clamp(min=0)
    return overlap * target / source  # [target, source]


class ClipModel(nn.Module):
    """Text and images as unit vectors of one space.

    Args:
        model: a `CLIP` of OpenAI's package.
        words: the set of words it was trained on, if these are few; others get a warning.
    """

    def __init__(self, model, words=None):
        super().__init__()
        self.model, self.words = model.eval().requires_grad_(False), words
        self.size = model.visual.input_resolution  # side of its input in pixels
        device = next(model.parameters()).device
        mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (MEAN, STD))
        self.register_buffer("mean", mean, persistent=False)  # [3, 1, 1]
        self.register_buffer("std", std, persistent=False)
        self._matrices, self._sentences = {}, {}  # what was computed before

    def preprocess(self, image):
        """image [N, 3, R, R] in [-1, 1] -> CLIP's input [N, 3, size, size].

        The resize is that of the authors' code (repeat the pixels, then average), without its large
        intermediate image. Unlike the authors, we then normalise colours as CLIP was trained with.
        """
        side = image.shape[-1]
        if side != self.size:
            key = side, image.dtype, image.device
            if key not in self._matrices:
                with torch.inference_mode(False):  # its tensors would break later gradients
                    matrix = area_matrix(side, self.size)
                    self._matrices[key] = matrix.to(image.device, image.dtype)  # [size, R]
            resize = self._matrices[key]
            image = resize @ image @ resize.T  # [N, 3, size, size]
        return ((image + 1) / 2 - self.mean) / self.std

    def encode_image(self, image):
        """image [N, 3, R, R] in [-1, 1] -> unit vectors [N, D].

        On a GPU it is computed in half precision, as OpenAI does.
        """
        with torch.autocast("cuda", torch.float16, enabled=image.device.type == "cuda"):
            features = self.model.encode_image(self.preprocess(image)).to(image.dtype)  # [N, D]
        return features / features.norm(dim=-1, keepdim=True)

    def encode_text(self, texts, phrases=False):
        """A list of N sentences -> unit vectors [N, D], without gradients.

        Args: phrases: texts are phrasings of a sentence, which are taken as they are written. A
            sentence of a user's loses its full stop, and brings a warning, once, of words that the
            model was not trained on (`caution`).
        Raises: TypeError for anything but a list or tuple of strings; ValueError for an empty list,
            and for a sentence that is empty or too long.
        """
        if not isinstance(texts, list | tuple):
            raise TypeError('encode_text takes a list of sentences, such as ["a person"], '
                            f"not {type(texts).__name__}.")
        if not texts:
            raise ValueError("encode_text got an empty list: give it one sentence at least.")
        if not phrases:
            texts = [check_prompt(text) for text in texts]
        new = [text for text in dict.fromkeys(texts) if text not in self._sentences]
        if new:
            self._encode(new)
        for text in () if phrases else new:
            caution = self.caution(text)
            if caution:
                warnings.warn(caution, stacklevel=2)
        return torch.stack([self._sentences[text] for text in texts]).to(self.mean)  # [N, D]

    def _encode(self, texts):
        """Compute the vectors of sentences and keep them."""
        with torch.inference_mode(False), torch.no_grad():  # see `preprocess`
            tokens = torch.stack([tokenize(text) for text in texts]).to(self.mean.device)  # [N, 77]
            features = torch.cat([self.model.encode_text(part) for part in tokens.split(100)])
            features = features / features.norm(dim=1, keepdim=True)  # [N, D]
        self._sentences.update(zip(texts, features))

    def unknown_words(self, text):
        """The words of a sentence that the model was not trained on, in lower case."""
        if self.words is None:
            return []
        words = WORD.findall(check_prompt(text))
        return [word for word in words if word not in self.words and word not in FUNCTION_WORDS
                and word.removesuffix("s") not in self.words]

    def acts_like(self, text, word):
        """The known word that a word of a sentence acts like, or "" if none is near.

        It takes the word's place in the sentence, and CLIP's vector stays nearly the same.
        """
        known = sorted(self.words - FUNCTION_WORDS)
        there = re.compile(rf"\b{re.escape(word)}\b")
        vectors = self.encode_text([there.sub(other, text) for other in known], phrases=True)
        change = vectors - vectors.mean(dim=0)  # [words, D]
        size = change.norm(dim=1)
        change = change[size >= size.median()]  # words that hardly change a picture are no answer
        asked = self.encode_text([text], phrases=True)[0] - vectors.mean(dim=0)  # [D]
        cosine = torch.cosine_similarity(change, asked[None])
        nearest = [one for one, large in zip(known, size >= size.median()) if large]
        return nearest[cosine.argmax()] if cosine.max() >= ALIKE else ""

    def caution(self, text):
        """One sentence on the words of a text that the model was not trained on, else "".

        `words` holds those it was trained on; OpenAI's CLIP knows all, and gets no caution.
        """
        if self.words is None:
            return ""
        text, unknown = check_prompt(text), self.unknown_words(text)
        if not WORD.search(text):
            return f'There is no word in "{text}": describe the picture in English words.'
        if not unknown:
            return ""
        said = []
        for word in unknown:
            like = self.acts_like(text, word)
            said.append(f'"{word}"' + (f' (it acts like "{like}")' if like else ""))
        return (f"Unknown to this small CLIP: {', '.join(said)}. It knows no names and few things; "
                "OpenAI's CLIP does: load_domain(clip=\"ViT-B/32\").")


@cache
def _tokenizer():
    return SimpleTokenizer()


def tokenize(text):
    """A sentence that fits (`check_prompt`) as int64 [77]: start, its byte pairs, end, zeros."""
    encoder = _tokenizer().encoder
    tokens = [encoder["<|startoftext|>"], *_tokenizer().encode(text), encoder["<|endoftext|>"]]
    return torch.tensor(tokens + [0] * (CONTEXT - len(tokens)))


def check_prompt(text):
    """The prompt as CLIP reads it: in lower case, one space between words, no full stop at the end.

    Characters that cannot be seen, such as a zero-width space, are dropped.

    Raises: TypeError if it is no string; ValueError if it is empty or over CLIP's 77 tokens.
    """
    if not isinstance(text, str):
        raise TypeError(f"A prompt is a sentence, a str, not {type(text).__name__}.")
    shown = "".join(" " if unicodedata.category(letter) in ("Cc", "Zs", "Zl", "Zp") else letter
                    for letter in text if unicodedata.category(letter) != "Cf")
    text = " ".join(shown.lower().split()).rstrip(" .")
    if not text:
        raise ValueError("The prompt is empty: describe the face you want, for example: "
                         "a person with glasses.")
    tokens = len(_tokenizer().encode(text)) + 2  # start and end
    if tokens > CONTEXT:
        raise ValueError(f"The prompt has {tokens} tokens and CLIP reads {CONTEXT}: shorten it.")
    return text
