"""zarr arrays that sync each chunk to the disk, and raise an error for missing chunks."""

import os
from asyncio import to_thread
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from src_training.errors import InputError
from src_training.io.atomic import write_bytes

_CHUNKS = "c/"


def open_array(folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...]) -> Any:
    """Open an array of uint8, or create it if there is none.

    Chunks of zeros are written too, so that missing chunks can be detected:
    reading one raises `InputError`. Chunks have a checksum.

    Parameters
    ----------
    folder
        Folder of the array. If it is removed later, writing raises an error.
    shape, chunks
        Shape of the array; chunk shape of a new array.

    Raises
    ------
    InputError
        If an existing array is damaged, or has another shape.
    """
    import zarr
    from zarr.codecs import ZstdCodec

    store = _durable_store(folder)
    with zarr.config.set({"array.write_empty_chunks": True}):
        if not (folder / "zarr.json").exists():
            return zarr.create_array(
                store,
                shape=shape,
                chunks=chunks,
                dtype="uint8",
                compressors=[ZstdCodec(checksum=True)],
            )
        try:
            array = zarr.open_array(store, mode="r+")
            actual = f"{array.dtype} of shape {array.shape}"
        except OSError:
            raise
        except Exception as error:  # zarr raises errors of many types for broken metadata
            actual = " ".join(str(error).split()) or "nothing that can be read"
    if actual != f"uint8 of shape {shape}":
        raise InputError(
            f"{folder / 'zarr.json'} is damaged ({actual}); removing {folder.parent} starts over"
        )
    return array


def chunk_sizes(array: Any) -> dict[str, int]:
    """Return name -> size in bytes of each chunk on the disk."""
    root = Path(array.store.root)
    return {
        Path(folder, name).relative_to(root).as_posix(): Path(folder, name).stat().st_size
        for folder, _, names in os.walk(root / _CHUNKS)
        for name in names
    }


def chunk_keys(array: Any, axis: int, start: int, stop: int) -> Iterator[str]:
    """Iterate over the names of the chunks for indices from `start` to `stop` along an axis."""
    counts = [
        range(-(-side // chunk)) for side, chunk in zip(array.shape, array.chunks, strict=True)
    ]
    side = array.chunks[axis]
    counts[axis] = range(start // side, -(-stop // side))
    for index in product(*counts):
        yield _CHUNKS + "/".join(map(str, index))


def _durable_store(folder: Path) -> Any:
    from zarr.storage import LocalStore

    class DurableStore(LocalStore):  # type: ignore[misc] # zarr is imported without its types
        async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
            return _required(folder, key, await super().get(key, *arguments, **options))

        def get_sync(self, key: str, **options: Any) -> Any:
            return _required(folder, key, super().get_sync(key, **options))

        async def set(self, key: str, value: Any) -> None:
            await to_thread(self.set_sync, key, value)

        def set_sync(self, key: str, value: Any) -> None:
            if key.startswith(_CHUNKS) and not folder.is_dir():
                raise InputError(
                    f"{folder.parent} was removed while it was written to; expected it to stay"
                )
            write_bytes(folder / key, value.to_bytes())

    return DurableStore(folder)


def _required(folder: Path, key: str, value: Any) -> Any:
    if value is None and key.startswith(_CHUNKS):
        raise InputError(f"{folder / key} is missing; expected all that was written")
    return value
