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
    origin: dict[str, str]


@dataclass(frozen=True)
class Gallery:
    """`latents.gallery` and `latents.suggestion`: random images, and what a sentence makes of them."""

    samples: int
    psi: float  # their truncation
    share: float  # of them that count as fitting a sentence
    axes: int  # how many of W's principal axes a suggestion uses
    ridge: float  # of the linear model of CLIP's vectors, in images
    sideways: float  # price of what else moves for CLIP
    origin: dict[str, str]


@dataclass(frozen=True)
class Optimization:
    """Method 1, `optimize_latent`. The last six belong to our objective; the paper has none of them."""

    steps: int
    rate: float  # Adam's: in w's own units for the paper, in standard deviations for ours
    lambda_l2: float  # for the paper's sum of squares over w_plus; for ours in standard deviations of one offset
    lambda_id: float
    start: float = 0.0  # how much of the suggested offset the descent begins with
    goal: float = 1.0  # how far to go along the sentence's direction, in gains of the faces that fit it best
    sideways: float = 0.0  # price of what else changes for CLIP, in goals squared
    views: int = 1  # augmentations that CLIP looks through in turn
    at_once: int = 1  # how many of them in one step
    axes: int | None = None  # how many of W's principal axes the offset may use
    origin: dict[str, str] = None


@dataclass(frozen=True)
class MapperTraining:
    """Method 2, `train_mapper`. The last five belong to our objective."""

    steps: int
    batch: int
    rate: float
    lambda_l2: float
    lambda_id: float
    count: int = 400  # latents to train on
    psi: float = 0.7  # their truncation
    start: float = 0.0
    goal: float = 1.0
    sideways: float = 0.0
    views: int = 1
    axes: int | None = None  # how many of W's principal axes the mapper sees and moves along
    origin: dict[str, str] = None


@dataclass(frozen=True)
class Directions:
    """Method 3, `global_direction`. One of `threshold` and `channels` is None."""

    method: str  # "samples", "sweep" or "gradient"
    alpha: float  # strength, in standard deviations of the strongest channel
    threshold: float | None = None  # channels of a smaller relevance are left out: beta in the paper
    channels: int | None = None  # or: how many are left in
    images: int = 100  # of a sweep
    origin: dict[str, str] = None


@dataclass(frozen=True)
class Settings:
    """All settings of a domain."""

    encoding: Encoding
    gallery: Gallery
    optimization: Optimization
    mapper: MapperTraining
    directions: Directions


AUTHORS = "authors"
PAPER_OPTIMIZATION = Optimization(steps=300, rate=0.1, lambda_l2=0.008, lambda_id=0.005, origin={"all": AUTHORS})
PAPER_MAPPER = MapperTraining(steps=50_000, batch=2, rate=0.5, lambda_l2=0.8, lambda_id=0.1, count=400,
                              origin={"all": AUTHORS, "count": "ours: the paper trains on encoded photographs"})
PAPER_DIRECTIONS = Directions(method="sweep", alpha=4.1, threshold=0.15, images=100, origin={"all": AUTHORS})


def from_card(card):
    """`Settings` from {"optimization": {"steps": [60, "tuned on ..."], ...}, ...}: a value and its origin each."""
    def one(kind, entries):
        return kind(**{name: value for name, (value, _) in entries.items()},
                    origin={name: origin for name, (_, origin) in entries.items()})

    return Settings(**{field.name: one(field.type, card[field.name]) for field in fields(Settings)})


def describe(settings):
    """One dataclass's numbers as lines: name, value, origin."""
    general = settings.origin.get("all", "")
    return "\n".join(f"{field.name:10} {getattr(settings, field.name)!s:>8}   "
                     f"{settings.origin.get(field.name, general)}"
                     for field in fields(settings) if field.name != "origin")
