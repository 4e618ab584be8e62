"""Right and wrong answers to the exercises of lesson 07, written as learners write them.

RIGHT: by exercise, answers that must be accepted, each written another way. WRONG: by exercise and
by the diagnosis that it must get. They share no code with the catalogue's diagnoses.
"""

import math

import numpy as np
import torch

# zoo.token_grid


def grid_ranges(height, width, patch_size, stride):
    return len(range(0, height - patch_size + 1, stride)), len(range(0, width - patch_size + 1, stride))


def grid_divmod(height, width, patch_size, stride):
    rows, _ = divmod(height - patch_size + stride, stride)
    columns, _ = divmod(width - patch_size + stride, stride)
    return [rows, columns]


def grid_by_torch(height, width, patch_size, stride):
    return tuple(torch.zeros(height, width).unfold(0, patch_size, stride).unfold(1, patch_size, stride).shape[:2])


def grid_tiles(height, width, patch_size, stride):
    return int(height / patch_size), int(width / patch_size)


def grid_steps(height, width, patch_size, stride):
    return int((height - patch_size) / stride), int((width - patch_size) / stride)


def grid_strides(height, width, patch_size, stride):
    return len(range(0, height - stride + 1, stride)), len(range(0, width - stride + 1, stride))


def grid_ceiling(height, width, patch_size, stride):
    return math.ceil((height - patch_size) / stride) + 1, math.ceil((width - patch_size) / stride) + 1


def grid_true_division(height, width, patch_size, stride):
    return 1 + (height - patch_size) / stride, 1 + (width - patch_size) / stride


def grid_turned(height, width, patch_size, stride):
    return 1 + (width - patch_size) // stride, 1 + (height - patch_size) // stride


def grid_count(height, width, patch_size, stride):
    return (1 + (height - patch_size) // stride) * (1 + (width - patch_size) // stride)


# zoo.attention


def attention_factored(tokens, dim, seen=None):
    return 2 * tokens * dim * (2 * dim + (seen or tokens))


def attention_loop(tokens, dim, seen=None):
    total = 0
    for _ in range(tokens):
        total += 4 * dim**2
        total += sum(dim for _ in range(2)) * (tokens if seen is None else seen)
    return total


def attention_doubled(tokens, dim, seen=None):
    return 2 * attention_factored(tokens, dim, seen)


def attention_scores_only(tokens, dim, seen=None):
    return 4 * tokens * dim**2 + tokens * (seen or tokens) * dim


def attention_products_only(tokens, dim, seen=None):
    return tokens * (seen or tokens) * dim * 2


def attention_global(tokens, dim, seen=None):
    return 4 * tokens * dim**2 + 2 * dim * tokens**2


def attention_of_one(tokens, dim, seen=None):
    return 4 * tokens * dim**2 + (seen or tokens) * 2 * dim


def attention_pairs(tokens, dim, seen=None):
    return 4 * tokens * dim**2 + 2 * tokens * (seen or tokens)


def attention_wide_pairs(tokens, dim, seen=None):
    return dim**2 * (4 * tokens + 2 * tokens * (seen or tokens))


# zoo.ss2d


def ss2d_by_layers(height, width, dim, d_state, expand, gate, paths):
    d, rank = int(expand * dim), -(-dim // 16)
    position = {
        "in_proj": dim * (2 * d if gate else d),
        "conv2d": 3 * 3 * d,
        "x_proj": paths * d * (rank + 2 * d_state),
        "dt_proj": paths * rank * d,
        "scan": paths * d * 9 * d_state,
        "skip": paths * d,
        "out_proj": d * dim,
    }
    return height * width * sum(position.values())


def ss2d_path_by_path(height, width, dim, d_state, expand, gate, paths):
    d, rank = int(expand * dim), (dim + 15) // 16
    total = dim * d + 9 * d + d * dim + (dim * d if gate else 0)
    for _ in range(paths):
        total += d * (2 * rank + 11 * d_state + 1)
    return total * height * width


def _ss2d(height, width, dim, d, rank, d_state, in_channels, scans, selections, ranks=2, skip=1, conv=None):
    conv = 9 * d if conv is None else conv
    ends = dim * in_channels + dim * d
    return height * width * (ends + conv + selections * d * (ranks * rank + 2 * d_state) + scans * (9 * d_state + skip))


def ss2d_single_scan(h, w, dim, n, expand, gate, paths):
    d = int(expand * dim)
    return _ss2d(h, w, dim, d, -(-dim // 16), n, d * (1 + gate), d, paths)


def ss2d_single_selection(h, w, dim, n, expand, gate, paths):
    d = int(expand * dim)
    return _ss2d(h, w, dim, d, -(-dim // 16), n, d * (1 + gate), paths * d, 1)


def ss2d_no_dt(h, w, dim, n, expand, gate, paths):
    d = int(expand * dim)
    return _ss2d(h, w, dim, d, -(-dim // 16), n, d * (1 + gate), paths * d, paths, ranks=1)


def ss2d_ungated(h, w, dim, n, expand, gate, paths):
    d = int(expand * dim)
    return _ss2d(h, w, dim, d, -(-dim // 16), n, d, paths * d, paths)


def ss2d_gated(h, w, dim, n, expand, gate, paths):
    d = int(expand * dim)
    return _ss2d(h, w, dim, d, -(-dim // 16), n, 2 * d, paths * d, paths)


def ss2d_not_expanded(h, w, dim, n, expand, gate, paths):
    d = int(expand * dim)
    return _ss2d(h, w, dim, d, -(-dim // 16), n, d * (1 + gate), paths * dim, paths, conv=9 * dim)


def ss2d_no_positions(h, w, dim, n, expand, gate, paths):
    return ss2d_by_layers(1, 1, dim, n, expand, gate, paths)


def ss2d_rank_floor(h, w, dim, n, expand, gate, paths):
    d = int(expand * dim)
    return _ss2d(h, w, dim, d, dim // 16, n, d * (1 + gate), paths * d, paths)


def ss2d_rank_true_division(h, w, dim, n, expand, gate, paths):
    d = int(expand * dim)
    return _ss2d(h, w, dim, d, dim / 16, n, d * (1 + gate), paths * d, paths)


def ss2d_skipless(h, w, dim, n, expand, gate, paths):
    d = int(expand * dim)
    return _ss2d(h, w, dim, d, -(-dim // 16), n, d * (1 + gate), paths * d, paths, skip=0)


def ss2d_full_convolution(h, w, dim, n, expand, gate, paths):
    d = int(expand * dim)
    return _ss2d(h, w, dim, d, -(-dim // 16), n, d * (1 + gate), paths * d, paths, conv=9 * d * d)


# zoo.first_difference


def difference_next(once, again):
    return next((name for name, a in once.items() if bool((a != again[name]).any())), None)


def difference_numpy(once, again):
    for name in once:
        if not np.array_equal(once[name].numpy(), again[name].numpy()):
            return name
    return None


def difference_last(once, again):
    found = None
    for name in once:
        if not torch.equal(once[name], again[name]):
            found = name
    return found


def difference_list(once, again):
    return [name for name in once if (once[name] != again[name]).any()]


def difference_allclose(once, again):
    for name in once:
        if not torch.allclose(once[name], again[name], rtol=1e-5, atol=1e-8):
            return name
    return None


def difference_sums(once, again):
    for name in once:
        if not math.isclose(once[name].double().sum(), again[name].double().sum(), abs_tol=1e-5):
            return name
    return None


def difference_in_order_of_again(once, again):
    for name in again:
        if (once[name] != again[name]).any():
            return name
    return None


def difference_equal(once, again):
    for name in once:
        if torch.equal(once[name], again[name]):
            return name
    return None


def difference_bool(once, again):
    return any((once[name] != again[name]).any().item() for name in once)


# zoo.half_area


def area_searchsorted(field, share=0.5):
    total = np.cumsum(np.sort(field.ravel())[::-1])
    return np.searchsorted(total, share * total[-1] * (1 - 1e-9)) + 1


def area_loop(field, share=0.5):
    held, count, wanted = 0.0, 0, share * field.sum()
    for value in sorted(field.ravel().tolist(), reverse=True):
        if held >= wanted * (1 - 1e-9):
            break
        held += value
        count += 1
    return count


def area_above(field, share=0.5):
    return int(np.count_nonzero(field >= field.max() * share))


def area_ascending(field, share=0.5):
    total = np.sort(field, axis=None).cumsum()
    return int(np.argmax(total >= share * total[-1] * (1 - 1e-12))) + 1


def area_unsorted(field, share=0.5):
    total = field.cumsum()
    return int(np.argmax(total >= share * total[-1] * (1 - 1e-12))) + 1


def area_half(field, share=0.5):
    return area_loop(field, 0.5)


def area_from_zero(field, share=0.5):
    return area_loop(field, share) - 1


def area_beyond(field, share=0.5):
    return area_loop(field, share) + 1


def area_fraction(field, share=0.5):
    return area_loop(field, share) / (field.shape[0] * field.shape[1])


def area_of_pixels(field, share=0.5):
    return int(field.shape[0] * field.shape[1] * share)


# zoo.frontier


def frontier_numpy(costs, scores):
    c, s = np.array(costs), np.array(scores)
    no_worse = (c[:, None] <= c) & (s[:, None] >= s)
    better = (c[:, None] < c) | (s[:, None] > s)
    return np.flatnonzero(~(no_worse & better).any(axis=0)).tolist()


def frontier_sweep(costs, scores):
    kept, best = [], -math.inf
    for cost in sorted(set(costs)):
        top = max(s for c, s in zip(costs, scores, strict=True) if c == cost)
        if top > best:
            kept += [i for i, pair in enumerate(zip(costs, scores, strict=True)) if pair == (cost, top)]
            best = top
    return sorted(kept)


def frontier_strict(costs, scores):
    c, s = np.array(costs), np.array(scores)
    return np.flatnonzero(~((c[:, None] < c) & (s[:, None] > s)).any(axis=0)).tolist()


def frontier_no_twins(costs, scores):
    c, s = np.array(costs), np.array(scores)
    beaten = (c[:, None] <= c) & (s[:, None] >= s) & ~np.eye(len(c), dtype=bool)
    return np.flatnonzero(~beaten.any(axis=0)).tolist()


def frontier_losers(costs, scores):
    return [i for i in range(len(costs)) if i not in frontier_numpy(costs, scores)]


def frontier_in_order_of_cost(costs, scores):
    return sorted(frontier_numpy(costs, scores), key=lambda i: costs[i])


def frontier_ranks(costs, scores):
    return [1 + i for i in frontier_numpy(costs, scores)]


def frontier_winner(costs, scores):
    return [max(range(len(scores)), key=lambda i: scores[i])]


def frontier_expensive(costs, scores):
    return frontier_numpy([-cost for cost in costs], scores)


def frontier_values(costs, scores):
    return [(costs[i], scores[i]) for i in frontier_numpy(costs, scores)]


RIGHT = {
    "zoo.token_grid": [grid_ranges, grid_divmod, grid_by_torch],
    "zoo.attention": [attention_factored, attention_loop],
    "zoo.ss2d": [ss2d_by_layers, ss2d_path_by_path],
    "zoo.first_difference": [difference_next, difference_numpy],
    "zoo.half_area": [area_searchsorted, area_loop],
    "zoo.frontier": [frontier_numpy, frontier_sweep],
}

WRONG = {
    "zoo.token_grid": {
        "side_by_side": grid_tiles,
        "one_too_few": grid_steps,
        "sticks_out": grid_strides,
        "rounded_up": grid_ceiling,
        "fractions": grid_true_division,
        "width_first": grid_turned,
        "product": grid_count,
    },
    "zoo.attention": {
        "flops": attention_doubled,
        "one_product": attention_scores_only,
        "no_layers": attention_products_only,
        "always_all": attention_global,
        "one_token": attention_of_one,
        "no_channels": attention_pairs,
        "channels_squared": attention_wide_pairs,
    },
    "zoo.ss2d": {
        "scan_once": ss2d_single_scan,
        "selection_once": ss2d_single_selection,
        "no_steps": ss2d_no_dt,
        "no_gate": ss2d_ungated,
        "always_gate": ss2d_gated,
        "narrow": ss2d_not_expanded,
        "one_position": ss2d_no_positions,
        "rank_cut_off": ss2d_rank_floor,
        "rank_fraction": ss2d_rank_true_division,
        "no_skip": ss2d_skipless,
        "dense_convolution": ss2d_full_convolution,
    },
    "zoo.first_difference": {
        "last": difference_last,
        "all_names": difference_list,
        "nearly_equal": difference_allclose,
        "sums": difference_sums,
        "order_of_again": difference_in_order_of_again,
        "first_equal": difference_equal,
        "yes_or_no": difference_bool,
    },
    "zoo.half_area": {
        "of_the_largest": area_above,
        "weakest_first": area_ascending,
        "reading_order": area_unsorted,
        "always_half": area_half,
        "one_too_few": area_from_zero,
        "one_too_many": area_beyond,
        "share_of_the_image": area_fraction,
        "share_of_the_pixels": area_of_pixels,
    },
    "zoo.frontier": {
        "better_in_both": frontier_strict,
        "twins_lost": frontier_no_twins,
        "dominated": frontier_losers,
        "by_cost": frontier_in_order_of_cost,
        "from_one": frontier_ranks,
        "best_alone": frontier_winner,
        "dear_is_good": frontier_expensive,
        "values": frontier_values,
    },
}
