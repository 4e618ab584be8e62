"""A growing list of numbers that never outgrows its room: it thins itself."""

from array import array

__all__ = ["Series"]


class Series:
    """Rows of float32 numbers, at most `capacity` of them, evenly thinned, the newest always kept.

    When the rows are full every second one goes, and from then on one in `stride` comes in. What is
    kept is always a row that was appended, never an average.

    Parameters
    ----------
    columns : int
        Numbers a row.
    capacity : int
        The most rows to keep; at least 4.

    Examples
    --------
    >>> series = Series(columns=1, capacity=4)
    >>> for step in range(10):
    ...     series.append(step)
    >>> series.column(0), series.stride
    ([0.0, 4.0, 8.0, 9.0], 4)
    """

    def __init__(self, columns: int, capacity: int = 4000) -> None:
        if columns < 1 or capacity < 4:
            raise ValueError(
                f"columns={columns} and capacity={capacity}, expected at least 1 column and room for 4 rows"
            )
        self.columns, self.capacity = columns, capacity
        self.stride = 1
        self._seen = 0
        self._kept, self._newest = array("f"), array("f")

    def __len__(self) -> int:
        return len(self._kept) // self.columns + bool(self._newest)

    def append(self, *row: float) -> None:
        """Add a row of `columns` numbers."""
        if len(row) != self.columns:
            raise ValueError(f"got a row of {len(row)} numbers, expected {self.columns}")
        if self._seen % self.stride == 0:
            # One place stays free for a newest row between two kept ones.
            if len(self._kept) // self.columns == self.capacity - 1:
                self._thin()
            on_grid = self._seen % self.stride == 0
        else:
            on_grid = False
        if on_grid:
            self._kept.extend(row)
            self._newest = array("f")
        else:
            self._newest = array("f", row)
        self._seen += 1

    def _thin(self) -> None:
        rows = range(0, len(self._kept) // self.columns, 2)
        self._kept = array("f", (self._kept[i * self.columns + j] for i in rows for j in range(self.columns)))
        self.stride *= 2

    def clear(self) -> None:
        """Forget every row."""
        self._kept, self._newest = array("f"), array("f")
        self._seen, self.stride = 0, 1

    def column(self, index: int) -> list[float]:
        """Return one column of the kept rows, the newest included."""
        return list((self._kept + self._newest)[index :: self.columns])

    def tobytes(self) -> bytes:
        """Return the kept rows as little-endian float32, row by row."""
        rows = self._kept + self._newest
        if array("H", [1]).tobytes() == b"\x00\x01":  # pragma: no cover - big-endian machines
            rows.byteswap()
        return rows.tobytes()
