"""How many pixels of each region a view shows in each cell of its feature map, compiled for the CPU."""

from __future__ import annotations

import numpy as np

from stages.data.compiled import compiled


# What is decoded from a file is read-only.
@compiled(
    "float32[:,:,::1](Array(uint32, 1, 'C', readonly=True), Array(uint16, 1, 'C', readonly=True), int64, int64, "
    "int64[::1], int64[::1], int64[::1], int64[::1], int64)"
)
def count_pixels(lengths, labels, regions, width, rows, columns, row_cells, column_cells, cells):
    """Walks through the runs of a map, from one sampled row to the next: a run is counted at once, cell by cell.

    Args:
        lengths: (r,) uint32, of the map's runs, row by row; they fill the map.
        labels: (r,) uint16 below `regions`.
        regions: k.
        width: of the map.
        rows, columns: (S,) int64, ascending, those of the map that the view shows.
        row_cells, column_cells: (S,) int64, the cell of each. Columns of a cell lie side by side.
        cells: G.

    Returns:
        (k, G, G) float32.
    """
    counts = np.zeros((regions, cells, cells), np.float32)
    size = len(columns)
    left_of = np.empty(width + 1, np.int64)  # how many of `columns` lie left of a column of the map
    column = 0
    for x in range(width + 1):
        while column < size and columns[column] < x:
            column += 1
        left_of[x] = column
    cell_ends = np.empty(size, np.int64)  # of the cell that a column is in, in numbers of columns
    for column in range(size - 1, -1, -1):
        goes_on = column + 1 < size and column_cells[column + 1] == column_cells[column]
        cell_ends[column] = cell_ends[column + 1] if goes_on else column + 1

    first, first_end = 0, np.int64(lengths[0])  # the run with the row's first column; ends count from the map's start
    for row in range(size):
        start = rows[row] * width
        while first_end <= start + columns[0]:
            first += 1
            first_end += np.int64(lengths[first])
        run, run_end, column = first, first_end, 0
        while column < size:
            counted = counts[labels[run], row_cells[row]]
            last = left_of[min(run_end - start, width)]
            while column < last:
                end = min(last, cell_ends[column])
                counted[column_cells[column]] += np.float32(end - column)
                column = end
            if column < size:
                run += 1
                run_end += np.int64(lengths[run])
    return counts
