"""Samples as few bytes: whole numbers, differences, zlib.

A blob begins with a head of 15 bytes, little endian: format (1 byte, the
number 1), columns c (2), samples n (4), time of the first sample (8, whole
milliseconds of the monotonic clock). A zlib stream follows. Unpacked it holds
four planes for each of 1 + c series (the times first, then the columns in the
order of `core.gpu.columns`), lowest byte first, each of n bytes.

Put together, a series is n unsigned numbers of 32 bits. Each is a difference
to the sample before (the first one to 0, of the times to the head's), in
two's complement, folded so that small ones of either sign have small numbers
(0, -1, 1, -2 become 0, 1, 2, 3). Summed up they count `UNITS`; the lowest
number there is, -2**31, stands for a value that is not known.

So times are exact to a millisecond, memory to 64 kB, the others to 0.1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.gpu.columns import COLUMNS, USED, Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

FORMAT = 1
MEMORY_UNIT = 2.0**16
OTHER_UNIT = 0.1
UNITS = tuple(MEMORY_UNIT if column <= USED else OTHER_UNIT for column in range(COLUMNS))
"""What one of the numbers of a column counts: bytes, or percent, degrees, watts."""

_HEAD = struct.Struct("<BHIq")
_UNKNOWN = -(2**31)
_LARGEST = 2**31 - 1
_EXTREMES = 3
_LEVEL, _QUICK = 6, 1


def encode(
    times: Sequence[int], rows: Sequence[Row] | Floats, *, quick: bool = False
) -> tuple[bytes, bytes]:
    """Pack samples.

    Args:
        times: Milliseconds, rising, shape (n,), n at least 1, within 24 days.
        rows: Shape (n, COLUMNS); None, NaN and infinity are not known.
        quick: For what is packed again soon: less work, a sixth larger.

    Returns:
        The blob, and the `extremes` of the samples in little more than 90 bytes.
    """
    import numpy as np

    values = np.asarray(rows, dtype=np.float64)
    known = np.isfinite(values)
    scaled = np.rint(np.where(known, values, 0.0) / np.array(UNITS))
    numbers = np.where(known, np.clip(scaled, -_LARGEST, _LARGEST), _UNKNOWN)
    first = times[0]
    series = np.empty((1 + numbers.shape[1], len(times)), dtype=np.int32)
    series[0] = np.array(times, dtype=np.int64) - first
    series[1:] = numbers.T
    # Unsigned, so that a step from or to what is not known may wrap around.
    steps = np.diff(series.view(np.uint32), axis=1, prepend=np.uint32(0)).view(np.int32)
    folded = (steps << 1) ^ (steps >> 31)
    planes = folded.astype("<i4").view(np.uint8).reshape(*folded.shape, 4).transpose(0, 2, 1)
    head = _HEAD.pack(FORMAT, numbers.shape[1], len(times), first)
    return head + zlib.compress(planes.tobytes(), _QUICK if quick else _LEVEL), _extremes(numbers)


def decode(blob: bytes) -> tuple[Floats, Floats]:
    """Unpack samples: seconds of the monotonic clock (n,), rows (n, columns), NaN for not known.

    Raises:
        ValueError: It is no such blob, or a damaged one.
    """
    import numpy as np

    try:
        form, columns, count, first = _HEAD.unpack_from(blob)
        if form != FORMAT or columns != COLUMNS:
            raise ValueError(f"samples of format {form} with {columns} columns are not known")
        plain = zlib.decompress(blob[_HEAD.size :], bufsize=4 * (1 + columns) * count)
    except (struct.error, zlib.error) as error:
        raise ValueError(f"samples cannot be unpacked: {error}") from error
    if len(plain) != 4 * (1 + columns) * count:
        raise ValueError(f"samples are cut off: {len(plain)} bytes for {count}")
    planes = np.frombuffer(plain, dtype=np.uint8).reshape(1 + columns, 4, count)
    folded = np.ascontiguousarray(planes.transpose(0, 2, 1)).view("<u4")[..., 0]
    steps = (folded >> 1) ^ (np.uint32(0) - (folded & np.uint32(1)))
    series = np.cumsum(steps, axis=1, dtype=np.uint32).view(np.int32)
    return (series[0].astype(np.int64) + first) / 1000.0, _values(series[1:].T)


def _values(numbers: NDArray[np.int32]) -> Floats:
    import numpy as np

    values: Floats = numbers * np.array(UNITS)
    values[numbers == _UNKNOWN] = np.nan
    return values


def _extremes(numbers: Floats) -> bytes:
    """Pack lowest, highest and last of each column, shape (3, columns)."""
    import numpy as np

    known = np.where(numbers == _UNKNOWN, np.nan, numbers)
    parts = np.fmin.reduce(known), np.fmax.reduce(known), known[-1]
    packed: bytes = np.nan_to_num(np.array(parts), nan=_UNKNOWN).astype("<i4").tobytes()
    return packed


def extremes(blobs: Sequence[bytes]) -> Floats:
    """Unpack what `encode` returned beside the blobs: shape (n, 3, columns), low, high, last.

    Raises:
        ValueError: One is of another size.
    """
    import numpy as np

    size = 4 * _EXTREMES * COLUMNS
    if any(len(blob) != size for blob in blobs):
        raise ValueError(f"extremes are not {size} bytes long")
    numbers = np.frombuffer(b"".join(blobs), dtype="<i4")
    return _values(numbers.reshape(len(blobs), _EXTREMES, COLUMNS))
