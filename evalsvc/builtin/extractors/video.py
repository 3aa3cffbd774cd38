"""Video features from any image extractor: the features of every frame, pooled over time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from evalsvc.builtin.extractors.batches import Pieces
from evalsvc.core.digests import digest_path
from evalsvc.core.errors import InputError, first_line
from evalsvc.inputs.published_weights import weights_folder
from evalsvc.metrics.devices import staged
from evalsvc.plugins.interfaces import Extractor, ExtractorInfo
from evalsvc.plugins.registry import PluginKind, Plugins, open_to_clients
from evalsvc.plugins.samples import Images, Samples, Videos

FRAMES = 64
"""Frames in one forward pass."""
I3D_FILE, I3D_WIDTH = "i3d_torchscript.pt", 400


@open_to_clients("frames")
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
        self._pieces = Pieces(FRAMES, "frame-wise")

    def extract(self, samples: Samples) -> dict[str, Float[Tensor, "n d"]]:
        """One row per clip (n, t, c, h, w) of uint8 frames."""
        if not isinstance(samples, Videos):
            raise InputError("extractor 'frame-wise' requires video samples")
        n, t = samples.pixels.shape[:2]
        arrays = self._pieces.run(self._forward, samples.pixels.flatten(0, 1))
        pooled = {}
        for output, array in zip(self._frames.info.outputs, arrays, strict=True):
            by_clip = array.view(n, t, -1)
            pooled[output] = torch.cat([by_clip.mean(1), by_clip.std(1, correction=0)], 1)
        return pooled

    def _forward(self, frames: UInt8[Tensor, "k c h w"]) -> tuple[Float[Tensor, "k d"], ...]:
        arrays = self._frames.extract(Images(frames))
        return tuple(arrays[output] for output in self._frames.info.outputs)


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
        frames = staged(clips, self._device).expand(-1, -1, 3, -1, -1).flatten(0, 1).float()
        resized = torch.nn.functional.interpolate(frames, (self._side, self._side), mode="bilinear") / 127.5 - 1
        shown = resized.view(n, t, 3, self._side, self._side).transpose(1, 2)
        return (self._network(shown, **self._arguments).flatten(1),)


@open_to_clients("frames")
class I3D(ScriptedVideo):
    """The plug-in ``i3d``: the logits (400) of the I3D network on which FVD is defined, as StyleGAN-V distributes it.

    ``path`` is its TorchScript file, by default ``i3d_torchscript.pt`` in the folder of weights. TorchScript executes
    code: put no other file there. With ``frames``, clips of another length are refused.
    """

    def __init__(self, device: torch.device, *, path: str = "", frames: int | None = None) -> None:
        file = Path(path) if path else weights_folder() / I3D_FILE
        if not file.is_file():
            raise InputError(
                f"extractor 'i3d' needs the network on which FVD is defined: put StyleGAN-V's {I3D_FILE} into "
                f"{file.parent}, or set EVALSVC_WEIGHTS_DIR to the folder that has it"
            )
        given = {"rescale": False, "resize": False, "return_features": True}
        super().__init__(device, path=str(file), width=I3D_WIDTH, arguments=given)
        self.info = replace(self.info, name="i3d")
        self._frames = frames

    def extract(self, samples: Samples) -> dict[str, Float[Tensor, "n d"]]:
        """Output ``features``: one row per clip."""
        if self._frames and isinstance(samples, Videos) and samples.pixels.shape[1] != self._frames:
            raise InputError(
                f"extractor 'i3d' requires clips of {self._frames} frames (got {samples.pixels.shape[1]}): "
                f"read them with the option frames={self._frames}"
            )
        return super().extract(samples)
