"""A recurrent network of characters as a generator: ``--generator rnn --plugin examples/models/rnn.py``."""

import torch
from torch import nn

from evalsvc import Checkpoint, GeneratorInfo, SampleRequest, Texts, load_into, register

CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))


class Network(nn.Module):
    """Scores of the next character after each one."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(len(CHARACTERS), width), nn.LSTM(width, width, batch_first=True)
        self.leave = nn.Linear(width, len(CHARACTERS))

    def forward(self, characters, state=None):
        hidden, state = self.lstm(self.embed(characters), state)
        return self.leave(hidden), state


@register("generators", "rnn")
class RNN:
    info = GeneratorInfo("rnn", "text", takes=frozenset())

    def __init__(self, checkpoint: Checkpoint, device: torch.device, *, length: int = 100) -> None:
        self.network, self.length = Network(), length
        load_into(self.network, checkpoint)
        self.network.to(device).eval()

    @torch.inference_mode()
    def sample(self, request: SampleRequest) -> Texts:
        chances = request.uniform(self.length)
        character, state, written = torch.zeros_like(request.seeds)[:, None], None, []
        for t in range(self.length):
            logits, state = self.network(character, state)
            cumulative = logits[:, -1].softmax(1).cumsum(1)
            character = (cumulative < chances[:, t : t + 1]).sum(1, keepdim=True).clamp(max=len(CHARACTERS) - 1)
            written.append(character)
        return Texts(tuple("".join(CHARACTERS[i] for i in row) for row in torch.cat(written, 1).tolist()))
