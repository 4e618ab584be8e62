"""Right and wrong answers to the exercises of lesson 01, written as learners write them.

RIGHT: by exercise, answers that must be accepted, each written another way. WRONG: by exercise and
by the diagnosis that it must get. They share no code with the catalogue's diagnoses.
"""

import numpy as np
from scipy import linalg, signal

# systems.zero_order_hold


def hold_direct(A, B, delta):
    A_bar = np.exp(delta * A)
    return A_bar, ((A_bar - 1) / A)[:, None] * B


def hold_loop(A, B, delta):
    A_bar, B_bar = np.zeros_like(A), np.zeros(B.shape, dtype=np.result_type(A, B))
    for n in range(len(A)):
        A_bar[n] = np.exp(A[n] * delta)
        for m in range(B.shape[1]):
            B_bar[n, m] = (A_bar[n] - 1) / A[n] * B[n, m]
    return A_bar, B_bar


def hold_paper(A, B, delta):
    dA = np.diag(delta * A)
    full = linalg.expm(dA)
    return np.diag(full).copy(), np.linalg.inv(dA) @ (full - np.eye(len(A))) @ (delta * B)


def hold_integral(A, B, delta):
    # Sixty Gauss-Legendre points integrate exp(A s) over the step to the last digit.
    nodes, weights = np.polynomial.legendre.leggauss(60)
    s = delta / 2 * (nodes + 1)
    return np.exp(A * delta), (np.exp(np.outer(A, s)) @ weights * delta / 2)[:, None] * B


def hold_as_mamba(A, B, delta):
    return np.exp(delta * A), np.broadcast_to(delta * B, B.shape).astype(np.result_type(A, B))


def hold_tangent(A, B, delta):
    return 1 + delta * A, (delta * B).astype(np.result_type(A, B))


def hold_trapezoid(A, B, delta):
    half = delta * A / 2
    return (1 + half) / (1 - half), (delta / (1 - half))[:, None] * B


def hold_undivided(A, B, delta):
    return np.exp(delta * A), np.expm1(delta * A)[:, None] * B


def hold_extra_delta(A, B, delta):
    return np.exp(delta * A), (np.expm1(delta * A) / A)[:, None] * (delta * B)


def hold_lost_delta(A, B, delta):
    return np.exp(delta * A), (np.expm1(delta * A) / (delta * A))[:, None] * B


def hold_negative(A, B, delta):
    return np.exp(delta * A), -(np.expm1(delta * A) / A)[:, None] * B


def hold_no_lower_end(A, B, delta):
    return np.exp(delta * A), (np.exp(delta * A) / A)[:, None] * B


def hold_b_first(A, B, delta):
    return hold_direct(A, B, delta)[::-1]


def hold_columns(A, B, delta):
    return np.exp(A * delta), B * np.expm1(A * delta) / A


def hold_diagonal_matrix(A, B, delta):
    A_bar, B_bar = hold_direct(A, B, delta)
    return np.eye(len(A)) * A_bar, B_bar


# systems.initial_response


def motion_stub(system, state, times):
    poles, directions = np.linalg.eig(system.A)
    parts = np.linalg.solve(directions, state)
    moved = np.exp(times[:, None] * poles) * parts
    return (moved @ directions.T).real


def motion_exponential(system, state, times):
    return np.array([linalg.expm(system.A * t) @ state for t in times])


def motion_sum(system, state, times):
    poles, directions = np.linalg.eig(system.A)
    parts = np.linalg.inv(directions) @ state
    moved = np.zeros((len(times), len(state)), dtype=complex)
    for n, pole in enumerate(poles):
        moved += np.exp(np.outer(times, pole)) * parts[n] * directions[:, n]
    return np.real(moved)


def _moved(system, state, times, sign=1):
    poles, directions = np.linalg.eig(system.A)
    parts = np.linalg.solve(directions, state)
    return np.exp(sign * np.outer(times, poles)) * parts, directions


def motion_of_parts(system, state, times):
    return _moved(system, state, times)[0].real


def motion_wrong_side(system, state, times):
    moved, directions = _moved(system, state, times)
    return np.einsum("tn,nm->tm", moved, directions).real


def motion_into_the_past(system, state, times):
    moved, directions = _moved(system, state, times, sign=-1)
    return np.real(moved @ directions.T)


def motion_powers(system, state, times):
    poles, directions = np.linalg.eig(system.A)
    parts = np.linalg.solve(directions, state)
    return np.array([(directions @ (poles.astype(complex) ** t * parts)).real for t in times])


def motion_decay(system, state, times):
    poles, directions = np.linalg.eig(system.A)
    parts = np.linalg.solve(directions, state)
    return np.array([(directions @ (np.exp(np.real(poles) * t) * parts)).real for t in times])


def motion_tangent(system, state, times):
    return state + times[:, None] * (system.A @ state)


def motion_of_directions(system, state, times):
    poles, directions = np.linalg.eig(system.A)
    return np.array([directions @ np.exp(poles * t) for t in times]).real


def motion_absolute(system, state, times):
    moved, directions = _moved(system, state, times)
    return abs(moved @ directions.T)


def motion_columns(system, state, times):
    return motion_stub(system, state, times).T


def motion_complex(system, state, times):
    moved, directions = _moved(system, state, times)
    return moved @ directions.T


# systems.run_recurrence


def run_loop(system, u, initial_state=None):
    h = np.zeros(system.states) if initial_state is None else initial_state
    outputs, states = [], []
    for u_t in u:
        h = system.A @ h + system.B[:, 0] * u_t
        outputs.append((system.C @ h + system.D[:, 0] * u_t)[0])
        states.append(h)
    return np.array(outputs), np.array(states)


def run_columns(system, u, initial_state=None):
    h = np.zeros((system.states, 1)) if initial_state is None else initial_state.reshape(-1, 1)
    states = np.empty((len(u), system.states))
    for t in range(len(u)):
        h = system.A @ h + system.B * u[t]
        states[t] = h[:, 0]
    return (states @ system.C.T).ravel() + system.D.item() * u, states


def run_by_library(system, u, initial_state=None):
    # The textbooks' timing, h_(t+1) = A h_t + B u_t, has C A for C and C B + D for D.
    A, B, C, D = system.A, system.B, system.C, system.D
    start = np.zeros(len(A)) if initial_state is None else initial_state
    _, y, before = signal.dlsim((A, B, C @ A, C @ B + D, 1.0), u[:, None], x0=start)
    return y[:, 0], before @ A.T + u[:, None] * B[:, 0]


def _run(system, u, initial_state, update, read=None):
    h = np.zeros(system.states) if initial_state is None else initial_state
    b, c, d = system.B.ravel(), system.C.ravel(), system.D.item()
    read = read or (lambda old, new, u_t: c @ new + d * u_t)
    outputs, states, last = [], [], 0.0
    for u_t in u:
        new = update(h, b, u_t, last)
        outputs.append(read(h, new, u_t))
        states.append(new)
        h, last = new, u_t
    return np.array(outputs), np.array(states)


def run_reads_first(system, u, initial_state=None):
    def read(old, new, u_t):
        return system.C[0] @ old + system.D[0, 0] * u_t

    return _run(system, u, initial_state, lambda h, b, u_t, last: system.A @ h + b * u_t, read)


def run_delayed(system, u, initial_state=None):
    return _run(system, u, initial_state, lambda h, b, u_t, last: system.A @ h + b * last)


def run_without_d(system, u, initial_state=None):
    update = lambda h, b, u_t, last: system.A @ h + b * u_t  # noqa: E731
    return _run(system, u, initial_state, update, lambda old, new, u_t: system.C[0] @ new)


def run_forgetful(system, u, initial_state=None):
    return _run(system, u, initial_state, lambda h, b, u_t, last: b * u_t)


def run_transposed(system, u, initial_state=None):
    return _run(system, u, initial_state, lambda h, b, u_t, last: system.A.T @ h + b * u_t)


def run_without_b(system, u, initial_state=None):
    return _run(system, u, initial_state, lambda h, b, u_t, last: system.A @ h + u_t)


def run_rate(system, u, initial_state=None):
    return _run(system, u, initial_state, lambda h, b, u_t, last: h + (system.A @ h + b * u_t))


def run_in_place(system, u, initial_state=None):
    h = np.zeros(system.states) if initial_state is None else initial_state.copy()
    outputs, states = [], []
    for u_t in u:
        h[:] = system.A @ h + system.B[:, 0] * u_t
        outputs.append(system.C[0] @ h + system.D[0, 0] * u_t)
        states.append(h)
    return np.array(outputs), np.array(states)


def run_vector_outputs(system, u, initial_state=None):
    y, h = run_loop(system, u, initial_state)
    return y.reshape(-1, 1), h


def run_states_first(system, u, initial_state=None):
    y, h = run_loop(system, u, initial_state)
    return h, y


def run_y(system, u, initial_state=None):
    return run_loop(system, u, initial_state)[0]


# systems.convolution_kernel


def kernel_steps(system, length):
    column, weights = system.B, []
    for _ in range(length):
        weights.append((system.C @ column)[0, 0])
        column = system.A @ column
    return np.array(weights)


def kernel_powers(system, length):
    return np.array([(system.C @ np.linalg.matrix_power(system.A, t) @ system.B).item() for t in range(length)])


def kernel_by_tap(system, length):
    tap = np.zeros(length)
    tap[0] = 1.0
    y, _ = run_loop(system, tap)
    y[0] -= system.D[0, 0]
    return y


def kernel_late(system, length):
    return kernel_powers(system, length + 1)[1:]


def kernel_backwards(system, length):
    return kernel_powers(system, length)[::-1]


def kernel_with_d(system, length):
    tap = np.zeros(length)
    tap[0] = 1.0
    return run_loop(system, tap)[0]


def kernel_long(system, length):
    return kernel_steps(system, length + 1)


def kernel_matrices(system, length):
    return np.stack([system.C @ np.linalg.matrix_power(system.A, t) @ system.B for t in range(length)])


def kernel_states(system, length):
    return np.stack([(np.linalg.matrix_power(system.A, t) @ system.B).ravel() for t in range(length)])


def kernel_step_response(system, length):
    y, _ = run_loop(system, np.ones(length))
    return y - system.D[0, 0]


def kernel_entries(system, length):
    return np.array([system.C[0] @ np.power(system.A, t) @ system.B[:, 0] for t in range(length)])


def kernel_constant(system, length):
    return np.array([system.C[0] @ system.B[:, 0] for _ in range(length)])


# systems.hippo_legs


def hippo_masks(states):
    n = np.arange(states)
    root = np.sqrt(2 * n + 1)
    A = -np.tril(np.outer(root, root), -1) - np.diag(n + 1.0)
    return A, root[:, None]


def hippo_loops(states):
    A, B = np.zeros((states, states)), np.zeros((states, 1))
    for n in range(states):
        B[n, 0] = (2 * n + 1) ** 0.5
        for k in range(n + 1):
            A[n, k] = -(n + 1) if n == k else -(((2 * n + 1) * (2 * k + 1)) ** 0.5)
    return A, B


def hippo_scaled(states):
    # A = -R (L + diag) / R with ones below the diagonal, scaled from both sides.
    r = np.sqrt(1.0 + 2 * np.arange(states)).reshape(-1, 1)
    below = np.tri(states, k=-1)
    return -(r * below * r.T + np.diag(np.arange(1.0, states + 1))), r


def _hippo(states, entry, b=lambda n: np.sqrt(2 * n + 1)):
    A = np.array([[float(entry(n, k)) for k in range(states)] for n in range(states)])
    return A, np.array([[b(n)] for n in range(states)], dtype=float)


def _below(n, k):
    return -np.sqrt((2 * n + 1) * (2 * k + 1))


def hippo_positive(states):
    A, B = hippo_loops(states)
    return -A, B


def hippo_transposed(states):
    return _hippo(states, lambda n, k: _below(n, k) if k > n else -(n + 1) if n == k else 0)


def hippo_everywhere(states):
    return _hippo(states, lambda n, k: -(n + 1) if n == k else _below(n, k))


def hippo_with_roots_on_diagonal(states):
    return _hippo(states, lambda n, k: _below(n, k) if k <= n else 0)


def hippo_hollow(states):
    return _hippo(states, lambda n, k: _below(n, k) if k < n else 0)


def hippo_unstable(states):
    return _hippo(states, lambda n, k: _below(n, k) if k < n else n + 1 if n == k else 0)


def hippo_diagonal_n(states):
    return _hippo(states, lambda n, k: _below(n, k) if k < n else -n if n == k else 0)


def hippo_squares(states):
    entry = lambda n, k: -(2 * n + 1) * (2 * k + 1) if k < n else -(n + 1) if n == k else 0  # noqa: E731
    return _hippo(states, entry, b=lambda n: 2 * n + 1)


def hippo_from_one(states):
    A, B = hippo_loops(states + 1)
    return A[1:, 1:], B[1:]


def hippo_ones(states):
    return hippo_loops(states)[0], np.ones((states, 1))


def hippo_flat_b(states):
    A, B = hippo_loops(states)
    return A, B.ravel()


def hippo_only_a(states):
    return hippo_loops(states)[0]


RIGHT = {
    "systems.zero_order_hold": [hold_direct, hold_loop, hold_paper, hold_integral],
    "systems.initial_response": [motion_stub, motion_exponential, motion_sum],
    "systems.run_recurrence": [run_loop, run_columns, run_by_library],
    "systems.convolution_kernel": [kernel_steps, kernel_powers, kernel_by_tap],
    "systems.hippo_legs": [hippo_masks, hippo_loops, hippo_scaled],
}

WRONG = {
    "systems.zero_order_hold": {
        "first_order": hold_as_mamba,
        "euler": hold_tangent,
        "bilinear": hold_trapezoid,
        "not_divided": hold_undivided,
        "delta_too_many": hold_extra_delta,
        "delta_too_few": hold_lost_delta,
        "sign": hold_negative,
        "without_one": hold_no_lower_end,
        "swapped": hold_b_first,
        "other_axis": hold_columns,
        "as_matrix": hold_diagonal_matrix,
    },
    "systems.initial_response": {
        "parts_only": motion_of_parts,
        "other_axis": motion_wrong_side,
        "backwards": motion_into_the_past,
        "power": motion_powers,
        "no_swing": motion_decay,
        "straight": motion_tangent,
        "no_parts": motion_of_directions,
        "magnitude": motion_absolute,
        "times_last": motion_columns,
        "complex": motion_complex,
    },
    "systems.run_recurrence": {
        "read_too_early": run_reads_first,
        "input_too_late": run_delayed,
        "no_direct_path": run_without_d,
        "no_memory": run_forgetful,
        "transposed": run_transposed,
        "no_b": run_without_b,
        "stepped_twice": run_rate,
        "changed_in_place": run_in_place,
        "output_axis": run_vector_outputs,
        "swapped": run_states_first,
        "only_outputs": run_y,
    },
    "systems.convolution_kernel": {
        "one_step_late": kernel_late,
        "reversed": kernel_backwards,
        "direct_path": kernel_with_d,
        "one_too_many": kernel_long,
        "extra_axes": kernel_matrices,
        "no_output": kernel_states,
        "summed": kernel_step_response,
        "each_entry": kernel_entries,
        "same_everywhere": kernel_constant,
    },
    "systems.hippo_legs": {
        "sign": hippo_positive,
        "upper": hippo_transposed,
        "full": hippo_everywhere,
        "root_on_diagonal": hippo_with_roots_on_diagonal,
        "no_diagonal": hippo_hollow,
        "positive_diagonal": hippo_unstable,
        "diagonal_from_zero": hippo_diagonal_n,
        "no_root": hippo_squares,
        "from_one": hippo_from_one,
        "b_of_ones": hippo_ones,
        "b_without_axis": hippo_flat_b,
        "only_a": hippo_only_a,
    },
}
