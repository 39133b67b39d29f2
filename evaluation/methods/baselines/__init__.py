"""Baselines by name: descriptors of points, and optical flow.

`googlenet` is not listed: `googlenet_describer` builds it from weights.
"""

from collections.abc import Mapping

from ucn.evaluation.methods.baselines import optical_flow as flow
from ucn.evaluation.methods.baselines.dense_hog import describe_hog
from ucn.evaluation.methods.baselines.opencv_descriptors import (
    describe_akaze,
    describe_brisk,
    describe_daisy,
    describe_kaze,
    describe_orb,
    describe_sift,
    describe_surf,
    why_no_surf,
)
from ucn.matching.descriptors import Describe, Match

DESCRIBERS: Mapping[str, Describe] = {
    "sift": describe_sift,
    "daisy": describe_daisy,
    "hog": describe_hog,
    "surf": describe_surf,
    "kaze": describe_kaze,
    "akaze": describe_akaze,
    "orb": describe_orb,
    "brisk": describe_brisk,
}
MATCHERS: Mapping[str, Match] = {
    "dis": flow.flow_matcher(flow.dis_flow),
    "farneback": flow.flow_matcher(flow.farneback_flow),
    "tvl1": flow.flow_matcher(flow.tvl1_flow),
    "ilk": flow.flow_matcher(flow.ilk_flow),
    "deepflow": flow.flow_matcher(flow.deep_flow),
    "pcaflow": flow.flow_matcher(flow.pca_flow),
    "simpleflow": flow.flow_matcher(flow.simple_flow),
    "sparse_to_dense": flow.flow_matcher(flow.sparse_to_dense_flow),
}
TITLES: Mapping[str, str] = {
    "sift": "dense SIFT",
    "daisy": "dense DAISY",
    "hog": "dense HOG",
    "surf": "dense SURF",
    "kaze": "dense KAZE",
    "akaze": "dense AKAZE",
    "orb": "dense ORB",
    "brisk": "dense BRISK",
    "googlenet": "GoogLeNet 4a",
    "dis": "DIS flow",
    "farneback": "Farneback flow",
    "tvl1": "TV-L1 flow",
    "ilk": "iterative Lucas-Kanade",
    "deepflow": "DeepFlow (variational part)",
    "pcaflow": "PCA-Flow",
    "simpleflow": "SimpleFlow",
    "sparse_to_dense": "sparse-to-dense flow",
}
"""Names of the baselines in tables and figures."""


def unavailable(name: str) -> str | None:
    """The reason why a baseline is not available, in one line; None if it is."""
    return why_no_surf() if name == "surf" else None
