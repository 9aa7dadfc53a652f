"""A stranger's autoencoder in ONNX, picture in and the same picture out: what it takes, found by trying it.

One check for all who use one: what stands before an encoder (`bladescan.foreign.reconstruction`) and what
makes faces to learn from (`bladescan.pretext.reconstruction`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bladescan.base.errors import DetectorError, first_line
from bladescan.foreign.onnx_graph import ForeignGraph, GraphInput, input_of
from bladescan.runtimes.onnx_session import UnloadableGraphError, open_session

_MULTIPLES = (1, 2, 4, 8, 16, 32, 64)
"""Of which autoencoders want their sides; tried in this order."""

_LEAST = 65
"""Side tried first: the next multiple of each of `_MULTIPLES` is a multiple of no later one."""

_FEWEST_DB = 18.0
"""Of the smooth pictures that it is tried on; even grey alone has 14."""

_CHANCE = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
)


class Autoencoder(NamedTuple):
    """What an autoencoder takes and gives. Levels, here and below, are RGB ``[n, h, w, 3]`` from 0 to 1.

    Attributes:
        given: its input.
        output: the tensor that holds the reconstruction.
        between: lowest and highest value of its pixels.
        multiple: height and width are multiples of it.
        decibels: how like smooth pictures come back; peak signal-to-noise ratio.
    """

    given: GraphInput
    output: str
    between: tuple[float, float]
    multiple: int
    decibels: float = 0.0

    @property
    def last(self) -> bool:
        """Whether its channels come last."""
        return self.given.shape[1] != 3

    @property
    def side(self) -> int | None:
        """Side of the squares that it takes; None if that is open."""
        return max((side for side in _sides(self.given) if side), default=None)

    def reconstruct(self, session: Any, levels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Run it in a session of its graph.

        Raises:
            DetectorError: it gives pictures of another size.
            Exception: onnxruntime cannot run it; its own classes are private to it.
        """
        low, high = self.between
        pixels = low + (high - low) * levels
        pixels = pixels if self.last else pixels.transpose(0, 3, 1, 2)
        (made,) = session.run(
            [self.output], {self.given.name: np.ascontiguousarray(pixels, self.given.dtype)}
        )
        if made.shape != pixels.shape:
            raise DetectorError(f"gives {list(made.shape)} for pictures {list(pixels.shape)}")
        made = made if self.last else made.transpose(0, 2, 3, 1)
        return np.asarray((made.astype(np.float64) - low) / (high - low))


def tried_autoencoder(graph: ForeignGraph, between: tuple[float, float]) -> Autoencoder:
    """Find out what an autoencoder takes by giving it pictures.

    Args:
        graph: of its file.
        between: lowest and highest value of its pixels.

    Raises:
        DetectorError: it takes or gives something else than pictures, or draws at random.
    """
    given, where = input_of(graph), graph.where
    outputs = [output.name for output in graph.model.graph.output]
    if given.dtype == "uint8" or 3 not in (given.shape[1], given.shape[3]) or len(outputs) != 1:
        shape = str(["n" if n is None else n for n in given.shape])
        raise DetectorError(
            f"{where}: an autoencoder takes floating-point pictures of 3 channels and gives one such tensor; "
            f"this takes {given.dtype} {shape} and gives {len(outputs)} tensors"
        )
    if chance := sorted({node.op_type for node in graph.model.graph.node} & _CHANCE):
        raise DetectorError(
            f"{where}: draws at random ({chance[0]}), so a picture would come back differently each time: "
            "export the mean of its latent distribution"
        )
    if len(fixed := {side for side in _sides(given) if side}) > 1:
        shown = " x ".join(map(str, _sides(given)))
        raise DetectorError(f"{where}: takes {shown} pixels: export it with open sides, or for squares")
    try:
        session = open_session(graph.model.SerializeToString())
    except UnloadableGraphError as exc:
        raise DetectorError(f"{where}: onnxruntime cannot load it: {exc}") from exc
    found = ""
    for multiple in (1,) if fixed else _MULTIPLES:
        autoencoder = Autoencoder(given, outputs[0], between, multiple)
        levels = _smooth(autoencoder.side or -(-_LEAST // multiple) * multiple)
        try:
            made = autoencoder.reconstruct(session, levels)
        except DetectorError as exc:
            found = str(exc)
        except Exception as exc:  # onnxruntime raises its own unrelated classes
            side = levels.shape[1]
            found = f"cannot run two pictures of {side} x {side} pixels: {first_line(exc)}"
        else:
            error = max(np.square(made - levels).mean(), 1e-10)
            return autoencoder._replace(decibels=float(-10 * np.log10(error)))
    raise DetectorError(f"{where}: {found}: expected an autoencoder, picture in and the same size out")


def check_alike(autoencoder: Autoencoder, setting: str, *, where: str) -> None:
    """Raise DetectorError where pictures come back not much nearer to themselves than plain grey is.

    Args:
        autoencoder: tried.
        setting: what mends a wrong range.
        where: the file's name.
    """
    if not autoencoder.decibels >= _FEWEST_DB:
        low, high = autoencoder.between
        raise DetectorError(
            f"{where}: does not give pictures back: {autoencoder.decibels:.0f} dB, and of smooth "
            f"ones at least {_FEWEST_DB:.0f} are expected. If its pixels do not go from {low:g} to {high:g}: "
            f"--set {setting}"
        )


def _sides(given: GraphInput) -> tuple[int | None, ...]:
    return given.shape[2:] if given.shape[1] == 3 else given.shape[1:3]


def _smooth(side: int) -> NDArray[np.float64]:
    """Make two pictures of slopes, ``[2, side, side, 3]``, one upside down in other colours."""
    line = np.linspace(0.15, 0.85, side)
    across, down = np.meshgrid(line, line)
    picture = np.stack([(across + down) / 2, across, down], 2)
    return np.stack([picture, picture[::-1, :, ::-1]])
