"""Every number that was tuned, guessed or taken over: a dataclass per method, and where each number comes from."""

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Encoding:
    """`inversion.invert`: an image becomes a latent."""

    steps: int
    rate: float  # Adam's, in standard deviations along W's principal axes
    features: float  # weight of the distance between CLIP's vectors
    prior: float  # weight of the squared distance from the mean, in standard deviations
    jitter: float  # noise on w at first, where nothing says where to begin
    small_until: float  # share of the steps that are drawn at `domain.draw`
    origin: dict[str, str]


@dataclass(frozen=True)
class Gallery:
    """`latents.gallery` and `latents.suggestion`: random images, and what a sentence makes of them."""

    samples: int  # random images
    psi: float  # their truncation
    share: float  # of them that count as fitting a sentence
    axes: int  # how many of W's principal axes a suggestion uses
    ridge: float  # of the linear models of the networks' vectors, in images
    sideways: float  # price of what else moves for CLIP
    least: float  # of a gain that an image is always asked for, however well it fits
    identity: float = 0.0  # price of what changes the person for the identity network
    origin: dict[str, str] = None


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What methods 1 and 2 share. The last four belong to our objective; the paper has none of them."""

    steps: int
    rate: float  # of the optimiser: in w's own units for the paper, in standard deviations for ours
    lambda_l2: float  # in the same units; method 1 weighs a sum of squares, method 2 a mean
    lambda_id: float
    start: float = 0.0  # how much of the suggested offset to begin with
    goal: float = 1.0  # how far to go along the sentence's direction, in gains of the faces that fit it best
    sideways: float = 0.0  # price of what else changes for CLIP, in goals squared
    augmentations: int = 1  # that CLIP looks through by turns
    origin: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Optimization(Objective):
    """Method 1, `optimize_latent`."""

    at_once: int = 1  # augmentations in one step of our objective


@dataclass(frozen=True, kw_only=True)
class MapperTraining(Objective):
    """Method 2, `train_mapper`."""

    batch: int
    count: int = 400  # latents to train on
    psi: float = 0.7  # their truncation
    scatter: float = 1.0  # how much of its random weights our mapper's last layers begin with


@dataclass(frozen=True)
class Directions:
    """Method 3, `global_direction`. One of `threshold` and `channels` is None."""

    method: str  # "samples", "sweep" or "gradient"
    alpha: float  # strength, in standard deviations of the strongest channel
    threshold: float | None = None  # channels of a smaller relevance are left out: beta in the paper
    channels: int | None = None  # or: how many are left in
    images: int = 100  # of a sweep
    gradient_images: int = 24  # of the gradient
    origin: dict[str, str] = None


@dataclass(frozen=True)
class Settings:
    """All settings of a domain."""

    encoding: Encoding
    gallery: Gallery
    optimization: Optimization
    mapper: MapperTraining
    directions: Directions


def _by_authors(*names):
    return dict.fromkeys(names, "authors")


PAPER_OPTIMIZATION = Optimization(steps=300, rate=0.1, lambda_l2=0.008, lambda_id=0.005,
                                  origin=_by_authors("steps", "rate", "lambda_l2", "lambda_id"))
PAPER_MAPPER = MapperTraining(steps=50_000, batch=2, rate=0.5, lambda_l2=0.8, lambda_id=0.1,
                              origin=_by_authors("steps", "batch", "rate", "lambda_l2", "lambda_id"))
PAPER_DIRECTIONS = Directions(method="sweep", alpha=4.1, threshold=0.15,
                              origin=_by_authors("method", "alpha", "threshold", "images"))


def from_card(card):
    """`Settings` from {"optimization": {"steps": [60, "tuned on ..."], ...}, ...}: a value and its origin each."""
    def one(kind, entries):
        return kind(**{name: value for name, (value, _) in entries.items()},
                    origin={name: origin for name, (_, origin) in entries.items()})

    return Settings(**{field.name: one(field.type, card[field.name]) for field in fields(Settings)})


def describe(settings):
    """One dataclass's numbers as lines: name, value, origin; what has no origin of its own plays no part."""
    everything = settings.origin.get("all")
    return "\n".join(f"{field.name:15} {getattr(settings, field.name)!s:>8}   {origin}" for field in fields(settings)
                     if field.name != "origin" and (origin := settings.origin.get(field.name, everything)))
