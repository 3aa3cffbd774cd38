"""Two synthesizers of speech, and one of them with noise, by the scorers of speech: which differences are sure.

    python -m benchmarks.speech

flite and espeak-ng read 40 sentences; the voice that is asked for is flite's, in another sentence.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from scipy.io import wavfile

SENTENCES = Path(__file__).parents[1] / "examples/gates/speech/sentences.jsonl"
COUNT = 40
NOISE = 0.02
"""Standard deviation of the noise; full scale is 1."""
FLITE = ["flite", "-voice", "slt", "-t", "{prompt}", "-o", "{output}"]
SYSTEMS = {
    "flite": FLITE,
    "espeak": ["espeak-ng", "-v", "en-us", "-w", "{output}", "--", "{prompt}"],
    "noisy": [sys.executable, __file__, "{output}", "{seed}", "{prompt}"],
}
SUITE = {
    "name": "synthesizers",
    "version": 1,
    "modality": "audio",
    "items": {"file": "items.jsonl", "prompt": "text", "target": "text", "source": "voice"},
    "scorers": {
        "heard": {"use": "wer", "options": {"recognizer": {"window": 10}}},
        "opinion": {"use": "dnsmos"},
        "voice": {"use": "speaker-similarity"},
    },
    "metrics": [
        {"metric": "corpus", "of": "heard"},
        *({"metric": "mean", "of": f"opinion/dnsmos_{part}"} for part in ("sig", "bak", "ovr", "p808")),
        {"metric": "mean", "of": "voice"},
    ],
}


def add_noise(output: str, seed: str, text: str) -> None:
    """Speech of flite with white noise."""
    subprocess.run(["flite", "-voice", "slt", "-t", text, "-o", output], check=True)
    rate, wave = wavfile.read(output)
    noise = NOISE * np.random.default_rng(int(seed)).standard_normal(len(wave))
    wavfile.write(output, rate, np.clip(wave / 2**15 + noise, -1, 1).astype(np.float32))


def main() -> None:
    """Score the systems in a store of their own, and compare each with flite."""
    folder = Path(tempfile.mkdtemp())
    texts = list(dict.fromkeys(json.loads(line)["text"] for line in SENTENCES.read_text().splitlines()))
    subprocess.run(["flite", "-voice", "slt", "-t", texts[COUNT], "-o", folder / "voice.wav"], check=True)
    items = [json.dumps({"text": text, "voice": "voice.wav"}) for text in texts[:COUNT]]
    (folder / "items.jsonl").write_text("\n".join(items))
    (folder / "suite.yaml").write_text(yaml.safe_dump(SUITE))
    evalsvc = [sys.executable, "-m", "evalsvc"]
    environment = {**os.environ, "EVALSVC_HOME": str(folder / "home")}
    for name, command in SYSTEMS.items():
        (folder / f"{name}.yaml").write_text(json.dumps({"command": command, "suffix": ".wav"}))
        arguments = ["score", f"{name}.yaml", "--generator", "command", "--suite", "suite.yaml", "--model", name]
        subprocess.run([*evalsvc, *arguments, "--step", "1"], cwd=folder, env=environment, check=True)
    for name in list(SYSTEMS)[1:]:
        subprocess.run([*evalsvc, "compare", "flite@1", f"{name}@1"], cwd=folder, env=environment, check=True)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        add_noise(*sys.argv[1:])
    else:
        main()
