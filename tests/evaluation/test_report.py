import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np
import pytest

from ucn.evaluation.config import Baseline, EvaluateConfig
from ucn.evaluation.methods.build import UCN, method_labels
from ucn.evaluation.pair import MethodOnPair
from ucn.evaluation.report.figures import colours, pck_curve
from ucn.evaluation.report.match_pictures import choose_pairs, draw_method
from ucn.evaluation.report.page import (
    columns,
    html_report,
    markdown_report,
    markdown_table,
    parts_csv,
    sequence_csv,
    sparse_columns,
)
from ucn.evaluation.report.set_report import SetReport, report_set
from ucn.evaluation.report.summary import MethodResult, PairResult
from ucn.evaluation.scores.pose import PoseError
from ucn.evaluation.truth import PointFacts
from ucn.preprocessing.sample import Sample

CONFIG = EvaluateConfig(
    shards=("a",), model=("runs/model",), baselines=("sift", "surf"), sparse=("given",)
)


PUBLISHED = {"SIFT of 2004": {"pck/10": 48.9}, "nothing here": {"mma/3": 50.0}}


@dataclass(frozen=True)
class Place:
    """What a report tells of a dataset."""

    uri: str
    digest: str


def a_pair(index: int, key: str, sequence: str, methods: dict[str, MethodResult]) -> PairResult:
    number = len(next(iter(methods.values())).errors_N)
    facts = PointFacts(
        np.float64([5, 50])[:number], np.full(number, np.nan), bounds={"given": np.zeros(number)}
    )
    return PairResult(index, key, sequence, facts, methods)


@pytest.fixture
def report(shifted: Callable[..., Sample]) -> SetReport:
    def method(errors: list[float], angle: float) -> MethodResult:
        poses = {"opencv-magsac": (PoseError(angle, 2 * angle), PoseError(angle, 3 * angle))}
        found = np.float32(errors)
        return MethodResult(found, 2, poses, {"given": found}, {"similarity": -found})

    pairs = [
        a_pair(0, "a-<0>", "drive-0", {UCN: method([0.5, 2], 1), "sift": method([4, 40], 2)}),
        a_pair(1, "a-1", "drive-1", {UCN: method([0.5, 2], 1), "sift": method([0.5, 2], 9)}),
    ]
    sample = shifted((3, 0))
    found = MethodOnPair(
        sample.matches_N4, np.zeros(len(sample.matches_N4), np.float32), np.ones(0, bool), {}
    )
    pictures = [[draw_method(sample, name, found, 10) for name in (UCN, "sift")]]
    return report_set(
        "night <drive>", Place("/data/a", "0f" * 32), pairs, pictures, CONFIG, PUBLISHED
    )


def test_markdown_table_has_every_figure_and_marks_the_best(report: SetReport) -> None:
    lines = markdown_table(report, columns(report.methods, CONFIG)).splitlines()
    assert lines[0] == (
        "| method | PCK@1 | PCK@3 | PCK@5 | PCK@10 | median error | rotation | translation "
        "| AUC@5° | AUC@10° | AUC@20° |"
    )
    assert lines[2].startswith("| UCN | **50.0 %** | **100.0 %** | **100.0 %** | **100.0 %** |")
    assert lines[3].startswith("| dense SIFT | 25.0 % | 50.0 % | 75.0 % | 75.0 % | 3.0 px |")
    assert lines[4].startswith("| dense SURF: ")
    assert lines[5].startswith("| *SIFT of 2004* | – | – | – | 48.9 % |")
    assert len(lines) == 6
    assert len({line.count("|") for line in lines}) == 1
    sparse = markdown_table(report, sparse_columns(report.methods, CONFIG)).splitlines()
    assert sparse[0].startswith("| method | given PCK@1 |")
    assert sparse[3].startswith("| dense SIFT | 25.0 % |")


def test_markdown_report_names_every_set(report: SetReport) -> None:
    text = markdown_report([report, report], {"liberty": {UCN: 12.34}}, CONFIG)
    assert text.count("## night <drive>") == 2
    assert "2 pairs, 4 points, the same" in text
    assert text.endswith("| FPR95 | liberty |\n|:--|--:|\n| UCN | 12.3 % |\n")


def test_page_is_whole_and_needs_nothing_else(report: SetReport) -> None:
    page = html_report([report, report], {"liberty": {UCN: 12.34}}, CONFIG)
    assert page.count("<section>") == 3
    assert "night &lt;drive&gt;" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert not re.search(r"https?://", page)
    assert page.count("data:image/jpeg;base64,") == 4
    assert page.count("data:image/png;base64,") == 2 * (1 + 2)  # PCK, and filters of each method
    assert "30 to 100 px" in page
    assert "dense SURF: " in page
    assert "a perfect matcher finds 100.0 % within 10 px" in page
    assert "100.0 %" in page
    assert "drive-1" in page
    assert "48.9 %" in page
    assert "0f" * 32 in page
    assert "12.3 %" in page
    assert "None" not in page


def test_page_without_poses_and_pictures_says_so(report: SetReport) -> None:
    config = EvaluateConfig(shards=("b",), baselines=("daisy",))
    pairs = [a_pair(0, "k", "s", {"daisy": MethodResult(np.float32([1]), 1, {})})]
    page = html_report(
        [report_set("flow", Place("/data/b", "1"), pairs, [], config, {})], {}, config
    )
    assert "no pose" in page
    assert "AUC@" not in page
    assert "Matches, from" not in page
    assert "<h3>" not in page


def test_sequences_csv_holds_every_metric(report: SetReport) -> None:
    rows = list(csv.DictReader(io.StringIO(sequence_csv([report]))))
    assert {row["sequence"] for row in rows} == {"drive-0", "drive-1"}
    one = [
        row
        for row in rows
        if (row["sequence"], row["method"], row["metric"]) == ("drive-0", "sift", "pck/5")
    ]
    assert [float(row["value"]) for row in one] == [50]


def test_parts_csv_holds_every_part(report: SetReport) -> None:
    rows = list(csv.DictReader(io.StringIO(parts_csv([report], CONFIG.thresholds))))
    assert [(row["part"], row["method"], row["points"]) for row in rows] == [
        ("0 to 10 px", UCN, "2"),
        ("0 to 10 px", "sift", "2"),
        ("30 to 100 px", UCN, "2"),
        ("30 to 100 px", "sift", "2"),
    ]
    assert [float(row["pck/3"]) for row in rows] == [100, 50, 100, 50]


def test_curve_is_a_picture_and_reproducible(report: SetReport) -> None:
    png = pck_curve(report.methods, report.labels, "title")
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[0] > 300
    assert png == pck_curve(report.methods, report.labels, "title")


def test_colours_are_apart() -> None:
    names = get_args(Baseline)
    config = CONFIG.model_copy(update={"baselines": names, "model": ("a", "b", "c", "d")})
    palette = colours({label.name: label for label in method_labels(config)})
    assert len(set(palette.values())) == len(palette) == len(names) + 4


def test_right_matches_are_green_and_wrong_ones_red(shifted: Callable[..., Sample]) -> None:
    sample = shifted((3, 0))
    sample = Sample(
        "k", np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint8), sample.matches_N4, {}
    )
    matches = np.float32([[10, 10, 10, 10], [60, 40, 60, 40]])
    found = MethodOnPair(matches, np.float32([10, 10.5]), np.ones(2, bool), {})
    picture = draw_method(sample, UCN, found, 10)
    assert picture.percent == 50
    image = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
    blue, green, red = image[10, 10].tolist()
    assert green > max(red, blue)
    blue, green, red = image[40, 60].tolist()
    assert red > max(green, blue)


def test_pairs_are_chosen_from_best_to_worst() -> None:
    pairs = [
        PairResult(
            i,
            f"k{i}",
            "s",
            PointFacts(np.zeros(9), np.zeros(9)),
            {UCN: MethodResult(np.float32([0] * n + [99] * (9 - n)), 0, {})},
        )
        for i, n in enumerate([3, 9, 1, 5, 7])
    ]
    assert [pair.index for pair in choose_pairs(pairs, 3, 10)] == [1, 3, 2]
    assert [pair.index for pair in choose_pairs(pairs, 1, 10)] == [3]
    assert [pair.index for pair in choose_pairs(pairs, 9, 10)] == [1, 4, 3, 0, 2]
    assert choose_pairs(pairs, 0, 10) == []
