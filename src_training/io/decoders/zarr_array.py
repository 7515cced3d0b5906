"""Opening arrays in zarr stores."""

from pathlib import Path
from typing import Any

from src_training.errors import InputError

_ZARR_METADATA = (".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json")


def open_zarr_array(path: Path, within: str = "") -> Any:
    """Open a zarr array that checks the size of blosc chunks before they are decoded.

    Blosc has no checksum, and its decoder reads beyond the end of a truncated
    chunk without an error.

    Parameters
    ----------
    path
        Folder of the store.
    within
        Path of the array in that store.

    Raises
    ------
    InputError
        If `path` is a group; on reading, if a chunk is truncated.
    """
    import zarr  # takes half a second to import, which only zarr files need

    node = zarr.open(store=str(path), path=within, mode="r")
    if not isinstance(node, zarr.Array):
        raise InputError(f"{path} is a zarr group; expected a zarr array")
    outermost = "".join(type(codec).__name__ for codec in node.compressors[-1:])
    if "blosc" not in outermost.lower() or node.shards is not None:
        return node
    return zarr.open_array(store=_blosc_store(path), path=within, mode="r")


def _blosc_store(path: Path) -> Any:
    from zarr.storage import LocalStore

    class BloscStore(LocalStore):  # type: ignore[misc] # zarr is imported without its types
        async def get(self, key: str, *arguments: Any, **options: Any) -> Any:
            value = await super().get(key, *arguments, **options)
            if value is not None and key.rpartition("/")[2] not in _ZARR_METADATA:
                # The last four bytes of a chunk's header of 16 bytes are the size of the chunk.
                header = value[:16].to_bytes()
                size = max(16, int.from_bytes(header[12:], "little"))
                if len(value) != size:
                    raise InputError(
                        f"{path / key} is a truncated chunk: {len(value)} of {size} bytes; "
                        "expected all of them"
                    )
            return value

    return BloscStore(path, read_only=True)
