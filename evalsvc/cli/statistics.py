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
    target: Annotated[Path, typer.Argument(help="The .npz to write, for 'evalsvc reference add NAME'.")],
    count: Annotated[int, typer.Option(help="Number of images behind the statistics.")],
    preprocess: Annotated[str, typer.Option(help="Resizing of the images: tf1, pytorch-fid, clean or torchmetrics.")],
    ddof: Annotated[
        int | None,
        typer.Option(min=0, max=1, help="ddof of the covariance: by default 1; 0 for StyleGAN's and cd-fvd's."),
    ] = None,
) -> None:
    """Write published statistics together with missing facts: the number of images, the resizing, the ddof of the
    covariance.
    """
    from evalsvc.inputs import published_statistics

    facts = published_statistics.convert(source, target, count=count, preprocess=preprocess, ddof=ddof)
    err.print(
        f"{target}: {facts.count} images, ddof {facts.ddof} (known by {facts.ddof_known_by})",
        soft_wrap=True,
    )
