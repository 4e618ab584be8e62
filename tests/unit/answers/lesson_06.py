"""Right and wrong answers to the exercises of lesson 06, written as learners write them.

RIGHT: by exercise, answers that must be accepted, each written another way. WRONG: by exercise and
by the diagnosis that it must get. They share no code with the catalogue's diagnoses.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

# block.split


def split_torch(x, hidden, conv_channels):
    return torch.split(x, [hidden, hidden - conv_channels, conv_channels], dim=-1)


def split_slices(x, hidden, conv_channels):
    first, second = hidden, 2 * hidden - conv_channels
    return [x[..., :first], x[..., first:second], x[..., second:]]


def split_loop(x, hidden, conv_channels):
    parts, start = [], 0
    for size in (hidden, hidden - conv_channels, conv_channels):
        columns = [x[..., start + i] for i in range(size)]
        parts.append(torch.stack(columns, dim=-1) if columns else x[..., :0])
        start += size
    return tuple(parts)


def split_double(x, hidden, conv_channels):
    gate, value = x.double().chunk(2, dim=-1)
    return gate, value.narrow(-1, 0, hidden - conv_channels), value.narrow(-1, hidden - conv_channels, conv_channels)


def split_conv_second(x, hidden, conv_channels):
    gate, conv, identity = torch.split(x, [hidden, conv_channels, hidden - conv_channels], dim=-1)
    return gate, identity, conv


def split_named_wrongly(x, hidden, conv_channels):
    return torch.split(x, [hidden, conv_channels, hidden - conv_channels], dim=-1)


def split_returned_in_other_order(x, hidden, conv_channels):
    gate, identity, conv = torch.split(x, [hidden, hidden - conv_channels, conv_channels], dim=-1)
    return gate, conv, identity


def split_value_first(x, hidden, conv_channels):
    identity, conv, gate = torch.split(x, [hidden - conv_channels, conv_channels, hidden], dim=-1)
    return gate, identity, conv


def split_three(x, hidden, conv_channels):
    return torch.chunk(x, 3, -1)


def split_two(x, hidden, conv_channels):
    return x.chunk(2, dim=-1)


def split_whole_value(x, hidden, conv_channels):
    gate, value = x.chunk(2, dim=-1)
    return gate, value, value[..., hidden - conv_channels :]


def split_rows(x, hidden, conv_channels):
    return torch.split(x, [hidden, hidden - conv_channels, conv_channels], dim=1)


# block.gated_product


def product_direct(gate, identity, mixed, act):
    return torch.cat([identity, mixed], -1) * act(gate)


def product_in_parts(gate, identity, mixed, act):
    size = identity.shape[-1]
    gate = act(gate)
    return torch.concat((gate[..., :size] * identity, gate[..., size:] * mixed), dim=3)


def product_loop(gate, identity, mixed, act):
    out = torch.empty_like(gate)
    for c in range(gate.shape[-1]):
        value = identity[..., c] if c < identity.shape[-1] else mixed[..., c - identity.shape[-1]]
        out[..., c] = act(gate[..., c]) * value
    return out


def product_double(gate, identity, mixed, act):
    return torch.einsum("bhwc,bhwc->bhwc", act(gate.double()), torch.cat((identity, mixed), dim=-1).double())


def product_plain_gate(gate, identity, mixed, act):
    return torch.cat((identity, mixed), dim=-1) * gate


def product_act_value(gate, identity, mixed, act):
    value = act(torch.cat((identity, mixed), dim=-1))
    return gate * value


def product_act_both(gate, identity, mixed, act):
    return act(gate) * torch.cat((act(identity), act(mixed)), dim=-1)


def product_act_last(gate, identity, mixed, act):
    return act(torch.cat((identity, mixed), dim=-1) * gate)


def product_act_mixed(gate, identity, mixed, act):
    return act(gate) * torch.cat((identity, act(mixed)), dim=-1)


def product_wrong_order(gate, identity, mixed, act):
    return act(gate) * torch.cat((mixed, identity), dim=-1)


def product_sum(gate, identity, mixed, act):
    return torch.cat((identity, mixed), dim=-1).add(act(gate))


def product_lstm(gate, identity, mixed, act):
    return torch.sigmoid(gate) * torch.cat((identity, mixed), dim=-1)


def product_gelu(gate, identity, mixed, act):
    return torch.nn.GELU()(gate) * torch.cat((identity, mixed), dim=-1)


def product_value(gate, identity, mixed, act):
    return torch.cat((identity, mixed), dim=-1)


# model.stage_shapes


def stages_loop(height, width, dims, stem_stride=4):
    shapes = []
    height, width = math.ceil(height / stem_stride), math.ceil(width / stem_stride)
    for dim in dims:
        shapes.append((height, width, dim))
        height, width = (height + 1) // 2, (width + 1) // 2
    return shapes


def stages_closed_form(height, width, dims, stem_stride=4):
    return tuple([-(-height // (stem_stride << i)), -(-width // (stem_stride << i)), c] for i, c in enumerate(dims))


def stages_numpy(height, width, dims, stem_stride=4):
    strides = stem_stride * 2 ** np.arange(len(dims))
    sides = [np.ceil(side / strides).astype(int) for side in (height, width)]
    return [(h, w, c) for h, w, c in zip(*sides, dims, strict=True)]


def stages_by_convolution(height, width, dims, stem_stride=4):
    x, shapes = torch.zeros(1, 1, height, width), []
    window = torch.zeros(1, 1, 3, 3)
    for stride in [2] * int(math.log2(stem_stride)):
        x = F.conv2d(x, window, stride=stride, padding=1)
    for dim in dims:
        shapes.append(torch.Size((*x.shape[2:], dim)))
        x = F.conv2d(x, window, stride=2, padding=1)
    return shapes


def stages_floor(height, width, dims, stem_stride=4):
    return [(height // stem_stride // 2**i, width // stem_stride // 2**i, c) for i, c in enumerate(dims)]


def stages_unpadded(height, width, dims, stem_stride=4):
    shapes = []
    for _ in range(int(math.log2(stem_stride))):
        height, width = (height - 1) // 2, (width - 1) // 2
    for dim in dims:
        shapes.append((height, width, dim))
        height, width = (height - 1) // 2, (width - 1) // 2
    return shapes


def stages_division(height, width, dims, stem_stride=4):
    return [(height / stem_stride / 2**i, width / stem_stride / 2**i, c) for i, c in enumerate(dims)]


def stages_width_first(height, width, dims, stem_stride=4):
    return stages_loop(width, height, dims, stem_stride)


def stages_torch_order(height, width, dims, stem_stride=4):
    return [(c, h, w) for h, w, c in stages_loop(height, width, dims, stem_stride)]


def stages_without_stem(height, width, dims, stem_stride=4):
    return stages_loop(height, width, dims, 1)


def stages_fixed_stem(height, width, dims, stem_stride=4):
    return stages_loop(height, width, dims)


def stages_early(height, width, dims, stem_stride=4):
    return stages_loop(height, width, dims, 2 * stem_stride)


def stages_constant(height, width, dims, stem_stride=4):
    return [(math.ceil(height / stem_stride), math.ceil(width / stem_stride), c) for c in dims]


def stages_quarters(height, width, dims, stem_stride=4):
    return [
        (math.ceil(height / stem_stride / 4**i), math.ceil(width / stem_stride / 4**i), c) for i, c in enumerate(dims)
    ]


def stages_doubling(height, width, dims, stem_stride=4):
    shapes = stages_loop(height, width, dims, stem_stride)
    return [(h, w, dims[0] << i) for i, (h, w, _) in enumerate(shapes)]


# block.multiply_adds and block.parameters: (fc1, convolution, fc2) by formula, each with one thing wrong


def adds_formula(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    h, cc = int(dim * expansion_ratio), int(dim * conv_ratio)
    return height * width * (3 * dim * h + cc * kernel_size**2)


def adds_by_layer(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    hidden, conv = math.floor(expansion_ratio * dim), math.floor(conv_ratio * dim)
    linear, total = torch.nn.Linear(dim, 2 * hidden, device="meta"), 0
    for weight in (linear.weight, torch.empty(conv, 1, kernel_size, kernel_size), torch.empty(dim, hidden)):
        total += weight.numel()
    return np.int64(total * height * width)


def adds_loop(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    h, cc, total = int(expansion_ratio * dim), int(conv_ratio * dim), 0
    for _row in range(height):
        total += sum(dim * 2 * h + cc * kernel_size * kernel_size + h * dim for _column in range(width))
    return total


def _adds(height, width, dim, h, cc, k, *, fc1=2, square=True, dense=False, conv=True):
    window = (k * k if square else k) * cc * (cc if dense else 1)
    return height * width * (fc1 * dim * h + window * conv + h * dim)


def adds_doubled(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    return 2 * adds_formula(height, width, dim, expansion_ratio, conv_ratio, kernel_size)


def adds_single_branch(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    return _adds(height, width, dim, int(expansion_ratio * dim), int(conv_ratio * dim), kernel_size, fc1=1)


def adds_dense(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    return _adds(height, width, dim, int(expansion_ratio * dim), int(conv_ratio * dim), kernel_size, dense=True)


def adds_every_channel(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    return _adds(height, width, dim, int(expansion_ratio * dim), int(expansion_ratio * dim), kernel_size)


def adds_line_window(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    return _adds(height, width, dim, int(expansion_ratio * dim), int(conv_ratio * dim), kernel_size, square=False)


def adds_one_pixel(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    return adds_formula(1, 1, dim, expansion_ratio, conv_ratio, kernel_size)


def adds_linear_only(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    return _adds(height, width, dim, int(expansion_ratio * dim), int(conv_ratio * dim), kernel_size, conv=False)


def adds_with_biases(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    h, cc = int(expansion_ratio * dim), int(conv_ratio * dim)
    return adds_formula(height, width, dim, expansion_ratio, conv_ratio, kernel_size) + height * width * (
        2 * h + cc + dim
    )


def adds_fractional(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    return _adds(height, width, dim, dim * expansion_ratio, dim * conv_ratio, kernel_size)


def adds_rounded(height, width, dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    return _adds(height, width, dim, round(dim * expansion_ratio), round(dim * conv_ratio), kernel_size)


def parameters_formula(dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    h, cc = int(expansion_ratio * dim), int(conv_ratio * dim)
    return 3 * dim * (h + 1) + 2 * h + cc * (1 + kernel_size**2)


def parameters_modules(dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    hidden, conv = int(expansion_ratio * dim), int(conv_ratio * dim)
    layers = torch.nn.ModuleList(
        (
            torch.nn.LayerNorm(dim),
            torch.nn.Linear(dim, 2 * hidden),
            torch.nn.Conv2d(conv, conv, kernel_size, groups=conv),
            torch.nn.Linear(hidden, dim),
        )
    )
    return sum(p.numel() for p in layers.parameters())


def parameters_shapes(dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    h, cc = np.floor(expansion_ratio * dim).astype(int), np.floor(conv_ratio * dim).astype(int)
    shapes = [(2, dim), (2 * h, dim + 1), (cc, kernel_size**2 + 1), (dim, h + 1)]
    return torch.tensor([a * b for a, b in shapes]).sum()


def _parameters(d, h, cc, k, *, norm=2, fc1=2, fc1_bias=2, conv_bias=1, groups=True, fc2=1, biases=1):
    window = k * k * cc * (1 if groups else cc)
    return norm * d + fc1 * d * h + (fc1_bias * h + conv_bias * cc + fc2 * d) * biases + window + fc2 * h * d


def _wrong_parameters(**wrong):
    def answer(dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
        return _parameters(dim, int(expansion_ratio * dim), int(conv_ratio * dim), kernel_size, **wrong)

    return answer


def parameters_every_channel(dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    return parameters_formula(dim, expansion_ratio, int(expansion_ratio * dim) / dim + 1e-9, kernel_size)


def parameters_line_window(dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    return parameters_formula(dim, expansion_ratio, conv_ratio, math.sqrt(kernel_size)).__round__()


def parameters_fractional(dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    return _parameters(dim, expansion_ratio * dim, conv_ratio * dim, kernel_size)


def parameters_rounded(dim, expansion_ratio=8 / 3, conv_ratio=1.0, kernel_size=7):
    return _parameters(dim, round(expansion_ratio * dim), round(conv_ratio * dim), kernel_size)


# evidence.wilson_interval


def interval_docstring(correct, total, z=1.96):
    p = correct / total
    scale = 1 + z**2 / total
    centre = (p + z**2 / (2 * total)) / scale
    half = z * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2)) / scale
    return centre - half, centre + half


def interval_quadratic(correct, total, z=1.96):
    # The ends solve (p - q)^2 = z^2 q (1 - q) / n.
    p, w = correct / total, z * z / total
    a, b, c = 1 + w, -(2 * p + w), p * p
    root = math.sqrt(max(0.0, b * b - 4 * a * c))
    return [(-b - root) / (2 * a), (-b + root) / (2 * a)]


def interval_numpy(correct, total, z=1.96):
    p, n = np.float64(correct) / total, total
    centre = (correct + z**2 / 2) / (n + z**2)
    half = z / (n + z**2) * np.sqrt(n * p * (1 - p) + z**2 / 4)
    return tuple(np.clip(centre + np.array([-half, half]), 0, 1).tolist())


def interval_wald(correct, total, z=1.96):
    p = correct / total
    half = z * (p * (1 - p) / total) ** 0.5
    return p - half, p + half


def interval_wald_clipped(correct, total, z=1.96):
    return tuple(min(max(end, 0.0), 1.0) for end in interval_wald(correct, total, z))


def interval_percent(correct, total, z=1.96):
    low, high = interval_docstring(correct, total, z)
    return low * 100, high * 100


def interval_high_first(correct, total, z=1.96):
    low, high = interval_docstring(correct, total, z)
    return high, low


def interval_half(correct, total, z=1.96):
    low, high = interval_docstring(correct, total, z)
    return (low + high) / 2, (high - low) / 2


def interval_about_p(correct, total, z=1.96):
    _, half = interval_half(correct, total, z)
    return correct / total - half, correct / total + half


def interval_unscaled(correct, total, z=1.96):
    low, high = interval_docstring(correct, total, z)
    return low * (1 + z**2 / total), high * (1 + z**2 / total)


def interval_one_sigma(correct, total, z=1.96):
    return interval_docstring(correct, total, 1.0)


def interval_always_95(correct, total, z=1.96):
    return interval_docstring(correct, total)


def interval_no_brackets(correct, total, z=1.96):
    p, n = correct / total, total
    centre = (p + z**2 / 2 * n) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / 4 * n**2) / (1 + z**2 / n)
    return centre - half, centre + half


RIGHT = {
    "block.split": [split_torch, split_slices, split_loop, split_double],
    "block.gated_product": [product_direct, product_in_parts, product_loop, product_double],
    "model.stage_shapes": [stages_loop, stages_closed_form, stages_numpy, stages_by_convolution],
    "block.multiply_adds": [adds_formula, adds_by_layer, adds_loop],
    "block.parameters": [parameters_formula, parameters_modules, parameters_shapes],
    "evidence.wilson_interval": [interval_docstring, interval_quadratic, interval_numpy],
}

WRONG = {
    "block.split": {
        "returned_swapped": split_returned_in_other_order,
        "sizes_swapped": split_named_wrongly,
        "conv_first": split_conv_second,
        "gate_last": split_value_first,
        "thirds": split_three,
        "halves": split_two,
        "overlap": split_whole_value,
        "other_axis": split_rows,
    },
    "block.gated_product": {
        "no_activation": product_plain_gate,
        "activation_on_value": product_act_value,
        "activation_on_both": product_act_both,
        "activation_on_product": product_act_last,
        "activation_on_mixed": product_act_mixed,
        "mixed_first": product_wrong_order,
        "sum": product_sum,
        "sigmoid": product_lstm,
        "always_gelu": product_gelu,
        "no_gate": product_value,
    },
    "model.stage_shapes": {
        "rounded_down": stages_floor,
        "no_padding": stages_unpadded,
        "fractions": stages_division,
        "width_first": stages_width_first,
        "channels_first": stages_torch_order,
        "no_stem": stages_without_stem,
        "stem_of_four": stages_fixed_stem,
        "halved_too_early": stages_early,
        "never_halved": stages_constant,
        "by_four": stages_quarters,
        "doubled_channels": stages_doubling,
    },
    "block.multiply_adds": {
        "flops": adds_doubled,
        "two_products": adds_single_branch,
        "dense_convolution": adds_dense,
        "all_channels": adds_every_channel,
        "window_not_squared": adds_line_window,
        "one_position": adds_one_pixel,
        "no_convolution": adds_linear_only,
        "biases": adds_with_biases,
        "not_cut_off": adds_fractional,
        "rounded": adds_rounded,
    },
    "block.parameters": {
        "no_biases": _wrong_parameters(biases=0),
        "no_norm": _wrong_parameters(norm=0),
        "half_norm": _wrong_parameters(norm=1),
        "one_branch": _wrong_parameters(fc1=1, fc1_bias=1),
        "no_fc2": _wrong_parameters(fc2=0),
        "half_bias": _wrong_parameters(fc1_bias=1),
        "dense_convolution": _wrong_parameters(groups=False),
        "all_channels": parameters_every_channel,
        "window_not_squared": parameters_line_window,
        "no_convolution_bias": _wrong_parameters(conv_bias=0),
        "not_cut_off": parameters_fractional,
        "rounded": parameters_rounded,
    },
    "evidence.wilson_interval": {
        "normal": interval_wald,
        "clipped_normal": interval_wald_clipped,
        "percent": interval_percent,
        "reversed": interval_high_first,
        "centre_and_half": interval_half,
        "not_shifted": interval_about_p,
        "not_divided": interval_unscaled,
        "no_z": interval_one_sigma,
        "fixed_z": interval_always_95,
        "brackets": interval_no_brackets,
    },
}
