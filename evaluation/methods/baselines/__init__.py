"""What learned descriptors are compared with: one line each in the registry.

`ucn.evaluation.methods.baselines.googlenet` makes one more, of weights.
"""

from collections.abc import Mapping

from ucn.evaluation.methods.baselines import optical_flow as flow
from ucn.evaluation.methods.baselines.dense_akaze import describe_akaze
from ucn.evaluation.methods.baselines.dense_brisk import describe_brisk
from ucn.evaluation.methods.baselines.dense_daisy import describe_daisy
from ucn.evaluation.methods.baselines.dense_hog import describe_hog
from ucn.evaluation.methods.baselines.dense_kaze import describe_kaze
from ucn.evaluation.methods.baselines.dense_orb import describe_orb
from ucn.evaluation.methods.baselines.dense_sift import describe_sift
from ucn.evaluation.methods.baselines.dense_surf import describe_surf, why_no_surf
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
"""What the baselines are called in tables and figures."""


def unavailable(name: str) -> str | None:
    """Why this installation lacks a baseline, in a line; None where it has it."""
    return why_no_surf() if name == "surf" else None
