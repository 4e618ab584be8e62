"""VMamba on the CPU with our scan, with mamba-ssm's reference scan in its place, and with no scan at all.

python benchmarks/selective_scan.py --fetch    once: the reference is a function in mamba-ssm's source package
python benchmarks/vision_models.py             VMamba-Tiny, both versions: forward at 224 x 224, training at 64 x 64
python benchmarks/vision_models.py --record    and write assets/recorded/vision_models.json

ours        the package's model, its scans in the engine "cpu"
reference   the same model and weights; `selective_scan_ref` of mamba-ssm scans
no scan     the same model and weights; the scan hands its input on, all layers around it stay
"""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from selective_scan import mamba_ssm_reference
from side_by_side import side_by_side
from torch import Tensor, nn
from without_scan import without_scan

from mambaout_edu import recorded
from mambaout_edu.mixers import ss2d
from mambaout_edu.models import create_model

# what is run: forward only or a whole step, side of the images, which models also run with the reference
WORK = [("forward", 224, 1), ("forward + backward", 64, 1)]
MODELS = {"vmamba_tiny_v0": True, "vmamba_tiny": False}


def reference_scan() -> Callable[..., tuple[Tensor, Tensor]]:
    """Return mamba-ssm's reference with the arguments that `SS2D` gives to our scan (layout "bld", groups)."""
    reference = mamba_ssm_reference()

    def scan(
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        z: None,
        delta_bias: Tensor,
        *,
        delta_softplus: bool,
        return_last_state: bool,
        layout: str,
        engine: str,
    ) -> tuple[Tensor, Tensor]:
        u, delta = u.transpose(1, 2), delta.transpose(1, 2)  # [B, D, L]
        B, C = B.permute(0, 2, 3, 1), C.permute(0, 2, 3, 1)  # [B, G, N, L]
        out, last_state = reference(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state)
        return out.transpose(1, 2), last_state

    return scan


def forward(model: nn.Module, images: Tensor) -> Tensor:
    """Return the class scores, without gradients."""
    with torch.inference_mode():
        return model(images)


def step(model: nn.Module, images: Tensor) -> Tensor:
    """Do one forward and backward, gradients cleared first; return the gradient of the stem's weights."""
    model.zero_grad(set_to_none=True)
    model(images).square().mean().backward()
    grad = next(model.parameters()).grad
    assert grad is not None
    return grad


def with_scan(scan: Callable[..., tuple[Tensor, Tensor]], run: Callable[[], Tensor]) -> Tensor:
    """Run with another scan in the place of ours."""
    with patch.object(ss2d, "selective_scan", scan):
        return run()


def measure(name: str, work: str, side: int, batch: int, with_reference: bool, repeats: int) -> dict[str, Any]:
    """Time one model in all ways, in turn; return medians in milliseconds and the ratios."""
    torch.manual_seed(0)
    images = torch.randn(batch, 3, side, side)
    ours = create_model(name, engine="cpu")
    bare = create_model(name)
    without_scan(bare)
    bare.load_state_dict(ours.state_dict())
    run = step if work == "forward + backward" else forward
    cases: dict[str, Callable[[], Tensor]] = {"ours": partial(run, ours, images), "no scan": partial(run, bare, images)}
    if with_reference:
        cases["reference"] = partial(with_scan, reference_scan(), cases["ours"])
        expected, got = cases["reference"](), cases["ours"]()
        error = ((got - expected).norm() / expected.norm()).item()
        assert error < 1e-4, f"the reference gives something else: relative distance {error:g}"
    ms = {case: timing.median * 1e3 for case, timing in side_by_side(cases, repeats, warmup=1).items()}
    ratios = {"ours / no scan": ms["ours"] / ms["no scan"]}
    if with_reference:
        ratios = {"reference / ours": ms["reference"] / ms["ours"], **ratios}
    return {"ms": {k: round(v, 2) for k, v in ms.items()}, "ratios": {k: round(v, 2) for k, v in ratios.items()}}


def main() -> None:
    """Measure, print a table, record on request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--record", action="store_true", help="write assets/recorded/vision_models.json")
    options = parser.parse_args()
    results: dict[str, Any] = {"threads": torch.get_num_threads()}
    for name, with_reference in MODELS.items():
        for work, side, batch in WORK:
            key = f"{name}, {work}, {batch} x {side} x {side}"
            found = results[key] = measure(name, work, side, batch, with_reference, options.repeats)
            ratios = ", ".join(f"{what} {ratio:.2f}" for what, ratio in found["ratios"].items())
            print(f"{key:<54}{found['ms']['ours']:9.1f} ms   {ratios}", flush=True)
    if options.record:
        recorded.save("vision_models", results)


if __name__ == "__main__":
    main()
