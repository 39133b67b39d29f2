import csv
import io
import re
from collections.abc import Callable

import cv2
import numpy as np
import pytest

from evaluation.config import EvaluateConfig
from evaluation.figures import pck_curve
from evaluation.match_pictures import choose_pairs, draw_method
from evaluation.pair import MethodOnPair
from evaluation.pose import PoseError
from evaluation.report import SetReport, html_report, markdown_report, markdown_table, sequence_csv
from evaluation.summary import UCN, MethodResult, PairResult, summarise_set
from preprocessing.sample import Sample

CONFIG = EvaluateConfig(shards=("a",), model="runs/model")


@pytest.fixture
def report(shifted: Callable[..., Sample]) -> SetReport:
    def method(errors: list[float], angle: float) -> MethodResult:
        poses = {"opencv-magsac": (PoseError(angle, 2 * angle), PoseError(angle, 3 * angle))}
        return MethodResult(np.float32(errors), 2, poses)

    pairs = [
        PairResult(0, "a-<0>", "drive-0", {UCN: method([0.5, 2], 1), "sift": method([4, 40], 2)}),
        PairResult(1, "a-1", "drive-1", {UCN: method([0.5, 2], 1), "sift": method([0.5, 2], 9)}),
    ]
    whole, sequences = summarise_set(pairs, CONFIG.thresholds)
    sample = shifted((3, 0))
    found = MethodOnPair(
        sample.matches_N4, np.zeros(len(sample.matches_N4), np.float32), np.ones(0, bool), {}
    )
    pictures = [[draw_method(sample, name, found, 10) for name in (UCN, "sift")]]
    return SetReport("night <drive>", "/data/a", "0f" * 32, whole, sequences, pictures)


def test_markdown_table_has_every_figure_and_marks_the_best(report: SetReport) -> None:
    lines = markdown_table(report.methods, CONFIG.thresholds).splitlines()
    assert lines[0] == (
        "| method | PCK@1 | PCK@3 | PCK@5 | PCK@10 | median error | rotation | translation "
        "| AUC@5° | AUC@10° | AUC@20° |"
    )
    assert lines[2].startswith("| UCN | **50.0 %** | **100.0 %** | **100.0 %** | **100.0 %** |")
    assert lines[3].startswith("| dense SIFT | 25.0 % | 50.0 % | 75.0 % | 75.0 % | 3.0 px |")
    assert len({line.count("|") for line in lines}) == 1


def test_markdown_report_names_every_set(report: SetReport) -> None:
    text = markdown_report([report, report], CONFIG)
    assert text.count("## night <drive>") == 2
    assert "2 pairs, 4 points, the same" in text


def test_page_is_whole_and_needs_nothing_else(report: SetReport) -> None:
    page = html_report([report, report], CONFIG)
    assert page.count("<section>") == 2
    assert "night &lt;drive&gt;" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert not re.search(r"https?://", page)
    assert page.count("data:image/jpeg;base64,") == 4
    assert page.count("data:image/png;base64,") == 2
    assert "100.0 %" in page
    assert "drive-1" in page
    assert "0f" * 32 in page
    assert "None" not in page


def test_page_without_poses_and_pictures_says_so(report: SetReport) -> None:
    pairs = [PairResult(0, "k", "s", {"daisy": MethodResult(np.float32([1]), 1, {})})]
    whole, sequences = summarise_set(pairs, CONFIG.thresholds)
    bare = SetReport("flow", "/data/b", "1", whole, sequences, [])
    page = html_report([bare], EvaluateConfig(shards=("b",)))
    assert "no pose" in page
    assert "AUC@" not in page
    assert "Matches, from" not in page


def test_sequences_csv_holds_every_metric(report: SetReport) -> None:
    rows = list(csv.DictReader(io.StringIO(sequence_csv([report]))))
    assert {row["sequence"] for row in rows} == {"drive-0", "drive-1"}
    one = [
        row
        for row in rows
        if (row["sequence"], row["method"], row["metric"]) == ("drive-0", "sift", "pck/5")
    ]
    assert [float(row["value"]) for row in one] == [50]


def test_curve_is_a_picture_and_reproducible(report: SetReport) -> None:
    png = pck_curve(report.methods, "title")
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[0] > 300
    assert png == pck_curve(report.methods, "title")


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
            i, f"k{i}", "s", {UCN: MethodResult(np.float32([0] * n + [99] * (9 - n)), 0, {})}
        )
        for i, n in enumerate([3, 9, 1, 5, 7])
    ]
    assert [pair.index for pair in choose_pairs(pairs, 3, 10)] == [1, 3, 2]
    assert [pair.index for pair in choose_pairs(pairs, 1, 10)] == [3]
    assert [pair.index for pair in choose_pairs(pairs, 9, 10)] == [1, 4, 3, 0, 2]
    assert choose_pairs(pairs, 0, 10) == []
