import importlib.util
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mambaout_edu.scan import gpu, gpu_gradients
from mambaout_edu.scan.gpu_launch import (
    ENOUGH,
    LONGEST,
    MOST,
    NEAR,
    SHORTEST,
    WARPS,
    WINDOW,
    Inputs,
    backward_tile,
    chunk_length,
    forward_tile,
)


@given(st.integers(1, 10_000), st.integers(1, 200_000), st.integers(1, 20))
def test_chunks_follow_their_rule(programs, length, state):
    steps = chunk_length(programs, length, state)
    most = MOST if state > 4 else 2 * MOST
    count = -(-length // steps)
    assert steps % WINDOW == 0
    assert steps <= LONGEST
    if length <= LONGEST:
        assert count == 1 or (programs < ENOUGH and count <= most and steps >= SHORTEST and count * programs <= WARPS)


@given(st.integers(1, 256), st.integers(1, 4096))
def test_tiles_hold_all_states_and_fit_into_registers(state, width):
    for tile in (forward_tile(state, width), forward_tile(state, width, alone=True), backward_tile(state, width)):
        assert state <= tile.state < 2 * state
        assert tile.channels % 32 == 0
        assert tile.state * tile.channels <= 64 * 32 * tile.warps
    kept = backward_tile(state, width)
    assert kept.state * kept.channels <= 16 * 32 * kept.warps


@given(st.integers(1, 100_000), st.sampled_from([8, 16, 32, 64, 128]))
def test_the_distance_of_kept_states_is_read_from_their_number(length, every):
    with gpu.checkpoints(every):
        kept = gpu.saved_shape(1, length, 2, 3)[1]
    assert (kept - 1) * every < length <= kept * every
    found = gpu_gradients._distance(kept, length)
    assert found == every or kept == 1


@pytest.mark.parametrize("every", [0, 2, 4, 12, -8])
def test_a_distance_that_cannot_be_is_refused(every):
    with pytest.raises(ValueError, match=rf"power of two, at least 8; got {every}"), gpu.checkpoints(every):
        pass
    assert gpu.checkpoint_every() == NEAR


def test_sequences_are_not_copied_and_groups_are_made_equal():
    packed = torch.zeros(2, 6, 24)
    u, z = packed.chunk(2, dim=2)
    B, C = torch.arange(24.0).reshape(2, 6, 2, 1), torch.zeros(2, 6, 3, 1)
    x = Inputs(u, u, torch.zeros(12, 1), B, C, z)
    assert x.u.data_ptr() == u.data_ptr()
    assert x.z.data_ptr() == z.data_ptr()
    assert x.groups == 6
    assert torch.equal(x.B[0, 0, :, 0], torch.tensor([0.0, 0, 0, 1, 1, 1]))
    part = x.part(slice(1, 2), slice(2, 5))
    assert (part.batch, part.length) == (1, 3)
    assert torch.equal(part.B, x.B[1:, 2:5])
    assert part.u.data_ptr() == u[1:, 2:].data_ptr()


def test_the_package_and_the_engine_import_without_triton():
    code = "import sys; sys.modules['triton'] = None; import mambaout_edu.scan.gpu"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_two_runs_on_a_gpu_give_the_same_bits():
    assert importlib.util.find_spec("triton") is not None
    shape = (2, 300, 100, 16)
    u, delta, z, dy = (torch.randn(*shape[:3], device="cuda") for _ in range(4))
    A, B, C = -torch.rand(100, 16, device="cuda"), *(torch.randn(2, 300, 1, 16, device="cuda") for _ in range(2))
    tensors = (u, delta, A, B, C, None, z, None, None)
    runs = []
    for _ in range(2):
        out, last, saved = gpu.forward(*tensors, delta_softplus=True, save=True)
        grads = gpu.backward(dy, None, saved, *tensors, delta_softplus=True)
        runs.append([out, last, *(g for g in grads if g is not None)])
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))
