"""Storage of item sets with the results, so that workers on other machines can read them."""

from __future__ import annotations

import json

from evalsvc.core.errors import DamagedError, MissingError, first_line
from evalsvc.inputs.items.item_set import ItemSet
from evalsvc.store.artifacts import Artifacts


def items_key(sha256: str) -> str:
    """Key of an item set's content."""
    return f"items/{sha256}/items.json"


def media_key(sha256: str, name: str) -> str:
    """Key of a media file of an item set, by the name that the item has for it."""
    return f"items/{sha256}/media/{name}"


def store_items(artifacts: Artifacts, items: ItemSet) -> None:
    """Store an item set under its digest; its media files must be there before."""
    artifacts.write_bytes(items_key(items.sha256), items.json)


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
