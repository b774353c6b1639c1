"""The linear model of CLIP in W, where method 1 starts and which method 3 is.

Written by `make export` from notebooks/01_latent_optimization.ipynb: edit that.
"""

import torch

from helpers.latents import random_w_plus


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

    def remaining(self, direction, image):
        """The share of the margin that each image [N, 3, R, R] still lacks [N], 1 at most."""
        average = (self.features @ direction).mean()
        match = self.clip.encode_image(image) @ direction - average  # [N]
        return (1 - match / self.margin(direction)).clamp(self.settings.min_remaining, 1)


def ridge_regression(v, vectors, ridge):
    """The matrix M [D, K] for which vectors [N, D] are about their mean + M (v - mean), v [N, K].

    Args: ridge: how strongly M is pulled to 0, counted in images.
    """
    v, vectors = v - v.mean(dim=0), vectors - vectors.mean(dim=0)
    covariance = v.T @ v + ridge * torch.eye(v.shape[1], device=v.device)  # [K, K]
    return torch.linalg.solve(covariance, v.T @ vectors).T


SEED = 77  # of the random images


@torch.no_grad()
def fit_linear_model(domain):
    """What a `LinearModel` needs, computed from random images: {name: tensor}.

    "clip": CLIP's unit vectors [N, D] of the images; "clip model": M [D, K]; and where the settings
    weigh the person, "identity model": P [E, K]. Faces and avatars bring these along.
    """
    settings, generator = domain.settings.linear_model, domain.generator
    w = random_w_plus(domain, settings.samples, SEED, truncation=settings.psi)[:, 0]  # [N, w_dim]
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


class LinearModel(ClipMargin):
    """A linear model of CLIP in W: CLIP's vector moves by about M v when w moves by v [K] standard
    deviations along W's first K axes, and the identity network's by P v."""

    def __init__(self, domain):
        tensors = domain.linear_model_tensors
        if tensors is None:
            tensors = fit_linear_model(domain)
        super().__init__(domain.settings.linear_model, domain.clip, tensors["clip"])
        self.M, self.P = tensors["clip model"], tensors.get("identity model")  # [D, K], [E, K]

    def step(self, direction):
        """The linear CLIP step [K]: of all v that move CLIP by the margin along d [D], the v with
        the least |v|^2 + c1 |S v|^2 + c2 |P v|^2, where S v is what else it changes for CLIP."""
        a = direction @ self.M  # [K] a = M'd
        S = self.M - direction[:, None] * a  # [D, K] S = M - d a'
        c1, c2 = self.settings.lambda_orthogonal, self.settings.lambda_id
        A = torch.eye(len(a), device=a.device) + c1 * S.T @ S  # [K, K] A = I + c1 S'S
        if self.P is not None and c2 > 0:
            A = A + c2 * self.P.T @ self.P  # A = I + c1 S'S + c2 P'P
        v = torch.linalg.solve(A, a)  # inv(A) a
        # step = margin * inv(A) a / (a' inv(A) a); the neutral sentence asks for none
        return v * self.margin(direction) / (a @ v).clamp(min=1e-12)


def linear_model(domain):
    """The `LinearModel` of a domain, built at the first call and kept on the domain."""
    if "linear_model" not in domain.kept:
        with torch.inference_mode(False):  # tensors of inference mode would break later gradients
            domain.kept["linear_model"] = LinearModel(domain)
    return domain.kept["linear_model"]
