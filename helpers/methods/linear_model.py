"""The linear model of CLIP in W, where method 1 starts and which method 3 is.

Written by `make export` from notebooks/01_latent_optimization.ipynb: edit that.
"""

import torch

from helpers.clip_model import check_prompt
from helpers.latents import random_w_plus
from helpers.losses import text_direction


class ClipMargin:
    """How well random images match a text direction d [D]: the scale that edits are measured on."""

    def __init__(self, settings, clip, features):
        self.settings, self.clip = settings, clip  # `LinearModelSettings`, a `ClipModel`
        self.features = features  # CLIP's unit vectors of random images [N, D]

    def margin(self, direction):
        """How much better than average the best 5 % of random images match d, in cosine.

        At least a thousandth, since nothing matches the neutral sentence better than average.
        """
        cosine = self.features @ direction  # [N]
        best = cosine.topk(round(self.settings.share * len(cosine))).values
        return max((best.mean() - cosine.mean()).item(), 1e-3)

    def match(self, direction, image):
        """How much better than average each image [N, 3, R, R] matches d, in margins [N]."""
        average = (self.features @ direction).mean()
        return (self.clip.encode_image(image) @ direction - average) / self.margin(direction)

    def remaining(self, direction, image):
        """The share of the margin that each image [N, 3, R, R] still lacks [N], 1 at most."""
        return (1 - self.match(direction, image)).clamp(self.settings.min_remaining, 1)


def ridge_regression(v, vectors, ridge):
    """The matrix M [D, K] for which vectors [N, D] are about their mean + M (v - mean), v [N, K].

    Args: ridge: how strongly M is pulled to 0, counted in images.
    """
    v, vectors = v - v.mean(dim=0), vectors - vectors.mean(dim=0)
    covariance = v.T @ v + ridge * torch.eye(v.shape[1], device=v.device)  # [K, K]
    return torch.linalg.solve(covariance, v.T @ vectors).T


SEED = 77  # of the random images


@torch.no_grad()
def random_w(domain):
    """w [N, w_dim] of the random images of a linear model."""
    settings = domain.settings.linear_model
    return random_w_plus(domain, settings.samples, SEED, truncation=settings.psi)[:, 0]


@torch.no_grad()
def fit_linear_model(domain):
    """What a `LinearModel` needs, computed from random images: {name: tensor}.

    "clip": CLIP's unit vectors [N, D] of the images; "clip model": M [D, K]; and where the settings
    weigh the person, "identity model": P [E, K]. Faces and avatars bring these along.
    """
    settings, generator = domain.settings.linear_model, domain.generator
    w = random_w(domain)  # [N, w_dim]
    with_identity = settings.lambda_id > 0 and domain.identity is not None
    features, persons = [], []
    for part in w.split(20):
        image = generator(generator.broadcast(part), resolution=domain.preview_resolution)
        features.append(domain.clip.encode_image(image))
        if with_identity:
            persons.append(domain.identity(image))
    v = domain.w_space.position(w, settings.axes)  # [N, K] in standard deviations
    tensors = {"clip": torch.cat(features)}
    tensors["clip model"] = ridge_regression(v, tensors["clip"], settings.ridge)
    if with_identity:
        tensors["identity model"] = ridge_regression(v, torch.cat(persons), settings.ridge)
    return tensors


def held_still(v, A, keep, M):
    """v [K] without what moves CLIP along the rows of `keep` [C, D]: of all such v the nearest, as
    A [K, K] measures.

        C = keep M,   v - inv(A) C' inv(C inv(A) C') C v
    """
    if keep is None or not len(keep):
        return v
    C = keep @ M  # [C, K]
    B = torch.linalg.solve(A, C.T)  # [K, C] inv(A) C'
    Q = C @ B  # [C, C]
    # A millionth on its diagonal, since two kept sentences may say the same.
    Q = Q + 1e-6 * Q.diagonal().mean() * torch.eye(len(Q), device=Q.device)
    return v - B @ torch.linalg.solve(Q, C @ v)


def positions_of(domain, count):
    """v [count, K] of the first random images, or None where the cosine is taken as it is."""
    settings = domain.settings.linear_model
    if settings.least_match is None:
        return None
    return domain.w_space.position(random_w(domain)[:count], settings.axes)


def slope(model, direction):
    """b [K]: along which axes images come to match d [D]. M'd, or with `least_match` the same
    regression on a cosine that is that many margins above average at least."""
    if model.v is None:
        return direction @ model.M
    cosine = model.features @ direction  # [N]
    least = cosine.mean() + model.settings.least_match * model.margin(direction)
    return ridge_regression(model.v, cosine.clamp(min=least)[:, None], model.settings.ridge)[0]


class LinearModel(ClipMargin):
    """A linear model of CLIP in W: CLIP's vector moves by about M v when w moves by v [K] standard
    deviations along W's first K axes, and the identity network's by P v."""

    def __init__(self, domain):
        tensors = domain.linear_model_tensors or fit_linear_model(domain)
        super().__init__(domain.settings.linear_model, domain.clip, tensors["clip"])
        self.M, self.P = tensors["clip model"], tensors.get("identity model")  # [D, K], [E, K]
        self.v = positions_of(domain, len(self.features))  # [N, K], or None

    def least_step(self, direction, keep=None):
        """The step before it is scaled, v [K], and how far it moves CLIP along d, a'v."""
        a = direction @ self.M  # [K] a = M'd
        S = self.M - direction[:, None] * a  # [D, K] S = M - d a'
        A = torch.eye(len(a), device=a.device) + self.settings.lambda_orthogonal * S.T @ S  # [K, K]
        if self.P is not None:
            A = A + self.settings.lambda_id * self.P.T @ self.P  # A = I + c1 S'S + c2 P'P
        v = held_still(torch.linalg.solve(A, slope(self, direction)), A, keep, self.M)  # inv(A) b
        return v, (a @ v).clamp(min=1e-12)  # the neutral sentence asks for none

    def step(self, direction, keep=None):
        """The linear CLIP step [K]: of all v that move CLIP by the margin along d [D], and not
        along `keep` [C, D], that with the least |v|^2 + c1 |S v|^2 + c2 |P v|^2, if b is M'd."""
        v, along = self.least_step(direction, keep)
        return v * self.margin(direction) / along


def linear_model(domain):
    """The `LinearModel` of a domain, built at the first call and kept on the domain."""
    if "linear_model" not in domain.kept:
        with torch.inference_mode(False):  # tensors of inference mode would break later gradients
            domain.kept["linear_model"] = LinearModel(domain)
    return domain.kept["linear_model"]


def kept_sentences(domain, neutral, prompt, keep=None):
    """What an edit from `neutral` to `prompt` keeps, a tuple of sentences; a bare noun becomes one.

    Args: keep: a list, or one string with commas; None for the domain's own of this prompt, which
    belong to its neutral sentence.
    Raises: TypeError for anything else, ValueError for a sentence that is empty or too long.
    """
    if keep is None:
        usual = neutral == domain.neutral
        keep = domain.keep_defaults.get(check_prompt(prompt), ()) if usual else ()
    elif isinstance(keep, str):
        keep = [part for part in keep.split(",") if part.strip(" -")]
    elif not isinstance(keep, list | tuple):
        raise TypeError(f'keep is a list of sentences or nouns, such as ["glasses"], not {keep!r}.')
    sentences = []
    for text in map(check_prompt, keep):
        whole = text.startswith(("a ", "an ", "the "))
        sentences.append(text if whole else f"{domain.neutral} with {text}")
    return tuple(dict.fromkeys(sentences))


def keep_directions(domain, neutral, prompt, keep=None):
    """What an edit from `neutral` to `prompt` shall not move: the text directions [C, D] of
    `kept_sentences`, each in units of its margin.

    Raises: as `kept_sentences`, and ValueError where so little of the edit is left that it is
    broken: a sentence says about what the prompt says, or its opposite, or all of them together do.
    """
    model, direction = linear_model(domain), text_direction(domain.clip, neutral, prompt)  # [D]
    settings, free = model.settings, model.least_step(direction)[1]
    rows = []
    for text in kept_sentences(domain, neutral, prompt, keep):
        kept = text_direction(domain.clip, domain.neutral, text)  # [D]
        rows.append(kept / model.margin(kept))
        left = model.least_step(direction, kept[None])[1] / free
        if kept @ direction < 0 and left < settings.min_left_opposite:
            raise ValueError(f'"{prompt}" cannot keep "{text}": to this CLIP they are opposites.')
        if left < settings.min_left:
            raise ValueError(f'"{prompt}" cannot keep "{text}": to this CLIP they are nearly the '
                             "same, so that little of the edit would be left.")
    keep = torch.stack(rows) if rows else direction.new_zeros(0, len(direction))  # [C, D]
    if model.least_step(direction, keep)[1] < settings.min_left * free:
        raise ValueError(f'"{prompt}" cannot keep all of this: too little of it would be left.')
    return keep


def keep_losses(change, keep, settings):
    """{"keep": [N]}: how far a change of CLIP's vector [N, D] goes along what is kept [C, D], the
    sum of squares, weighted; {} where nothing is kept."""
    if not len(keep):
        return {}
    return {"keep": settings.lambda_keep * (change @ keep.T).square().sum(dim=1)}
