"""Right and wrong answers to the exercises of lesson 05, written as learners write them.

RIGHT: by exercise, answers that must be accepted, each written another way. WRONG: by exercise and
by the diagnosis that it must get. They share no code with the catalogue's diagnoses.
"""

import functools

import numpy as np
import torch


def _with(function, **changed):
    return functools.wraps(function)(lambda *args, **kwargs: function(*args, **kwargs, **changed))


# flatten.inverse


def inverse_loop(order):
    steps = np.zeros(len(order), dtype=int)
    for step, pixel in enumerate(order):
        steps[pixel] = step
    return steps


def inverse_search(order):
    order = list(order)
    return np.array([order.index(pixel) for pixel in range(len(order))])


def inverse_sorted(order):
    return np.array(sorted(range(len(order)), key=lambda step: order[step]))


def inverse_matrix(order):
    visits = np.eye(len(order), dtype=int)[order]  # [step, pixel]
    return visits.T @ np.arange(len(order))


def inverse_none(order):
    return np.array(list(order))


def inverse_reversed(order):
    return np.array([order[-1 - t] for t in range(len(order))])


def inverse_twice(order):
    return np.array([order[pixel] for pixel in order])


def inverse_counted(order):
    return np.arange(len(order))


def inverse_from_one(order):
    return np.array([list(order).index(pixel) + 1 for pixel in range(len(order))])


def inverse_backwards(order):
    steps = inverse_loop(order)
    return steps.max() - steps


def inverse_floats(order):
    steps = np.zeros(len(order))
    for step, pixel in enumerate(order):
        steps[pixel] = step
    return steps


# flatten.serpentine


def serpentine_loop(height, width, back=lambda r: r % 2 == 1, rows=range):
    order = []
    for r in rows(height):
        columns = range(width - 1, -1, -1) if back(r) else range(width)
        order += [r * width + c for c in columns]
    return np.array(order)


def serpentine_rows(height, width):
    grid = np.arange(height * width).reshape(height, width)
    return np.concatenate([row[::-1] if r & 1 else row for r, row in enumerate(grid)])


def serpentine_formula(height, width):
    r, c = np.divmod(np.arange(height * width), width)
    return r * width + np.where(r % 2, width - 1 - c, c)


def serpentine_columns(height, width):
    order = []
    for c in range(width):
        down = range(height) if c % 2 == 0 else reversed(range(height))
        order += [r * width + c for r in down]
    return np.array(order)


def serpentine_below(height, width):
    turned = np.stack([row[::-1] if r % 2 else row for r, row in enumerate(_grid(height, width))])
    return np.flipud(turned).flatten()


def _grid(height, width):
    return np.arange(height * width).reshape(height, width)


def serpentine_from_end(height, width):
    return serpentine_formula(height, width)[::-1]


def serpentine_stride(height, width):
    r, c = np.divmod(np.arange(height * width), width)
    return r * height + np.where(r % 2, width - 1 - c, c)


def serpentine_grid(height, width):
    return serpentine_formula(height, width).reshape(height, width)


# flatten.zorder


def _letters(number, length):
    return format(number, "b").zfill(length)


def zorder_text(height, width, weave=lambda r, c: "".join(a + b for a, b in zip(r, c, strict=True)), length=8):
    """Weave the bits as text; `weave(r, c)` joins two numbers of `length` binary digits."""

    def key(cell):
        r, c = divmod(cell, width)
        return weave(_letters(r, length), _letters(c, length))

    return np.array(sorted(range(height * width), key=key))


def zorder_quarters(height, width):
    def quarter(r, c, side):
        if r >= height or c >= width:
            return []
        if side == 1:
            return [r * width + c]
        half = side // 2
        return [cell for i in (0, half) for j in (0, half) for cell in quarter(r + i, c + j, half)]

    return np.array(quarter(0, 0, 2 ** (max(height, width) - 1).bit_length()))


def zorder_numbers(height, width):
    rows, columns = np.divmod(np.arange(height * width), width)
    code = sum(((columns >> b) % 2) * 4**b + ((rows >> b) % 2) * 2 * 4**b for b in range(10))
    return code.argsort(kind="stable")


def zorder_codes(height, width):
    rows, columns = np.divmod(np.arange(height * width), width)
    return sum(((columns >> b) % 2) * 4**b + ((rows >> b) % 2) * 2 * 4**b for b in range(10))


def zorder_steps(height, width):
    order = list(zorder_quarters(height, width))
    return np.array([order.index(cell) for cell in range(len(order))])


def zorder_columns(height, width):
    return np.array([r * width + c for c in range(width) for r in range(height)])


def zorder_windows(height, width):
    cells = [(r // 2, c // 2, r % 2, c % 2, r * width + c) for r in range(height) for c in range(width)]
    # The lowest bits are woven, the rest sorts by row, then column.
    return np.array([cell[-1] for cell in sorted(cells)])


def zorder_shorter(height, width):
    bits = min(height, width).bit_length()

    def code(cell):
        r, c = divmod(cell, width)
        return sum((((r >> b) & 1) * 2 + ((c >> b) & 1)) << (2 * b) for b in range(bits))

    return np.array(sorted(range(height * width), key=code))


def zorder_down(height, width):
    return np.flip(zorder_quarters(height, width))


# flatten.memory_map


def memory_run(order, height, width, step, decay):
    weights = np.zeros(height * width)
    for t in range(step + 1):
        weights *= decay
        weights[order[t]] += 1
    return weights.reshape(height, width)


def memory_cells(order, height, width, step, decay, *, weigh=None):
    """Fill cell by cell; `weigh(read, step, decay)` is the weight of a pixel that is read at step `read`."""
    weigh = weigh or (lambda read, step, decay: decay ** (step - read) if read <= step else 0.0)
    found = np.zeros((height, width))
    for read, pixel in enumerate(order):
        found[pixel // width, pixel % width] = weigh(read, step, decay)
    return found


def memory_slice(order, height, width, step, decay):
    found = np.zeros(height * width)
    found[order[: step + 1]] = decay ** np.arange(step, -1, -1.0)
    return found.reshape(height, width)


def memory_by_order(order, height, width, step, decay):
    ages = [step - entry for entry in order]
    return np.array([decay**age if age >= 0 else 0.0 for age in ages]).reshape(height, width)


def memory_raster(order, height, width, step, decay):
    return memory_cells(np.arange(height * width), height, width, step, decay)


def memory_last(order, height, width, step, decay):
    return memory_run(order, height, width, height * width - 1, decay)


def memory_row(order, height, width, step, decay):
    return memory_slice(order, height, width, step, decay).flatten()


# flatten.cross_scan


def scan_index(x, paths):
    height, width = x.shape[1:3]
    grid = torch.arange(height * width).reshape(height, width)
    orders = [grid.ravel(), grid.T.ravel()][: 2 if paths == "cross" else 1]
    orders += [order.flip(0) for order in orders]
    return x.reshape(x.shape[0], -1, x.shape[3])[:, torch.stack(orders, 1)]


def scan_loop(x, paths, *, columns=True, order=None):
    height, width = x.shape[1:3]
    rows = [x[:, r, c] for r in range(height) for c in range(width)]
    down = [x[:, r, c] for c in range(width) for r in range(height)] if columns else rows
    several = [rows, down, rows[::-1], down[::-1]] if paths == "cross" else [rows, rows[::-1]]
    if order and paths == "cross":
        several = [several[k] for k in order]
    return torch.stack([torch.stack(path, 1) for path in several], 2)


def scan_double(x, paths):
    return scan_loop(x.double(), paths)


def scan_one_way(x, paths):
    several = scan_loop(x, paths)
    half = several[:, :, : several.shape[2] // 2]
    return torch.cat([half, half], 2)


def scan_half(x, paths):
    several = scan_loop(x, paths)
    return several[:, :, : several.shape[2] // 2]


def scan_mirror(x, paths):
    def lines(picture):
        return picture.reshape(x.shape[0], -1, x.shape[3])

    rows, columns = x, x.permute(0, 2, 1, 3)
    pictures = [rows, columns] if paths == "cross" else [rows]
    return torch.stack([*map(lines, pictures), *(lines(torch.flip(p, [2])) for p in pictures)], 2)


def scan_turned(x, paths):
    if paths != "cross":
        return scan_loop(x, paths)
    right = scan_loop(x, paths)
    columns = torch.rot90(x, 1, (1, 2)).flatten(1, 2)  # begins with the last column
    return torch.stack([right[:, :, 0], columns, right[:, :, 2], columns.flip(1)], 2)


def scan_channels(x, paths):
    half = scan_half(x, paths)
    return torch.cat([half, half.flip(-1)], 2)


def scan_paths_first(x, paths):
    return torch.stack(scan_loop(x, paths).unbind(2), 1)


def scan_paths_last(x, paths):
    return torch.stack(scan_loop(x, paths).unbind(2), 3)


def scan_joined(x, paths):
    return torch.cat(scan_loop(x, paths).unbind(2), -1)


# flatten.merge


def merge_loop(y, paths, size, place=lambda picture, pixel, value: picture[:, pixel].add_(value)):
    picture = torch.zeros(y.shape[0], y.shape[1], y.shape[3], dtype=y.dtype)
    for k, path in enumerate(paths):
        for step, pixel in enumerate(path):
            place(picture, int(pixel), y[:, step, k])
    return picture.reshape(y.shape[0], *size, y.shape[3])


def merge_scatter(y, paths, size):
    picture = torch.zeros_like(y[:, :, 0])
    for k, path in enumerate(paths):
        picture = picture.index_add(1, torch.tensor([int(p) for p in path]), y[:, :, k])
    return picture.unflatten(1, size)


def merge_matrix(y, paths, size):
    visits = torch.stack([torch.eye(y.shape[1], dtype=y.dtype)[torch.as_tensor(p)] for p in paths], 1)  # [L, K, pixel]
    return torch.einsum("blkc,lkp->bpc", y, visits).unflatten(1, size)


def merge_steps(y, paths, size):
    return sum(y[:, :, k] for k in range(y.shape[2])).reshape(y.shape[0], *size, -1)


def merge_forward(y, paths, size):
    total = sum(y[:, torch.tensor(list(map(int, path))), k] for k, path in enumerate(paths))
    return total.reshape(y.shape[0], *size, -1)


def merge_mean(y, paths, size):
    return merge_loop(y, paths, size) / len(paths)


def merge_overwrite(y, paths, size):
    return merge_loop(y, paths, size, lambda picture, pixel, value: picture[:, pixel].copy_(value))


def merge_first(y, paths, size):
    return merge_loop(y[:, :, :1], paths[:1], size)


def merge_same(y, paths, size):
    return merge_scatter(y, [paths[0]] * len(paths), size)


def merge_transposed(y, paths, size):
    return merge_scatter(y, paths, (size[1], size[0]))


def merge_apart(y, paths, size):
    return torch.stack([merge_loop(y[:, :, k : k + 1], [path], size) for k, path in enumerate(paths)], 3)


def merge_sequence(y, paths, size):
    return merge_loop(y, paths, size).flatten(1, 2)


RIGHT = {
    "flatten.inverse": [inverse_loop, inverse_search, inverse_sorted, inverse_matrix],
    "flatten.serpentine": [serpentine_loop, serpentine_rows, serpentine_formula],
    "flatten.zorder": [zorder_text, zorder_quarters, zorder_numbers],
    "flatten.memory_map": [memory_run, memory_cells, memory_slice],
    "flatten.cross_scan": [scan_index, scan_loop, scan_double],
    "flatten.merge": [merge_loop, merge_scatter, merge_matrix],
}

WRONG = {
    "flatten.inverse": {
        "order_itself": inverse_none,
        "read_backwards": inverse_reversed,
        "applied_twice": inverse_twice,
        "sorted": inverse_counted,
        "from_one": inverse_from_one,
        "from_the_end": inverse_backwards,
        "fractions": inverse_floats,
    },
    "flatten.serpentine": {
        "raster": _with(serpentine_loop, back=lambda r: False),
        "even_rows": _with(serpentine_loop, back=lambda r: r % 2 == 0),
        "every_row": _with(serpentine_loop, back=lambda r: True),
        "by_columns": serpentine_columns,
        "from_below": serpentine_below,
        "backwards": serpentine_from_end,
        "wrong_stride": serpentine_stride,
        "still_a_grid": serpentine_grid,
    },
    "flatten.zorder": {
        "row_bit_lowest": _with(zorder_text, weave=lambda r, c: "".join(b + a for a, b in zip(r, c, strict=True))),
        "numbers_themselves": zorder_codes,
        "steps_of_pixels": zorder_steps,
        "one_after_the_other": zorder_columns,
        "low_bits_alone": zorder_windows,
        "shorter_side": zorder_shorter,
        "descending": zorder_down,
    },
    "flatten.memory_map": {
        "order_for_steps": memory_by_order,
        "grid_for_sequence": memory_raster,
        "future_remembered": _with(memory_cells, weigh=lambda read, step, decay: decay ** abs(step - read)),
        "future_grows": _with(memory_cells, weigh=lambda read, step, decay: decay ** (step - read)),
        "one_step_too_old": _with(
            memory_cells, weigh=lambda read, step, decay: decay ** (step - read + 1) * (read <= step)
        ),
        "own_pixel_lost": _with(memory_cells, weigh=lambda read, step, decay: decay ** (step - read) * (read < step)),
        "counted_from_the_end": memory_last,
        "no_decay": _with(memory_cells, weigh=lambda read, step, decay: float(read <= step)),
        "product": _with(memory_cells, weigh=lambda read, step, decay: decay * max(step - read, 0)),
        "still_a_sequence": memory_row,
    },
    "flatten.cross_scan": {
        "pairs": _with(scan_loop, order=(0, 2, 1, 3)),
        "never_backwards": scan_one_way,
        "forward_alone": scan_half,
        "no_columns": _with(scan_loop, columns=False),
        "mirrored": scan_mirror,
        "last_column_first": scan_turned,
        "channels_turned": scan_channels,
        "paths_before_steps": scan_paths_first,
        "channels_before_paths": scan_paths_last,
        "one_row_of_channels": scan_joined,
    },
    "flatten.merge": {
        "not_put_back": merge_steps,
        "order_for_inverse": merge_forward,
        "mean": merge_mean,
        "last_path_alone": merge_overwrite,
        "first_path_alone": merge_first,
        "one_order_for_all": merge_same,
        "width_first": merge_transposed,
        "not_added": merge_apart,
        "still_a_sequence": merge_sequence,
    },
}
