"""Every number that was tuned, guessed or taken over: a dataclass per method, with where it comes
from."""

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class EncodingSettings:
    """`inversion.invert`: an image becomes a latent."""

    steps: int
    lr: float  # Adam's, in standard deviations along W's principal axes
    features: float  # weight of the distance between CLIP's vectors
    prior: float  # weight of the squared distance from the mean, in standard deviations
    prior_rows: float  # the same, of each row of w_plus from the mean of its rows
    jitter: float  # noise on w during the first half, where no encoder says where to begin
    preview_share: float  # share of the steps that are drawn at `domain.preview_resolution`
    identity: float = 0.0  # weight of the distance between the identity network's vectors,
    identity_maps: float = 0.0  # between its feature maps,
    encoder_maps: float = 0.0  # and between the encoder's
    origin: dict[str, str] = None


@dataclass(frozen=True)
class TuningSettings:
    """`inversion.tune_generator`: a generator learns one picture."""

    steps: int
    lr: float  # Adam's, in shares of each tensor's root mean square; so it is for the
    noise_lr: float  # constant noise maps
    levels: int  # of the pyramid of pixels, each half the size of the one before
    strength: float  # how much longer an edit's step is on a tuned generator, at most
    slack: float  # as `DirectionSettings.slack`, on a tuned generator
    match: float  # so many times `DirectionSettings.match` there,
    alpha_most: float  # and its `alpha_most`
    features: float  # weight of the distance between CLIP's vectors,
    identity: float = 0.0  # between the identity network's,
    identity_maps: float = 0.0  # between its feature maps,
    encoder_maps: float = 0.0  # and between the encoder's
    edit_share: float = 1.0  # weights that draw a photograph's edits: 0 untuned, 1 tuned ones
    origin: dict[str, str] = None


@dataclass(frozen=True)
class BlendingSettings:
    """`photographs`: an edit is drawn in one place, and goes back into its photograph.

    Sizes of masks (odd whole numbers) and the sigmas of Gaussian blurs are in pixels of a mask of
    256 x 256; changes and differences are of 2 from black to white.
    """

    middle: float  # height of the middle of the ellipse where a head is looked for, and half of
    half_width: float  # its width and
    half_height: float  # height: shares of the side of a picture that is aligned as FFHQ's are
    ellipse_edge: float  # half the width of that ellipse's soft edge, in its radii
    core: float  # of its radii: pieces that are not connected to the middle so far are dropped
    gap: int  # so narrow a gap parts nothing from the head
    head_edge: float  # above .5 + this a pixel surely is the head's, below .5 - this surely not
    hat: float  # what is less likely a hat is none; from here to 1: in part
    holes: int  # smaller ones than these are filled in a head,
    specks: int  # or left out of it
    margin: int  # by half of this grow the head, what changed and what changed much,
    put_margin: int  # and of this, the head where an edit is put back
    edge_blur: float  # of the edge of the head and of what changed much
    least: float  # change from which a pixel is put back; from twice this, all of it
    change_blur: float  # of the change before that,
    mask_blur: float  # and of the mask after it
    much: float  # change from which the edited picture itself is put there; half of this: in part
    much_blur: float  # of the change before that
    near: float  # blur of the difference outside the mask by which colours inside are matched
    like: float  # what differs by more is another thing, and not matched; half of this: in part
    stay: float  # weight of no difference in that match, where little is known
    border_from: float  # the mask begins so far from the edge of the square, in shares of its side,
    border_to: float  # and is whole from here
    inner: int  # smaller things are not held in front of a face; half of it: hair above it grows
    drawn_margin: int  # by half of this grows the edited head as it is drawn in feature maps,
    drawn_blur: float  # softly
    blend_from: int  # side in pixels of the first maps in which an edit is blended,
    styled_from: int  # and of the first in which what it uncovers has the styles of before
    face_rise: float  # the face ends above the brows by this share of their height above the chin
    face_margin: int  # by half of this it grows,
    face_blur: float  # and this is the blur of its edge
    colours_from: int  # side of the first maps whose styles an edit changes that keeps the shapes
    face_enough: float  # if the face alone has this share of what CLIP sees of an edit, hair stays;
    shape_enough: float  # if with the former shapes the head has this share, they stay
    mouth: float  # height, in shares of the side, below which no background is put,
    front: float  # and below which something may be held in front of the face;
    front_edge: float  # both softly, from so much above it
    foreign: float  # what differs there by more from the encoding is such a thing; half: in part
    forehead: float  # height above which there may be a cap, as softly
    cap_blur: float  # what differs there, after such a blur,
    cap: float  # by more from the encoding is one; half: in part
    alike: float  # above the square, pixels this similar to the head's colour (0 to 1) are hair,
    texture: float  # if they have this share of the hair's fine detail (half of it: in part), and
    reach: float  # if that ends before this height above it, in shares of its side
    samples: int  # across a pixel, where the photograph is coarser than the edited face
    grain_blur: float  # in the photograph's pixels: what this blur takes away is fine detail,
    grain_near: float  # its strength is that within such a blur,
    grain_share: float  # and grain is what this share of the photograph's pixels stays below
    origin: dict[str, str] = None


@dataclass(frozen=True)
class LinearModelSettings:
    """`methods.linear_model.LinearModel`: ridge regression of CLIP's vector on w."""

    samples: int  # random images
    psi: float  # their truncation
    share: float  # of them that count as matching a sentence
    axes: int  # K, how many of W's principal axes a step uses
    ridge: float  # of the regression, in images
    lambda_orthogonal: float  # c1, weight of what else changes for CLIP
    min_remaining: float  # the least that a sentence asks of an image, however well it matches
    lambda_id: float = 0.0  # c2, weight of what changes the person for the identity network
    min_left: float = 0.0  # the least that may be left of a step that keeps a sentence,
    min_left_opposite: float = 0.0  # and one whose text direction points against the prompt's
    least_match: float | None = None  # cosines that are fewer margins above average count as this
    origin: dict[str, str] = None

    def of_fit(self):
        """What a fitted model depends on, {name: value}; the other settings are used later."""
        return {"samples": self.samples, "psi": self.psi, "axes": self.axes, "ridge": self.ridge,
                "with identity": self.lambda_id > 0}


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings:
    """What methods 1 and 2 share. The last five belong to our objective; the paper has none of
    them."""

    steps: int
    lr: float  # in w's own units for the paper, in standard deviations for ours
    lambda_l2: float  # in the same units; method 1 weighs a sum of squares, method 2 a mean
    lambda_id: float
    start: float = 0.0  # how much of the linear model's step to begin with
    goal: float = 1.0  # how far CLIP's vector shall move along the text direction, in margins
    lambda_orthogonal: float = 0.0  # weight of what else changes for CLIP, in squared goals
    lambda_keep: float = 0.0  # weight of what changes along kept sentences, in squared margins
    augmentations: int = 1  # that CLIP looks through in turn
    origin: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class OptimizationSettings(ObjectiveSettings):
    """Method 1, `optimize_latent`."""

    augmentations_per_step: int = 1


@dataclass(frozen=True, kw_only=True)
class MapperSettings(ObjectiveSettings):
    """Method 2, `train_mapper`."""

    batch: int
    training_latents: int = 400  # random ones, to train on
    psi: float = 0.7  # their truncation
    last_layer_scale: float = 1.0  # of the random weights that our mapper's last layers begin with


@dataclass(frozen=True)
class DirectionSettings:
    """Method 3, `global_direction`. One of `threshold` and `channels` is None."""

    method: str  # "linear", "sweep" or "gradient"
    alpha: float  # usual strength, in standard deviations of the strongest channel
    threshold: float | None = None  # the least relevance of a channel: beta in the paper
    channels: int | None = None  # or: how many are left in
    images: int = 100  # of a sweep
    gradient_images: int = 24  # of the gradient
    match: float = 1.0  # of an image with the sentence that is enough, in margins above average,
    slack: float = 0.05  # or so much below its best match
    alpha_most: float = 5.0  # up to this strength it is looked for,
    tries: int = 6  # in so many steps
    origin: dict[str, str] = None


@dataclass(frozen=True)
class Settings:
    """All settings of a domain."""

    encoding: EncodingSettings
    tuning: TuningSettings
    linear_model: LinearModelSettings
    optimization: OptimizationSettings
    mapper: MapperSettings
    directions: DirectionSettings


AUTHORS = "authors (script)"
PAPER_OPTIMIZATION = OptimizationSettings(
    steps=300, lr=0.1, lambda_l2=0.008, lambda_id=0.005,
    origin={"steps": AUTHORS, "lr": AUTHORS, "lambda_l2": AUTHORS,
            "lambda_id": "authors (playground; 0 in their script)"})
PAPER_MAPPER = MapperSettings(
    steps=50_000, batch=2, lr=0.5, lambda_l2=0.8, lambda_id=0.1,
    origin=dict.fromkeys(("steps", "batch", "lr", "lambda_l2", "lambda_id"), AUTHORS))
PAPER_DIRECTIONS = DirectionSettings(
    method="sweep", alpha=4.1, threshold=0.15,
    origin=dict.fromkeys(("method", "alpha", "threshold", "images"), AUTHORS))
FFHQ_BLENDING = BlendingSettings(  # of pictures that are aligned as FFHQ's are
    middle=0.54, half_width=0.36, half_height=0.48, ellipse_edge=0.1, core=0.5, gap=5,
    head_edge=0.2, hat=0.8, holes=25, specks=13, margin=15, put_margin=7, edge_blur=2.0,
    least=0.04, change_blur=3.0, mask_blur=5.0, much=0.5, much_blur=1.1, near=6.0, like=0.5,
    stay=0.1, border_from=0.002, border_to=0.015, inner=7, drawn_margin=3, drawn_blur=1.0,
    blend_from=8, styled_from=32, face_rise=0.15, face_margin=25, face_blur=7.0,
    colours_from=16, face_enough=0.6, shape_enough=0.5, mouth=0.76, front=0.86,
    front_edge=0.06, foreign=0.5, forehead=0.35, cap_blur=6.0, cap=1.0, alike=0.5, texture=0.7,
    reach=0.2, samples=2, grain_blur=1.0, grain_near=6.0, grain_share=0.15,
    origin={"all": "by eye at 100 %: two portraits and six hard photographs, six edits each",
            "face_enough": "four hard photographs: glasses, beards, surprise have .60 to .99, hair "
                           "and age .09 to .53",
            "shape_enough": "the same: blonde hair and age have .50 to .95, hats .05 to .11, curls "
                            "and bald heads .2 to .7"})


def from_card(card):
    """The `Settings` in a card.

    Args: card: {"optimization": {"steps": [60, "tuned on ..."], ...}, ...}, a value and its origin
        each.
    Raises: TypeError, KeyError for a card that lacks a setting or names an unknown one.
    """
    parts = {}
    for part in fields(Settings):
        values = {name: value for name, (value, _) in card[part.name].items()}
        origin = {name: origin for name, (_, origin) in card[part.name].items()}
        parts[part.name] = part.type(**values, origin=origin)
    return Settings(**parts)


def changed(settings, card):
    """`Settings` with some values replaced.

    Args: card: as `from_card`, but only with what is to be replaced.
    Raises: ValueError for a method or a setting that does not exist.
    """
    for method, entries in card.items():
        part = getattr(settings, method, None)
        if part is None:
            raise ValueError(f"There are no settings of {method!r}.")
        known = {field.name for field in fields(part)} - {"origin"}
        if set(entries) - known:
            raise ValueError(f"{method} has no setting {sorted(set(entries) - known)[0]!r}.")
        values = {name: value for name, (value, _) in entries.items()}
        origin = part.origin | {name: origin for name, (_, origin) in entries.items()}
        settings = replace(settings, **{method: replace(part, **values, origin=origin)})
    return settings


def describe(settings):
    """One dataclass's numbers as lines of text: name, value, origin. What has no origin plays no
    part."""
    everything, lines = settings.origin.get("all"), []
    for field in fields(settings):
        origin = settings.origin.get(field.name, everything)
        if field.name != "origin" and origin:
            lines.append(f"{field.name:22} {getattr(settings, field.name)!s:>8}   {origin}")
    return "\n".join(lines)
