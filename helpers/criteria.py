"""The three distances of StyleCLIP's objective (arXiv 2103.17249, equations 1 and 2), one number per image."""


def clip_distance(image_features, text_features):
    """D_CLIP = 1 - cosine, of unit vectors [N, D] and [D] or [N, D] -> [N]."""
    return 1 - (image_features * text_features).sum(dim=-1)


def identity_distance(features, source_features):
    """L_ID = 1 - <R(G(w_s)), R(G(w))>, of unit vectors [N, D] -> [N]."""
    return 1 - (features * source_features).sum(dim=-1)


def latent_distance(w_plus, source):
    """||w - w_s||^2 summed over all layers and channels, as the authors' code has it: [N, L, w_dim] -> [N]."""
    return (w_plus - source).square().flatten(1).sum(dim=1)
