"""Landmarks of one made-up face, as five points and in the denser layouts."""

from __future__ import annotations

import numpy as np

from bladescan.pretext import face_regions as r

LANDMARKS = np.array([[70, 80], [130, 84], [102, 118], [76, 150], [126, 152]], np.float32)


def ring(centre, half_width, half_height, n):
    angle = np.linspace(np.pi, 3 * np.pi, n, endpoint=False)  # from the left, over the top
    return np.stack([centre[0] + half_width * np.cos(angle), centre[1] + half_height * np.sin(angle)], 1)


def dense(n_points, five=LANDMARKS):
    """Landmarks of the given number for the face of ``five``, in the proportions of an average face.

    In units of the face scale: eyes 0.39 x 0.13, lips 0.33 high, nose 0.46 wide, its bridge from between the
    eyes to the tip and the nostrils 0.2 below. What is not eye, mouth or nose is not a number.
    """
    scale = r.face_scale(five)
    layout = r.LAYOUTS[n_points]
    points = np.full((n_points, 2), np.nan)
    for which, eye in enumerate(layout.eyes):
        points[eye] = ring(five[which], 0.195 * scale, 0.065 * scale, eye.stop - eye.start)
    n_lips = layout.mouth.stop - layout.mouth.start
    corners = five[3:]
    points[layout.mouth] = ring(
        corners.mean(0), abs(corners[1, 0] - corners[0, 0]) / 2, 0.165 * scale, n_lips
    )
    points[list(layout.corners)] = corners
    bridge = np.linspace(five[:2].mean(0), five[2], 4)
    n_nostrils = layout.nose.stop - layout.nose.start - len(bridge)
    nostrils = five[2] + scale * np.stack([np.linspace(-0.23, 0.23, n_nostrils), np.full(n_nostrils, 0.2)], 1)
    points[layout.nose] = np.concatenate([bridge, nostrils])
    if n_points == 106:  # the tip is the last one of the nose there
        points[86] = five[2]
    return points.astype(np.float32)
