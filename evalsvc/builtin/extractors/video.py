"""Video features from any image extractor: the features of every frame, pooled over time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from evalsvc.builtin.extractors.batches import Pieces
from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError, first_line
from evalsvc.plugins.interfaces import Extractor, ExtractorInfo
from evalsvc.plugins.registry import PluginKind, Plugins
from evalsvc.plugins.samples import Images, Samples, Videos


class FrameWise:
    """The plug-in ``frame-wise``: outputs of the image extractor ``frames``, as mean and standard deviation over time.

    Each output of d dimensions becomes one of 2 d: the mean over frames, then the standard deviation (ddof 0), so that
    a static video differs from a moving one with the same mean.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        frames: str,
        options: Mapping[str, Any] | None = None,
        plugins: Plugins | None = None,
    ) -> None:
        factory = (plugins or Plugins()).get(PluginKind.EXTRACTOR, frames).load()
        self._frames: Extractor = factory(device, **dict(options or {}))
        inner = self._frames.info
        if "image" not in inner.takes:
            raise InputError(
                f"extractor 'frame-wise' requires an image extractor, but {frames!r} takes {inner.modality} samples"
            )
        self.info = ExtractorInfo(
            "frame-wise",
            "video",
            {output: 2 * width for output, width in inner.outputs.items()},
            inner.weights,
            f"mean and standard deviation over frames of {inner.protocol}: {inner.preprocessing}",
            backend=inner.backend,
        )

    def extract(self, samples: Samples) -> dict[str, Float[Tensor, "n d"]]:
        """One row per clip (n, t, c, h, w) of uint8 frames."""
        if not isinstance(samples, Videos):
            raise InputError("extractor 'frame-wise' requires video samples")
        n, t = samples.pixels.shape[:2]
        arrays = self._frames.extract(Images(samples.pixels.flatten(0, 1)))
        pooled = {}
        for output, array in arrays.items():
            by_clip = array.view(n, t, -1)
            pooled[output] = torch.cat([by_clip.mean(1), by_clip.std(1, correction=0)], 1)
        return pooled


class ScriptedVideo:
    """The plug-in ``video-network``: a TorchScript file, such as the I3D network on which FVD is defined, given by
    path.

    Its inputs are float clips (n, c, t, h, w) in [-1, 1], resized to ``side`` (bilinear, half-pixel), and ``arguments``
    by name (that I3D returns class probabilities unless called with ``return_features``); its output has one row per
    clip. TorchScript executes code: pass only files that you trust.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        path: str,
        width: int,
        side: int = 224,
        arguments: Mapping[str, bool | int | float | str] | None = None,
    ) -> None:
        if not Path(path).is_file():
            raise InputError(f"extractor 'video-network': file {path} does not exist")
        try:
            self._network = torch.jit.load(path, map_location=device).eval()  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise InputError(
                f"extractor 'video-network': {path} is not a TorchScript file ({first_line(error)})"
            ) from None
        self._device, self._side, self._arguments = device, side, dict(arguments or {})
        given = f", called with {json.dumps(self._arguments, sort_keys=True)}" if arguments else ""
        self.info = ExtractorInfo(
            "video-network",
            "video",
            {"features": width},
            digest_path(Path(path)),
            f"bilinear to {side}, half-pixel, x / 127.5 - 1, float32{given}",
            backend=f"torch-{device.type}",
        )
        self._pieces = Pieces(8, "video-network")

    @torch.inference_mode()
    def extract(self, samples: Samples) -> dict[str, Float[Tensor, "n d"]]:
        """Output ``features``: one row per clip."""
        if not isinstance(samples, Videos):
            raise InputError("extractor 'video-network' requires video samples")
        (features,) = self._pieces.run(self._forward, samples.pixels)
        return {"features": features}

    def _forward(self, clips: UInt8[Tensor, "n t c h w"]) -> tuple[Float[Tensor, "n d"]]:
        n, t = clips.shape[:2]
        frames = clips.to(self._device).expand(-1, -1, 3, -1, -1).flatten(0, 1).float()
        resized = torch.nn.functional.interpolate(frames, (self._side, self._side), mode="bilinear") / 127.5 - 1
        shown = resized.view(n, t, 3, self._side, self._side).transpose(1, 2)
        return (self._network(shown, **self._arguments).flatten(1),)
