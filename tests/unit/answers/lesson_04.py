"""Right and wrong answers to the exercises of lesson 04, written as learners write them.

RIGHT: by exercise, answers that must be accepted, each written another way. WRONG: by exercise and
by the diagnosis that it must get. They share no code with the catalogue's diagnoses.
"""

import functools
import statistics

import numpy as np
import torch


def _with(function, **changed):
    return functools.wraps(function)(lambda *args, **kwargs: function(*args, **kwargs, **changed))


# causality.mask


def mask_loop(order, sees=lambda own, other: other <= own):
    length = len(order)
    read = {int(token): step for step, token in enumerate(order)}
    return np.array([[sees(read[t], read[s]) for s in range(length)] for t in range(length)])


def mask_fill(order):
    mask = np.zeros((len(order), len(order)), dtype=bool)
    for step, token in enumerate(order):
        mask[token, order[: step + 1]] = True
    return mask


def mask_permuted(order):
    steps = np.argsort(order)
    return np.tri(len(order), dtype=bool)[np.ix_(steps, steps)]


def mask_tril(order):
    return np.tril(np.ones((len(order), len(order)))) > 0


def mask_tokens(order):
    return np.array([[order[s] <= order[t] for s in range(len(order))] for t in range(len(order))])


def mask_rows_by_step(order):
    return np.stack([mask_fill(order)[token] for token in order])


# causality.visible_pairs


def pairs_loop(length, causal=False, window=None):
    return sum(len(_seen(t, length, causal, window)) for t in range(length))


def _seen(t, length, causal, window):
    reach = length if window is None else window
    return range(max(0, t - reach), (t if causal else min(length - 1, t + reach)) + 1)


def pairs_distance(length, causal=False, window=None):
    farthest = min(length - 1, length if window is None else window)
    behind = sum(length - apart for apart in range(1, farthest + 1))
    return length + behind * (1 if causal else 2)


def pairs_mask(length, causal=False, window=None):
    t, s = np.indices((length, length))
    mask = np.ones((length, length), dtype=bool)
    if causal:
        mask &= s <= t
    if window is not None:
        mask &= abs(t - s) <= window
    return int(mask.sum())


def pairs_half(length, causal=False, window=None):
    return pairs_loop(length, False, window) // (2 if causal else 1)


def pairs_others(length, causal=False, window=None):
    return pairs_loop(length, causal, window) - length


def pairs_open(length, causal=False, window=None):
    return pairs_loop(length, False, window)


def pairs_no_window(length, causal=False, window=None):
    return length * (length + 1) // 2 if causal else length**2


def pairs_no_ends(length, causal=False, window=None):
    if window is None:
        return pairs_no_window(length, causal)
    return length * (1 + window * (1 if causal else 2))


def pairs_narrow(length, causal=False, window=None):
    return pairs_loop(length, causal, None if window is None else max(0, -(-window // 2) - 1))


def pairs_short(length, causal=False, window=None):
    return pairs_loop(length, causal, None if window is None else max(window - 1, 0))


# causality.visible


def visible_loop(mixer, x, moved=lambda before, after: bool((before != after).any()), keep=False):
    length = x.shape[1]
    table = torch.zeros(length, length, dtype=torch.bool)
    calm, nudged = mixer(x), x.clone()
    for s in range(length):
        nudged = nudged if keep else x.clone()
        nudged[0, s] = nudged[0, s] + 1
        after = mixer(nudged)
        for t in range(length):
            table[t, s] = moved(calm[0, t], after[0, t])
    return table


def visible_batch(mixer, x):
    length, channels = x.shape[1:]
    changes = torch.eye(length, dtype=x.dtype)[:, :, None].expand(-1, -1, channels)
    return ((mixer(x + changes) - mixer(x)).abs().amax(-1) > 0).T


def visible_numpy(mixer, x):
    rows = []
    for s in range(x.shape[1]):
        step = torch.zeros_like(x)
        step[:, s] = 1
        rows.append(((mixer(x + step) - mixer(x)) ** 2).sum(-1)[0].numpy())
    return torch.from_numpy(np.array(rows).T > 0)


def visible_by_input(mixer, x):
    return visible_batch(mixer, x).T.contiguous()


def visible_amount(mixer, x):
    columns = []
    for s in range(x.shape[1]):
        step = torch.zeros_like(x)
        step[:, s] = 1
        columns.append((mixer(x + step) - mixer(x))[0].abs().sum(1))
    return torch.stack(columns, 1)


def visible_calm(mixer, x):
    return torch.logical_not(visible_loop(mixer, x))


def visible_others(mixer, x):
    table = visible_loop(mixer, x)
    table.fill_diagonal_(False)
    return table


# causality.two_way_matrix


def matrix_loop(ahead, back, own=True, scale=1.0):
    length = ahead.shape[-1]
    M = torch.zeros(*ahead.shape, length, dtype=ahead.dtype)
    for t in range(length):
        for s in range(length):
            if s <= t:
                M[..., t, s] += ahead[..., s + 1 : t + 1].sum(-1).exp()
            if s > t or (s == t and own):
                M[..., t, s] += back[..., t:s].sum(-1).exp()
    return M * scale


def _scan_matrix(a):
    """Run the recurrence on the columns of the unit matrix."""
    length = a.shape[-1]
    h = torch.zeros(*a.shape[:-1], length, dtype=a.dtype)
    rows = []
    for t in range(length):
        h = a[..., t, None].exp() * h + torch.eye(length, dtype=a.dtype)[t]
        rows.append(h)
    return torch.stack(rows, -2)


def matrix_scan(ahead, back):
    return _scan_matrix(ahead) + torch.flip(_scan_matrix(torch.flip(back, [-1])), [-1, -2])


def matrix_double(ahead, back):
    return matrix_loop(ahead.double(), back.double())


def matrix_ahead(ahead, back):
    return _scan_matrix(ahead)


def matrix_mirror(ahead, back):
    return _scan_matrix(ahead) + _scan_matrix(back).transpose(-1, -2)


def matrix_left_turned(ahead, back):
    return _scan_matrix(ahead) + _scan_matrix(torch.flip(back, [-1]))


def matrix_plain(ahead, back):
    return _scan_matrix(ahead) + _scan_matrix(back)


def matrix_turned_only(ahead, back):
    return _scan_matrix(ahead) + torch.flip(_scan_matrix(back), [-1, -2])


def matrix_same(ahead, back):
    return matrix_loop(ahead, ahead)


# causality.both_ways


def both_index(ahead, back, x):
    turned = torch.arange(x.shape[1] - 1, -1, -1)
    return ahead(x) + back(x[:, turned])[:, turned]


def both_stacked(ahead, back, x):
    forward = ahead(x)
    backward = torch.stack(back(torch.stack(x.unbind(1)[::-1], 1)).unbind(1)[::-1], 1)
    return torch.stack([forward, backward]).sum(0)


def both_float(ahead, back, x):
    return torch.add(torch.flip(back(torch.flip(x, dims=[1])), dims=[1]), ahead(x))


def both_unturned(ahead, back, x):
    return sum((ahead(x), back(torch.flip(x, [1]))))


def both_plain(ahead, back, x):
    return sum(mixer(x) for mixer in (ahead, back))


def both_late(ahead, back, x):
    return torch.flip(back(x), [1]) + ahead(x)


def both_chain(ahead, back, x):
    h = torch.flip(ahead(x), [1])
    return torch.flip(back(h), [1])


def both_ahead(ahead, back, x):
    return both_index(ahead, ahead, x)


def both_mean(ahead, back, x):
    return both_index(ahead, back, x).mul(0.5)


def both_swapped(ahead, back, x):
    return both_index(back, ahead, x)


# causality.paired_interval


def interval_statistics(first, second, quantile, spread=statistics.stdev, root=lambda n: n**0.5):
    d = [a - b for a, b in zip(first, second, strict=True)]
    mean = statistics.mean(d)
    half = quantile * spread(d) / root(len(d))
    return mean, mean - half, mean + half


def interval_numpy(first, second, quantile):
    d = np.array(first) - np.array(second)
    half = quantile * np.sqrt(np.sum((d - d.mean()) ** 2) / (len(d) - 1) / len(d))
    return float(d.mean()), float(d.mean() - half), float(d.mean() + half)


def interval_torch(first, second, quantile):
    d = torch.tensor(first, dtype=torch.float64) - torch.tensor(second, dtype=torch.float64)
    half = quantile * d.std().item() / len(d) ** 0.5
    return d.mean().item(), d.mean().item() - half, d.mean().item() + half


def interval_unpaired(first, second, quantile):
    mean = statistics.mean(first) - statistics.mean(second)
    half = quantile * ((statistics.variance(first) + statistics.variance(second)) / len(first)) ** 0.5
    return mean, mean - half, mean + half


def interval_normal(first, second, quantile):
    return interval_numpy(first, second, 1.96)


def interval_error(first, second, quantile):
    return interval_numpy(first, second, 1)


def interval_turned(first, second, quantile):
    return interval_numpy(second, first, quantile)


RIGHT = {
    "causality.mask": [mask_loop, mask_fill, mask_permuted],
    "causality.visible_pairs": [pairs_loop, pairs_distance, pairs_mask],
    "causality.visible": [visible_loop, visible_batch, visible_numpy],
    "causality.two_way_matrix": [matrix_loop, matrix_scan, matrix_double],
    "causality.both_ways": [both_index, both_stacked, both_float],
    "causality.paired_interval": [interval_statistics, interval_numpy, interval_torch],
}

WRONG = {
    "causality.mask": {
        "order_ignored": mask_tril,
        "order_for_steps": mask_tokens,
        "transposed": _with(mask_loop, sees=lambda own, other: other >= own),
        "itself_hidden": _with(mask_loop, sees=lambda own, other: other < own),
        "future_alone": _with(mask_loop, sees=lambda own, other: other > own),
        "numbered_by_step": mask_rows_by_step,
        "everything": _with(mask_loop, sees=lambda own, other: True),
    },
    "causality.visible_pairs": {
        "half_of_all": pairs_half,
        "itself_left_out": pairs_others,
        "causal_ignored": pairs_open,
        "window_ignored": pairs_no_window,
        "ends_forgotten": pairs_no_ends,
        "window_is_the_whole_width": pairs_narrow,
        "window_one_short": pairs_short,
    },
    "causality.visible": {
        "transposed": visible_by_input,
        "how_much": visible_amount,
        "first_channel": _with(visible_loop, moved=lambda before, after: bool(before[0] != after[0])),
        "all_channels": _with(visible_loop, moved=lambda before, after: bool((before != after).all())),
        "changes_pile_up": _with(visible_loop, keep=True),
        "untouched": visible_calm,
        "itself_left_out": visible_others,
    },
    "causality.two_way_matrix": {
        "one_way": matrix_ahead,
        "transposed_for_turned": matrix_mirror,
        "not_turned_back": matrix_left_turned,
        "never_turned": matrix_plain,
        "input_not_turned": matrix_turned_only,
        "own_place_once": _with(matrix_loop, own=False),
        "halved": _with(matrix_loop, scale=0.5),
        "one_decay_for_both": matrix_same,
    },
    "causality.both_ways": {
        "not_turned_back": both_unturned,
        "never_turned": both_plain,
        "turned_after_alone": both_late,
        "one_after_the_other": both_chain,
        "back_forgotten": both_ahead,
        "mean": both_mean,
        "ways_swapped": both_swapped,
    },
    "causality.paired_interval": {
        "not_paired": interval_unpaired,
        "divided_by_n": _with(interval_statistics, spread=statistics.pstdev),
        "spread_of_one": _with(interval_statistics, root=lambda n: 1),
        "root_forgotten": _with(interval_statistics, root=lambda n: n),
        "normal": interval_normal,
        "no_quantile": interval_error,
        "second_minus_first": interval_turned,
    },
}
