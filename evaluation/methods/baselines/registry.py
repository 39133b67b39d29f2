"""The baselines by name. A baseline is imported on first use."""

from ucn.evaluation.methods.baselines.base import Baseline
from ucn.registry import Registry

_HERE = "ucn.evaluation.methods.baselines"

BASELINES: Registry[type[Baseline]] = Registry(
    "baseline",
    {
        "sift": f"{_HERE}.dense_sift:Sift",
        "daisy": f"{_HERE}.opencv_descriptors:Daisy",
        "hog": f"{_HERE}.dense_hog:Hog",
        "surf": f"{_HERE}.opencv_descriptors:Surf",
        "kaze": f"{_HERE}.opencv_descriptors:Kaze",
        "akaze": f"{_HERE}.opencv_descriptors:Akaze",
        "orb": f"{_HERE}.opencv_descriptors:Orb",
        "brisk": f"{_HERE}.opencv_descriptors:Brisk",
        "googlenet": f"{_HERE}.imagenet:GoogLeNet",
        "imagenet": f"{_HERE}.imagenet:ImageNet",
        "dis": f"{_HERE}.optical_flow:Dis",
        "farneback": f"{_HERE}.optical_flow:Farneback",
        "tvl1": f"{_HERE}.optical_flow:TvL1",
        "ilk": f"{_HERE}.optical_flow:Ilk",
        "deepflow": f"{_HERE}.optical_flow:DeepFlow",
        "pcaflow": f"{_HERE}.optical_flow:PcaFlow",
        "simpleflow": f"{_HERE}.optical_flow:SimpleFlow",
        "sparse_to_dense": f"{_HERE}.optical_flow:SparseToDense",
        "sparse-sift": f"{_HERE}.sparse_keypoints:SparseSift",
        "sparse-surf": f"{_HERE}.sparse_keypoints:SparseSurf",
        "sparse-kaze": f"{_HERE}.sparse_keypoints:SparseKaze",
        "sparse-akaze": f"{_HERE}.sparse_keypoints:SparseAkaze",
        "sparse-orb": f"{_HERE}.sparse_keypoints:SparseOrb",
        "sparse-brisk": f"{_HERE}.sparse_keypoints:SparseBrisk",
    },
    f"{_HERE}.base:Baseline",
)


def method_name(baseline: str) -> str:
    """Name of a baseline in tables and metrics: that of the class for ``package.module:Class``."""
    return baseline.rpartition(":")[2]
