"""What is measured: times that follow the work, peaks that follow the tensors, and sizes that are checked first."""

import pytest
import torch

from mambaout_edu.memory import CausalAttention, accounting, linear_fit, measure, peak_bytes, sizes
from mambaout_edu.memory.accounting import build


def test_attention_costs_more_far_on_and_mamba_does_not():
    far = 200_000
    found = {
        name: measure(build(name, 64), [64, far], repeats=9, progress=False, batch=2)
        for name in ("attention", "mamba1")
    }
    near_attention, far_attention = found["attention"]
    near_mamba, far_mamba = found["mamba1"]
    assert far_attention.seconds > 10 * near_attention.seconds
    assert far_mamba.seconds < 3 * near_mamba.seconds  # generous: other work runs on this machine
    assert far_mamba.peak == near_mamba.peak
    assert far_attention.memory.used == accounting("attention", 64, far, batch=2).used
    assert far_attention.peak >= far_attention.memory.reserved
    for one in (*found["attention"], *found["mamba1"]):
        assert 0 < one.low <= one.seconds <= one.high
        assert one.repeats == 9


def test_the_same_position_twice_and_any_order():
    first, second, third = measure(build("conv", 16), [100, 5, 100], repeats=3, progress=False)
    assert (first.position, second.position, third) == (100, 5, first)


def test_nothing_is_allocated_where_the_sum_does_not_fit(monkeypatch):
    mixer = CausalAttention(64, num_heads=1)
    monkeypatch.setattr(sizes, "free_memory", lambda device: 10**6)

    def refused():
        with pytest.raises(MemoryError, match=r"10 tokens .* \+ 10,000 tokens 4\.8. MiB = 4\.9. MiB"):
            measure(mixer, [10, 10_000], progress=False)

    assert peak_bytes(refused) < 64 * 1024


def test_peaks_are_those_of_the_tensors_that_live_at_once():
    def work():
        a = torch.zeros(1000)  # 4000 bytes
        b = a + 1
        del a
        c = b * 2
        return c.view(10, 100)[2]

    assert peak_bytes(work) == 8000
    kept = torch.zeros(1000)
    assert peak_bytes(lambda: kept.add_(1)) == 0
    assert peak_bytes(lambda: [torch.zeros(1000) for _ in range(3)]) == 12000


def test_a_line_is_fitted_through_times():
    positions = [1.0, 64.0, 4096.0, 65536.0]
    a, b, share = linear_fit(positions, [2e-4 + 3e-8 * p for p in positions])
    assert (a, b, share) == pytest.approx((2e-4, 3e-8, 1.0))
    _, _, rough = linear_fit([1, 2, 3, 4], [1.0, 5.0, 1.0, 5.0])
    assert rough < 0.5
    with pytest.raises(ValueError, match="three points or more"):
        linear_fit([1, 2], [1.0, 2.0])


@pytest.mark.parametrize("wrong", [{"positions": []}, {"positions": [-1]}, {"positions": [1], "repeats": 2}])
def test_what_cannot_be_measured_is_refused(wrong):
    with pytest.raises(ValueError, match="positions of 0 or more, and 3 repeats or more"):
        measure(build("conv", 8), progress=False, **wrong)


@pytest.mark.gpu
def test_on_a_gpu_the_allocator_tells_the_peak():
    near, far = measure(build("attention", 64, "float16", "cuda", num_heads=4), [64, 65_536], repeats=5, progress=False)
    assert far.peak >= far.memory.reserved > near.memory.reserved
    assert far.seconds > 0
