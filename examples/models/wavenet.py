"""Dilated causal convolutions over samples of sound: ``--generator wavenet --plugin examples/models/wavenet.py``."""

import torch
from torch import nn

from evalsvc import Audio, Checkpoint, GeneratorInfo, SampleRequest, load_into, register

RATE, LEVELS, FIELD = 16_000, 256, 64


class Network(nn.Module):
    """Scores of the next of 256 levels, after the last 64 samples."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.enter, self.leave = nn.Conv1d(1, width, 1), nn.Conv1d(width, LEVELS, 1)
        self.layers = nn.ModuleList(nn.Conv1d(width, width, 2, dilation=2**i) for i in range(6))

    def forward(self, wave):
        x = self.enter(wave[:, None])
        for layer in self.layers:
            x = x[..., layer.dilation[0] :] + layer(x).tanh()
        return self.leave(x)[..., -1]


@register("generators", "wavenet")
class WaveNet:
    info = GeneratorInfo("wavenet", "audio", takes=frozenset())

    def __init__(self, checkpoint: Checkpoint, device: torch.device, *, seconds: float = 0.1) -> None:
        self.network, self.length = Network(), int(seconds * RATE)
        load_into(self.network, checkpoint)
        self.network.to(device).eval()

    @torch.inference_mode()
    def sample(self, request: SampleRequest) -> Audio:
        chances = request.uniform(self.length)
        wave = torch.zeros(len(request), FIELD + self.length, device=request.device)
        for t in range(self.length):
            cumulative = self.network(wave[:, t : t + FIELD]).softmax(1).cumsum(1)
            level = (cumulative < chances[:, t : t + 1]).sum(1).clamp(max=LEVELS - 1)
            x = 2 * level / (LEVELS - 1) - 1
            wave[:, FIELD + t] = x.sign() * (LEVELS ** x.abs() - 1) / (LEVELS - 1)  # mu-law
        return Audio(tuple(wave[:, FIELD:].cpu()), RATE)
