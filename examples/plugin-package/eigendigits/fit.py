"""``python -m eigendigits.fit FOLDER``: checkpoints with 2, 8 and 32 components, fitted to the training half."""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from evalsvc.builtin.demo.digits import digits_reference


def main(folder: Path) -> None:
    """Fit by singular values and write the checkpoints."""
    train = digits_reference().train
    images = train.read(0, len(train)).pixels.flatten(1).double() / 255
    mean = images.mean(0)
    _, scales, directions = torch.linalg.svd((images - mean) / (len(images) - 1) ** 0.5, full_matrices=False)
    folder.mkdir(parents=True, exist_ok=True)
    for kept in (2, 8, 32):
        components = (directions[:kept] * scales[:kept, None]).T.contiguous()
        save_file({"mean": mean.float(), "components": components.float()}, folder / f"pca_{kept}.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
