"""Hand-made dense descriptors: one file each, one line each in the registry."""

from collections.abc import Mapping

from evaluation.baselines.dense_daisy import describe_daisy
from evaluation.baselines.dense_sift import describe_sift
from evaluation.descriptors import Describe

BASELINES: Mapping[str, Describe] = {
    "sift": describe_sift,
    "daisy": describe_daisy,
}
