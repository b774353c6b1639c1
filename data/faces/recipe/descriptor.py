"""dlib's face descriptor: 128 numbers; two pictures less than 0.6 apart show the same person, by its authors' rule.

It teaches the identity network on one pool, and judges who was kept in edits of other faces. CC0, from the package
`face_recognition_models`.
"""

from functools import lru_cache

import dlib
import face_recognition_models
import numpy as np

SAME = 0.6
BOX = 46, 79, 196, 229  # left, top, right, bottom of a face in a picture of 256 px that is cut out as FFHQ's are


@lru_cache(maxsize=1)
def _networks():
    return (dlib.shape_predictor(face_recognition_models.pose_predictor_model_location()),
            dlib.face_recognition_model_v1(face_recognition_models.face_recognition_model_location()))


def describe(pixels):
    """uint8 [N, 256, 256, 3], cut out as FFHQ's -> [N, 128] float64."""
    landmarks, network = _networks()
    box = dlib.rectangle(*BOX)
    return np.stack([np.array(network.compute_face_descriptor(picture, landmarks(picture, box)))
                     for picture in map(np.ascontiguousarray, pixels)])
