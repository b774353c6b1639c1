"""dlib's face descriptor: 128 numbers that say who is shown.

Two pictures less than 0.6 apart show the same person, by its authors' rule. It teaches the
identity network on one pool, and judges who was kept in edits of other faces. CC0, from the
package `face_recognition_models`.
"""

from functools import lru_cache

import dlib
import face_recognition_models
import numpy as np

SAME = 0.6
# Left, top, right, bottom of a face in a picture of 256 px that is aligned as FFHQ's.
BOX = 46, 79, 196, 229


@lru_cache(maxsize=1)
def networks():
    """dlib's landmarks and its descriptor."""
    landmarks = face_recognition_models.pose_predictor_model_location()
    descriptor = face_recognition_models.face_recognition_model_location()
    return dlib.shape_predictor(landmarks), dlib.face_recognition_model_v1(descriptor)


def describe(pixels):
    """uint8 [N, 256, 256, 3], aligned as FFHQ's -> [N, 128] float64."""
    landmarks, network = networks()
    box, found = dlib.rectangle(*BOX), []
    for picture in pixels:
        picture = np.ascontiguousarray(picture)
        shape = landmarks(picture, box)
        found.append(np.array(network.compute_face_descriptor(picture, shape)))
    return np.stack(found)
