"""Exercise of lesson 05 on memory: what a decaying state still holds of every pixel."""

from typing import Any

from mambaout_edu.learn.exercises import Case, Diagnosis, Exercise

__all__ = ["EXERCISES"]


def _memory_cases(seed: int) -> list[Case]:
    import numpy as np

    shuffles = np.random.default_rng(seed)
    columns = np.arange(12).reshape(3, 4).T.ravel()
    return [
        Case((columns, 3, 4, 7, 0.8), {}),
        Case((shuffles.permutation(10), 2, 5, 4, 0.5), {}),
        Case((shuffles.permutation(9), 3, 3, 8, float(shuffles.uniform(0.6, 0.95))), {}),
        Case((columns, 3, 4, 5, 1.0), {}),
        Case((np.array([0]), 1, 1, 0, 0.7), {}),
    ]


def _mistake(key: str, weigh: Any) -> Diagnosis:
    """Build a diagnosis from `weigh(np, steps, step, decay)`; steps [H*W] is when every pixel is read."""

    def implementation(order: Any, height: int, width: int, step: int, decay: float) -> Any:
        import numpy as np

        return weigh(np, np.argsort(order), step, decay).reshape(height, width)

    return Diagnosis(key, implementation)


def _weights(np: Any, steps: Any, step: int, decay: float) -> Any:
    ago = step - steps
    return np.where(ago >= 0, decay ** np.maximum(ago, 0).astype(float), 0.0)


def _order_taken(order: Any, height: int, width: int, step: int, decay: float) -> Any:
    import numpy as np

    return _weights(np, order, step, decay).reshape(height, width)


def _flat(order: Any, height: int, width: int, step: int, decay: float) -> Any:
    import numpy as np

    return _weights(np, np.argsort(order), step, decay)


_MEMORY = Exercise(
    id="flatten.memory_map",
    lesson="05",
    objective="05.memory",
    kind="free",
    difficulty=3,
    minutes=10,
    stub='''\
def my_memory_map(order, height, width, step, decay):
    """Return the weight of every pixel in the state once `step` is done, [height, width].

    The state is h = decay * h + x. order [H*W] are row-major indices; step counts from 0.
    A pixel that has not been read yet weighs 0.
    """
    return ...
''',
    reference="mambaout_edu.flatten.memory_map",
    cases=_memory_cases,
    diagnoses=(
        Diagnosis("order_for_steps", _order_taken),
        _mistake("grid_for_sequence", lambda np, steps, step, decay: _weights(np, np.arange(len(steps)), step, decay)),
        _mistake("future_remembered", lambda np, steps, step, decay: decay ** np.abs(step - steps).astype(float)),
        _mistake("future_grows", lambda np, steps, step, decay: decay ** (step - steps).astype(float)),
        _mistake("one_step_too_old", lambda np, steps, step, decay: decay * _weights(np, steps, step, decay)),
        _mistake(
            "own_pixel_lost",
            lambda np, steps, step, decay: np.where(steps == step, 0.0, _weights(np, steps, step, decay)),
        ),
        _mistake("counted_from_the_end", lambda np, steps, step, decay: _weights(np, steps, len(steps) - 1, decay)),
        _mistake("no_decay", lambda np, steps, step, decay: (steps <= step).astype(float)),
        _mistake("product", lambda np, steps, step, decay: np.where(steps <= step, decay * (step - steps), 0.0)),
        Diagnosis("still_a_sequence", _flat),
    ),
    equation="equation-memory",
)


EXERCISES = (_MEMORY,)
