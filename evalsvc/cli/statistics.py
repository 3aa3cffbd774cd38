"""``evalsvc reference statistics``: published means and covariances as references."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evalsvc.cli.console import err


def convert(
    source: Annotated[
        Path, typer.Argument(help="Published .npz with mu and sigma (pytorch-fid, clean-fid, EDM, ADM).")
    ],
    target: Annotated[Path, typer.Argument(help="The .npz to write; 'evalsvc reference add NAME' takes it.")],
    count: Annotated[int, typer.Option(help="Number of images behind the statistics.")],
    preprocess: Annotated[str, typer.Option(help="How they were resized: tf1, pytorch-fid, clean or torchmetrics.")],
    ddof: Annotated[
        int | None, typer.Option(min=0, max=1, help="Of the covariance: 1 by default, 0 for StyleGAN's and cd-fvd's.")
    ] = None,
) -> None:
    """Write published statistics with what they leave out: how many images, which resize, which covariance."""
    from evalsvc.inputs import published_statistics

    facts = published_statistics.convert(source, target, count=count, preprocess=preprocess, ddof=ddof)
    err.print(
        f"{target}: {facts.count} images, ddof {facts.ddof} (known by {facts.ddof_known_by})",
        soft_wrap=True,
    )
