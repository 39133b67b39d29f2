"""The convolutional spatial transformer beside the layout of the paper, in time and memory.

The paper samples a k x k patch for every location, lays them out in a map k times as high and wide,
and convolves that with stride k. Both do a forward and a backward pass, side by side in one run, in
turns; the plain convolution is what a transformer costs more than. Sizes are those of inception_4a
on a quarter of a 320 x 176 crop. Memory is the peak of the resident set (Linux: ``VmHWM``) of a
process of its own, over what it held before the pass. Prints a Markdown table.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ucn.training.networks.spatial_transformer import SpatialTransformerConv2d

HEIGHT, WIDTH = 44, 80
LAYERS = {
    "3x3, 96 -> 208": (96, 208, 3),
    "3x3, 16 -> 48": (16, 48, 3),
    "5x5, 16 -> 48": (16, 48, 5),
}
Method = Callable[[SpatialTransformerConv2d, Tensor], Tensor]


def laid_out(conv: SpatialTransformerConv2d, x_BCHW: Tensor) -> Tensor:
    """The affine transformer by way of the map that is k times as high and wide."""
    batch, _, height, width = x_BCHW.shape
    kernel = conv.weight.shape[-1]
    with torch.autocast("cpu", enabled=False):
        x_BCHW = x_BCHW.float()
        deviation_BHW4 = conv.localisation(x_BCHW).permute(0, 2, 3, 1)
        matrix_BHW22 = torch.eye(2) + deviation_BHW4.view(batch, height, width, 2, 2)
        taps_K2 = conv.taps_K2.float()
        moved_BHWK2 = torch.einsum("bhwij,kj->bhwki", matrix_BHW22, taps_K2)
        y_HW, x_HW = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        positions_BHWK2 = moved_BHWK2 + torch.stack([x_HW, y_HW], dim=2)[:, :, None]
        grid_BHkWk2 = (
            positions_BHWK2.view(batch, height, width, kernel, kernel, 2)
            .permute(0, 1, 3, 2, 4, 5)
            .reshape(batch, height * kernel, width * kernel, 2)
        )
        size = torch.tensor([width, height])
        grid_BHkWk2 = (2 * grid_BHkWk2 + 1) / size - 1
        patches_BCHkWk = F.grid_sample(x_BCHW, grid_BHkWk2, align_corners=False)
    return F.conv2d(patches_BCHkWk, conv.weight, stride=kernel)


def plain(conv: SpatialTransformerConv2d, x_BCHW: Tensor) -> Tensor:
    """The convolution without a transformer."""
    return F.conv2d(x_BCHW, conv.weight, padding=conv.padding)


BESIDE = "laid out (paper)"
METHODS: dict[str, Method] = {
    "plain convolution": plain,
    BESIDE: laid_out,
    "in parts (ours)": SpatialTransformerConv2d.forward,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.batch} maps of {WIDTH} x {HEIGHT}, forward + backward, affine")
    print("| layer | dtype | method | time | of laid out | peak memory | of laid out |")
    print("|---|---|---|---|---|---|---|")
    for layer in LAYERS:
        conv, x_BCHW = problem(layer, options.batch)
        torch.testing.assert_close(conv(x_BCHW), laid_out(conv, x_BCHW), atol=1e-3, rtol=1e-3)
        for bfloat16 in (False, True):
            times = in_turns(conv, x_BCHW, bfloat16, options.rounds)
            peaks = {
                name: peak_mib(layer, name, options.batch, bfloat16, options.threads)
                for name in METHODS
            }
            for name in METHODS:
                ratios = [a / b for a, b in zip(times[name], times[BESIDE], strict=True)]
                print(
                    f"| {layer} | {'bfloat16' if bfloat16 else 'float32'} | {name} | "
                    f"{1e3 * statistics.median(times[name]):.0f} ms | "
                    f"{statistics.median(ratios):.2f} | "
                    f"{peaks[name]:.0f} MiB | {peaks[name] / peaks[BESIDE]:.2f} |"
                )


def problem(layer: str, batch: int) -> tuple[SpatialTransformerConv2d, Tensor]:
    """A transformer away from the identity, and a map, channels last as in training."""
    torch.manual_seed(0)
    channels_in, channels_out, kernel = LAYERS[layer]
    conv = SpatialTransformerConv2d(channels_in, channels_out, kernel, "affine")
    for value in conv.localisation[-1].parameters():
        torch.nn.init.normal_(value, 0, 0.2)
    x_BCHW = torch.randn(batch, channels_in, HEIGHT, WIDTH)
    return conv, x_BCHW.contiguous(memory_format=torch.channels_last).requires_grad_()


def run(method: Method, conv: SpatialTransformerConv2d, x_BCHW: Tensor, bfloat16: bool) -> None:
    """One forward and backward pass."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        y_BOHW = method(conv, x_BCHW)
    torch.autograd.backward(y_BOHW, torch.ones_like(y_BOHW))


def in_turns(
    conv: SpatialTransformerConv2d, x_BCHW: Tensor, bfloat16: bool, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each method in each round, after one that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(rounds + 1):
        for name, method in METHODS.items():
            start = time.perf_counter()
            run(method, conv, x_BCHW, bfloat16)
            times[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in times.items()}


def peak_mib(layer: str, name: str, batch: int, bfloat16: bool, threads: int) -> float:
    """Peak memory of a pass, in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_mib, (layer, name, batch, bfloat16, threads))


def _peak_mib(layer: str, name: str, batch: int, bfloat16: bool, threads: int) -> float:
    torch.set_num_threads(threads)
    conv, x_BCHW = problem(layer, batch)
    # What torch loads on its first pass is not of the method.
    run(METHODS[name], conv, x_BCHW[:1, :, :4, :4], bfloat16)
    before = resident_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    run(METHODS[name], conv, x_BCHW, bfloat16)
    return (resident_kib("VmHWM") - before) / 1024


def resident_kib(field: str) -> int:
    """A memory figure of this process."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main()
