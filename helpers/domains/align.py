"""Find a face in a photograph, and cut it out as FFHQ's pictures were."""

from functools import cache

import numpy as np
from PIL import Image

from .download import PackageSource, Source, fetch

# dlib's predictor of 68 landmarks; trained on iBUG 300-W, not for commercial use.
NAME = "shape_predictor_68_face_landmarks.dat"
SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"
LANDMARKS = (
    PackageSource("face-recognition-models", "0.3.0", "face_recognition_models-0.3.0.tar.gz",
                  "b79bd200a88c87c9a9d446c990ae71c5a626d1f3730174e6d570157ff1d896cf", 100_149_358,
                  NAME, SHA256),
    Source("https://github.com/ageitgey/face_recognition_models/raw/master/"
           f"face_recognition_models/models/{NAME}", SHA256),
    Source(f"https://github.com/italojs/facial-landmarks-recognition/raw/master/{NAME}", SHA256))

DETECT_AT = 1200  # pixels, the longer side at which faces are looked for; of 40 px and more there
SMALLEST = 60  # pixels, the width of a face that is worth an encoding
OUTSIDE = 0.1  # share of the landmarks; at a quarter of the face cut off, dlib guesses so many
# Centre and width of dlib's face box in FFHQ's pictures, as shares of their side; on 81 faces the
# centre was at most 0.05 away, and the width between 0.51 and 0.73.
FFHQ_CENTER, FFHQ_WIDTH = (0.48, 0.6), (0.45, 0.8)


def _dlib():
    """Raises: ImportError, in one sentence, where dlib is not installed."""
    try:
        import dlib
    except ImportError:
        raise ImportError("Finding faces needs dlib: pip install dlib-bin, or open the picture "
                          "with align=False if it is aligned already.") from None
    return dlib


@cache  # reading the file takes a second
def _predictor(path):
    return _dlib().shape_predictor(path)


def face_landmarks(picture, say=print, face=1):
    """The 68 landmarks (iBUG 300-W) of a face in an RGB PIL picture, in pixels (x, y), [68, 2].

    A picture on its side or upside down is turned to look for faces; the landmarks are those of the
    picture as it is.

    Args: say: gets a sentence on what was chosen; face: 1 for the largest, 2 for the next, ...
    Raises: ValueError, in one sentence, if that face is not there, smaller than 60 px, or partly
        outside the picture; Unavailable if the landmarks' file cannot be fetched.
    """
    detector, predictor = _dlib().get_frontal_face_detector(), _predictor(str(fetch(LANDMARKS)))
    scale = min(1, DETECT_AT / max(picture.size))
    sides = [max(2, round(side * scale)) for side in picture.size]  # dlib takes no line of pixels
    small = picture.resize(sides, Image.Resampling.BOX)
    for turns in range(4):  # quarters, to the left
        pixels = np.ascontiguousarray(np.rot90(np.asarray(small), turns))  # [H, W, 3]
        faces = sorted(detector(pixels, 1), key=lambda box: box.area(), reverse=True)
        if faces:
            break
    if not faces:
        raise ValueError("No face was found: choose a picture that shows the whole face of a "
                         "person who looks to the camera, or say that it is aligned already.")
    if not 1 <= face <= len(faces):
        raise ValueError(f"There is no face={face} in the picture: {len(faces)} can be found, from "
                         "face=1, the largest, on.")
    if turns:
        say(f"The picture {'is upside down' if turns == 2 else 'lies on its side'}: it is turned.")
    if face == 1 and len(faces) > 1:
        say(f"{len(faces)} faces were found, and the largest is taken: face=2 takes the next.")
    box = faces[face - 1]
    if box.width() / scale < SMALLEST:
        raise ValueError(f"The face is {box.width() / scale:.0f} pixels wide: choose a picture "
                         f"that shows it in {SMALLEST} or more.")
    points = np.array([(point.x, point.y) for point in predictor(pixels, box).parts()])  # [68, 2]
    size = np.array(pixels.shape[1::-1])
    if ((points < 0) | (points >= size)).any(axis=1).mean() >= OUTSIDE:
        raise ValueError("The face is partly outside the picture: choose a picture that shows all "
                         "of it.")
    offsets = points - (size - 1) / 2  # from the centre, which every turn leaves in its place
    for _ in range(turns):
        offsets = np.stack([-offsets[:, 1], offsets[:, 0]], axis=1)
    return (offsets + (np.array(small.size) - 1) / 2) / scale


def face_square(landmarks):
    """The square that FFHQ cuts out (Karras et al., arXiv 1812.04948, appendix A).

    It is turned as the eyes are, and as wide as twice their distance, or 1.8 times the distance
    from eyes to mouth.

    Args: landmarks: [68, 2] in pixels.
    Returns: corners [4, 2] in pixels: upper left, lower left, lower right, upper right.
    """
    left_eye, right_eye = landmarks[36:42].mean(axis=0), landmarks[42:48].mean(axis=0)
    across, middle = right_eye - left_eye, (left_eye + right_eye) / 2
    down = (landmarks[48] + landmarks[54]) / 2 - middle  # to the corners of the mouth
    x = across + np.array([down[1], -down[0]])
    x *= max(2 * np.hypot(*across), 1.8 * np.hypot(*down)) / np.hypot(*x)
    y, center = np.array([-x[1], x[0]]), middle + 0.1 * down
    return np.stack([center - x - y, center - x + y, center + x + y, center + x - y])


def cut_square(picture, corners, size, say=print):
    """A square of an RGB PIL picture, upright: a picture of `size` px.

    What lies beyond the picture's edges is mirrored. Args: corners [4, 2], as of `face_square`.
    """
    side = np.hypot(*(corners[3] - corners[0]))
    shrink = max(1, int(side / (2 * size)))  # sampled below at most twice as large as the result
    picture = picture.reduce(shrink)
    corners = corners / shrink
    beyond = np.ceil([*-corners.min(axis=0), *(corners.max(axis=0) - picture.size)]).astype(int)
    left, top, right, bottom = np.clip(beyond + 2, 0, None)
    if max(left, top, right, bottom) > 2:
        say("The face is so near the edge that a part of the picture was mirrored.")
    pixels = np.pad(np.asarray(picture), ((top, bottom), (left, right), (0, 0)), "symmetric")
    square = (corners + [left, top]).flatten()
    sampled = Image.fromarray(pixels).transform((2 * size, 2 * size), Image.Transform.QUAD, square,
                                                Image.Resampling.BICUBIC)
    return sampled.reduce(2)


def align_face(picture, size, say=print, face=1):
    """A face of an RGB PIL picture, upright and in the middle as in FFHQ: a picture of `size` px.

    Arguments and exceptions as `face_landmarks` and `cut_square`.
    """
    return cut_square(picture, face_square(face_landmarks(picture, say, face)), size, say)


def is_aligned(picture):
    """Does a face sit in a square RGB PIL picture where FFHQ's do? Takes 0.1 s, fetches nothing."""
    small = np.asarray(picture.resize((256, 256), Image.Resampling.BOX))
    for box in _dlib().get_frontal_face_detector()(small, 1):
        x, y = (box.left() + box.right()) / 512, (box.top() + box.bottom()) / 512
        near = np.hypot(x - FFHQ_CENTER[0], y - FFHQ_CENTER[1]) < 0.1
        if near and FFHQ_WIDTH[0] < box.width() / 256 < FFHQ_WIDTH[1]:
            return True
    return False
