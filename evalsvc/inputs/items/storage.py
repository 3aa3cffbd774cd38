"""Storage of item sets with the results, so that workers on other machines can read them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from evalsvc.core.errors import DamagedError, InputError, MissingError, first_line
from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.inputs.items.media import MediaFile, check_alike, decoded, modality_of, read_media
from evalsvc.plugins.interfaces import Modality
from evalsvc.plugins.samples import Samples
from evalsvc.store.artifacts import Artifacts


def items_key(sha256: str) -> str:
    """Key of an item set's content."""
    return f"items/{sha256}/items.json"


def media_key(sha256: str, name: str) -> str:
    """Key of a media file of an item set, by the name that the item has for it."""
    return f"items/{sha256}/media/{name}"


def store_items(artifacts: Artifacts, items: ItemSet, media: Mapping[str, MediaFile]) -> None:
    """Store an item set under its digest, after its media files, which are decoded once to check them.

    Raises:
        InputError: a media file is damaged, or sounds or videos are not of one rate or shape.
    """
    first: dict[Modality | None, tuple[Samples, str]] = {}
    for name, file in media.items():
        content = file.read()
        try:
            sample = decoded(content, name)
            other, place = first.setdefault(modality_of(name), (sample, file.place))
            check_alike([other, sample], [place, file.place])
        except InputError as error:
            raise error if str(error).startswith(file.place) else InputError(f"{file.place} {error}") from None
        artifacts.write_bytes(media_key(items.sha256, name), content)
    artifacts.write_bytes(items_key(items.sha256), items.json)


def load_media(artifacts: Artifacts, sha256: str, names: Sequence[str]) -> Samples:
    """The samples of these media files of an item set, in order.

    Raises:
        DamagedError: a file is missing or has other content.
    """
    return read_media(lambda name: artifacts.read_bytes(media_key(sha256, name)), names)


def load_items(artifacts: Artifacts, sha256: str) -> ItemSet:
    """The item set with this digest, in the order of its file, as stored by :func:`store_items`.

    Raises:
        DamagedError: the file has other content or is missing.
    """
    key = items_key(sha256)
    try:
        items = ItemSet.of_body(json.loads(artifacts.local(key).read_bytes()))
    except FileNotFoundError:
        raise MissingError(key) from None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise DamagedError(key, f"it cannot be read: {first_line(error)}") from None
    if items.sha256 != sha256:
        raise DamagedError(key, "its content does not match its digest")
    return items
