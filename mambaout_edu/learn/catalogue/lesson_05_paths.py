"""Exercises of lesson 05 on several paths: the cross-scan, and the merge that puts all paths back."""

from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _scan_cases(seed: int) -> list[Case]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    cases = []
    # As many channels as paths in one case, so that axes that are put in each other's place run, too.
    for size, paths, dtype in (
        ((2, 3, 4, 4), "cross", torch.float32),
        ((1, 5, 2, 3), "cross", torch.float64),
        ((2, 2, 3, 2), "bidirectional", torch.float32),
    ):
        cases.append(Case((torch.randn(size, generator=generator, dtype=dtype), paths), {}))
    return cases


def _forward(x: Any, paths: str) -> list[Any]:
    """Return the paths that are read forwards, [B, L, C] each."""
    rows, columns = x.flatten(1, 2), x.transpose(1, 2).flatten(1, 2)
    return [rows, columns] if paths == "cross" else [rows]


def _side_by_side(several: list[Any]) -> Any:
    import torch

    return torch.stack(several, dim=2)


def _both_ways(forward: list[Any]) -> list[Any]:
    return forward + [path.flip(1) for path in forward]


def _whole(x: Any, paths: str) -> list[Any]:
    return _both_ways(_forward(x, paths))


def _pairs(x: Any, paths: str) -> Any:
    return _side_by_side([path for one in _forward(x, paths) for path in (one, one.flip(1))])


def _mirrored(x: Any, paths: str) -> Any:
    """Turn every row and every column around by itself, in place of the sequence."""
    turned = [x.flip(2).flatten(1, 2), x.transpose(1, 2).flip(2).flatten(1, 2)]
    forward = _forward(x, paths)
    return _side_by_side(forward + turned[: len(forward)])


def _no_columns(x: Any, paths: str) -> Any:
    forward = _forward(x, paths)
    return _side_by_side(_both_ways(forward[:1] * len(forward)))


def _rotated_columns(x: Any, paths: str) -> Any:
    """Read the columns from the last to the first, as after a quarter turn."""
    return _side_by_side(_both_ways(_forward(x, paths)[:1] + _forward(x.flip(2), paths)[1:]))


_CROSS = Exercise(
    id="flatten.cross_scan",
    lesson="05",
    objective="05.paths",
    kind="completion",
    difficulty=2,
    minutes=8,
    stub='''\
def my_cross_scan(x, paths):
    """Return a picture x [B, H, W, C] read along K paths, side by side: [B, L, K, C].

    paths is "bidirectional" (K = 2: rows, rows backwards) or "cross" (K = 4: rows, columns,
    rows backwards, columns backwards).
    """
    forward = [x.flatten(1, 2)]  # the rows, one after the other: [B, L, C]
    # Missing: for "cross", the columns too. x.transpose(1, 2) has them where rows were.
    # Then all of `forward` once more, backwards: path.flip(1). torch.stack puts paths side by side.
    return ...
''',
    reference="mambaout_edu.flatten.flatten_paths",
    cases=_scan_cases,
    diagnoses=(
        Diagnosis("pairs", _pairs),
        Diagnosis("never_backwards", lambda x, paths: _side_by_side(_forward(x, paths) * 2)),
        Diagnosis("forward_alone", lambda x, paths: _side_by_side(_forward(x, paths))),
        Diagnosis("no_columns", _no_columns),
        Diagnosis("mirrored", _mirrored),
        Diagnosis("last_column_first", _rotated_columns),
        Diagnosis(
            "channels_turned",
            lambda x, paths: _side_by_side(_forward(x, paths) + [p.flip(2) for p in _forward(x, paths)]),
        ),
        Diagnosis("paths_before_steps", lambda x, paths: _side_by_side(_whole(x, paths)).transpose(1, 2)),
        Diagnosis("channels_before_paths", lambda x, paths: _side_by_side(_whole(x, paths)).transpose(2, 3)),
        Diagnosis("one_row_of_channels", lambda x, paths: _side_by_side(_whole(x, paths)).flatten(2)),
    ),
    equation="equation-cross",
)


def _merge_cases(seed: int) -> list[Case]:
    import numpy as np
    import torch

    shuffles, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    columns = np.arange(12).reshape(3, 4).T.ravel()
    cases = []
    for (height, width), paths, dtype in (
        ((3, 4), [columns, shuffles.permutation(12), np.arange(12)], torch.float32),
        ((2, 5), [np.arange(10), shuffles.permutation(10)], torch.float64),
        ((4, 3), [shuffles.permutation(12)], torch.float64),
    ):
        y = torch.randn(2, height * width, len(paths), 3, generator=generator, dtype=dtype)
        cases.append(Case((y, paths, (height, width)), {}))
    return cases


def _back(y: Any, paths: Any, invert: bool = True) -> Any:
    """Return every path put back in its place, [B, L, K, C]; or by the order itself, in place of its inverse."""
    import numpy as np
    import torch

    index = [torch.from_numpy(np.array(np.argsort(path) if invert else path)) for path in paths]
    return torch.stack([y[:, at, k] for k, at in enumerate(index)], dim=2)


_MERGE = Exercise(
    id="flatten.merge",
    lesson="05",
    objective="05.paths",
    kind="free",
    difficulty=3,
    minutes=10,
    stub='''\
def my_merge(y, paths, size):
    """Return the sum of all paths, each put back in its place: a picture [B, H, W, C].

    y [B, L, K, C] holds what came out of each path, in the order in which it read the pixels.
    paths is a list of K orders, row-major indices [L], each visiting every pixel once;
    size is (H, W), with H * W = L.
    """
    return ...
''',
    reference="mambaout_edu.flatten.merge",
    cases=_merge_cases,
    diagnoses=(
        Diagnosis("not_put_back", lambda y, paths, size: y.sum(2).unflatten(1, size)),
        Diagnosis("order_for_inverse", lambda y, paths, size: _back(y, paths, invert=False).sum(2).unflatten(1, size)),
        Diagnosis("mean", lambda y, paths, size: _back(y, paths).mean(2).unflatten(1, size)),
        Diagnosis("last_path_alone", lambda y, paths, size: _back(y, paths)[:, :, -1].unflatten(1, size)),
        Diagnosis("first_path_alone", lambda y, paths, size: _back(y, paths)[:, :, 0].unflatten(1, size)),
        Diagnosis(
            "one_order_for_all", lambda y, paths, size: _back(y, paths[:1] * len(paths)).sum(2).unflatten(1, size)
        ),
        Diagnosis("width_first", lambda y, paths, size: _back(y, paths).sum(2).unflatten(1, size[::-1])),
        Diagnosis("not_added", lambda y, paths, size: _back(y, paths).unflatten(1, size)),
        Diagnosis("still_a_sequence", lambda y, paths, size: _back(y, paths).sum(2)),
    ),
    equation="equation-merge",
)


EXERCISES = (_CROSS, _MERGE)
