import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from skimage.color import deltaE_ciede2000, rgb2lab

from ucn.evaluation.config import EvaluateConfig, MatchingConfig
from ucn.evaluation.methods.baselines.registry import BASELINES
from ucn.evaluation.methods.build import UCN, method_labels
from ucn.evaluation.report.figures import draw_figures, styles
from ucn.evaluation.report.match_pictures import MatchPicture, choose_pairs, draw_method
from ucn.evaluation.report.output import (
    html_report,
    markdown_report,
    markdown_table,
    parts_csv,
    sequence_csv,
    write_output,
)
from ucn.evaluation.report.set_report import SetReport, all_metrics, report_set
from ucn.evaluation.report.summary import MethodResult, PairResult
from ucn.evaluation.report.tables import (
    class_table,
    main_table,
    other_lengths_table,
    pose_table,
    sequence_table,
    sparse_table,
)
from ucn.evaluation.scores.pose import PoseError
from ucn.evaluation.truth import PointFacts
from ucn.images.draw import GAP
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
    source: str = "kitti-raw"

    @property
    def manifest(self) -> Any:
        return SimpleNamespace(configuration={"source": self.source})


def a_pair(
    index: int, key: str, sequence: str, methods: dict[str, MethodResult], **facts: Any
) -> PairResult:
    number = len(next(iter(methods.values())).errors_N)
    known = {"bounds": {"given": np.zeros(number)}} | facts
    points = PointFacts(np.float64([5, 50])[:number], np.full(number, np.nan), **known)
    return PairResult(index, key, sequence, points, methods)


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
    truth_N4 = sample.matches_N4
    pictures = [[draw_method(sample, name, truth_N4, truth_N4, CONFIG) for name in (UCN, "sift")]]
    return report_set(
        "night <drive>", Place("/data/a", "0f" * 32), pairs, pictures, CONFIG, PUBLISHED
    )


def bird_pairs() -> list[PairResult]:
    """Two pairs of labelled keypoints of two species."""

    def of(species: str) -> dict[str, Any]:
        lengths = {"side": 100.0, "diagonal": 200.0, "box": 50.0}
        return {"classes_N": (species,) * 2, "lengths": lengths, "bounds": {}}

    def found(errors: list[float]) -> MethodResult:
        return MethodResult(np.float32(errors), 0, {})

    wren = {UCN: found([9, 19]), "sift": found([4, 40])}
    crow = {UCN: found([0, 60]), "sift": found([60, 60])}
    return [
        a_pair(0, "wren-0", "wren", wren, **of("wren")),
        a_pair(1, "crow-0", "crow", crow, **of("crow")),
    ]


def report_birds(source: str, pairs: list[PairResult], **published: Any) -> SetReport:
    return report_set("birds", Place("/data/b", "1", source), pairs, [], CONFIG, published)


def test_names_are_those_of_the_contract(report: SetReport) -> None:
    metrics = all_metrics([report, replace(report, name="day")], {"liberty": {UCN: 12.5}}, CONFIG)
    contract = {f"pck/{t}" for t in (1, 3, 5, 10)} | {
        f"pose/{name}"
        for name in ("rotation_deg_median", "translation_deg_median", "auc_5", "auc_10", "auc_20")
    }
    for prefix in ("", "baseline/sift/", "day/", "day/baseline/sift/"):
        assert {f"{prefix}{name}" for name in contract} <= set(metrics)
    assert metrics["pose/rotation_deg_median"] == metrics["day/pose/rotation_deg_median"] == 1
    assert metrics["baseline/sift/pck/5"] == 75
    assert metrics["patches/liberty/fpr95"] == 12.5


def test_sequences_are_apart_and_order_does_not_matter() -> None:
    pairs = [
        a_pair(i, f"k{i}", f"drive-{i % 2}", {"sift": MethodResult(np.float32([i, i]), 1, {})})
        for i in range(6)
    ]
    one, again = (
        report_set("a", Place("/data/a", "1"), found, [], CONFIG, {})
        for found in (pairs, pairs[::-1])
    )
    assert (one.methods, one.sequences) == (again.methods, again.sequences)
    assert list(one.sequences) == ["drive-0", "drive-1"]
    assert one.methods[0].metrics["error_px_mean"] == 2.5
    assert [rows[0].metrics["error_px_mean"] for rows in one.sequences.values()] == [2, 3]


def test_pictures_are_in_the_order_of_what_they_show(report: SetReport) -> None:
    drawn = report.pictures[0]
    shown = [[replace(one, percent=percent) for one in drawn] for percent in (20.0, 90.0, 40.0)]
    one = report_set("a", Place("/data/a", "1"), bird_pairs(), shown, CONFIG, {})
    assert [pictures[0].percent for pictures in one.pictures] == [90, 40, 20]


def test_markdown_table_has_every_figure_and_marks_the_best(report: SetReport) -> None:
    lines = markdown_table(main_table(report, CONFIG)).splitlines()
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
    sparse = markdown_table(sparse_table(report, CONFIG)).splitlines()
    assert sparse[0].startswith("| method | given PCK@1 |")
    assert sparse[3].startswith("| dense SIFT | 25.0 % |")


def test_equal_values_are_not_marked(report: SetReport) -> None:
    rows = sequence_table(report, CONFIG).rows
    titles = [row.title for row in rows]
    assert titles[:3] == ["drive-0: 1 pair, 2 points", "UCN", "dense SIFT"]
    assert titles[3:] == ["drive-1: 1 pair, 2 points", "UCN", "dense SIFT"]
    marks = [list(row.best) for row in rows if row.cells]
    assert marks[0][:5] == [True] * 5  # 0.5 and 2 px against 4 and 40 px
    assert marks[2][:5] == marks[3][:5] == [False] * 5  # 0.5 and 2 px both


def test_pose_table_names_the_queries(report: SetReport) -> None:
    def method(angle: float, own: int | None) -> MethodResult:
        poses = {"poselib": (PoseError(angle, 2),), "stored:poselib": (PoseError(angle + 1, 2),)}
        return MethodResult(np.float32([1, 2]), 2, poses, own=own)

    methods = {UCN: method(3, None), "sift": method(5, 40)}
    config = CONFIG.model_copy(
        update={"matching": MatchingConfig(pose_queries=("sift", "stored")), "sparse": ()}
    )
    one = report_set(
        "a", Place("/data/a", "1"), [a_pair(0, "k", "s", methods, bounds={})], [], config, {}
    )
    table = pose_table(one, config)
    assert list(table.headings[:3]) == ["estimator", "queries", "rotation"]
    assert [(row.title, *row.cells[:2]) for row in table.rows] == [
        ("UCN",),
        ("poselib", "SIFT keypoints", "3.00°"),
        ("poselib", "stored points", "4.00°"),
        ("dense SIFT",),
        ("poselib", "own keypoints", "5.00°"),
    ]
    main = main_table(one, config)
    own = main.headings.index("own matches a pair") - 1
    assert [row.cells[own] for row in main.rows[:2]] == ["–", "40"]
    assert "from matches of SIFT keypoints on 1 pair" in markdown_report([one], {}, config)


def test_markdown_report_names_every_set(report: SetReport) -> None:
    text = markdown_report([report, report], {"liberty": {UCN: 12.34}}, CONFIG)
    assert text.count("## night <drive>") == 2
    assert "2 pairs, 4 points, the same" in text
    assert text.endswith("| FPR95 | liberty |\n|:--|--:|\n| UCN | 12.3 % |\n")


def test_page_is_whole_and_needs_nothing_else(report: SetReport) -> None:
    page = html_report([report] * 2, [draw_figures(report)] * 2, {"liberty": {UCN: 12.34}}, CONFIG)
    assert page.count("<section>") == 3
    assert "night &lt;drive&gt;" in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert not re.search(r"https?://", page)
    assert page.count("data:image/jpeg;base64,") == 4
    assert page.count("data:image/png;base64,") == 2 * (1 + 2)  # PCK, and filters of each method
    assert "30 to 100 px" in page
    assert 'stroke-dasharray="4.0 1.5"' in page  # the line of dense SIFT in the figure
    assert "dense SURF: " in page
    assert "a perfect matcher finds 100.0 % within 10 px" in page
    assert "100.0 %" in page
    assert "drive-1" in page
    assert "48.9 %" in page
    assert "0f" * 32 in page
    assert "12.3 %" in page
    assert "None" not in page


def test_page_without_poses_and_pictures_says_so() -> None:
    config = EvaluateConfig(shards=("b",), baselines=("daisy",))
    pairs = [a_pair(0, "k", "s", {"daisy": MethodResult(np.float32([1]), 1, {})}, bounds={})]
    flow = report_set("flow", Place("/data/b", "1"), pairs, [], config, {})
    page = html_report([flow], [draw_figures(flow)], {}, config)
    assert "no pose" in page
    assert "AUC@" not in page
    assert "Matches, from" not in page
    assert "<h3>" not in page


@pytest.mark.parametrize(
    ("source", "heading", "figures"),
    [
        # Errors of 9, 19, 0, 60 px relative to 100 and to 200 px.
        ("pascal", "PCK@0.1 of max(w, h)", ["25.0 %", "25.0 %", "50.0 %"]),
        ("cub", "PCK@0.1 of the diagonal", ["25.0 %", "50.0 %", "75.0 %"]),
    ],
)
def test_labelled_keypoints_are_scored_at_alpha(
    source: str, heading: str, figures: list[str]
) -> None:
    birds = report_birds(source, bird_pairs())
    table = main_table(birds, CONFIG)
    assert table.headings[1:] == [
        heading.replace("0.1", alpha) for alpha in ("0.025", "0.05", "0.1")
    ]
    assert list(table.rows[0].cells) == figures
    others = other_lengths_table(birds, CONFIG)
    assert len(others.headings) == 1 + 2 * 3
    assert heading not in others.headings
    page = html_report([birds], [draw_figures(birds)], {}, CONFIG)
    assert heading in page
    text = re.sub(r"base64,[^\"]*", "", page.split("<section>")[1])
    assert not [of_pixels for of_pixels in (" px", "displacement", "no pose") if of_pixels in text]
    metrics = all_metrics([birds], {}, CONFIG)
    assert {"pck/10", "error_px_median", "pck_side/0.1", "pck_diagonal/0.1"} <= set(metrics)


def test_one_pair_has_no_interval() -> None:
    both = markdown_report([report_birds("cub", bird_pairs())], {}, CONFIG)
    one = markdown_report([report_birds("cub", bird_pairs()[:1])], {}, CONFIG)
    assert "95 % interval" in both
    assert "95 % interval" not in one


def test_class_table_has_a_row_a_class_and_their_mean() -> None:
    table = class_table(report_birds("cub", bird_pairs()))
    assert list(table.headings) == ["class", "points", "UCN", "dense SIFT"]
    assert [(row.title, *row.cells) for row in table.rows] == [
        ("crow", "2", "50.0", "0.0"),
        ("wren", "2", "100.0", "50.0"),
        ("mean over 2 classes", "", "75.0", "25.0"),
    ]
    assert [list(row.best) for row in table.rows] == [[False, True, False]] * 3


def test_alpha_curve_replaces_the_pixel_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    drawn = []
    monkeypatch.setattr(
        Axes, "plot", lambda self, x, y, **style: drawn.append((x, y, style["label"]))
    )
    monkeypatch.setattr(Axes, "legend", lambda self, **style: None)
    birds = report_birds("cub", bird_pairs())
    draw_figures(birds)
    assert [label for _, _, label in drawn] == ["UCN", "dense SIFT"]
    assert drawn[0][0][-1] == 0.15
    assert (
        dict(zip(*drawn[0][:2], strict=True))[0.1] == birds.methods[0].metrics["pck_diagonal/0.1"]
    )


def test_mixed_set_has_pixels_and_alphas() -> None:
    plain = a_pair(
        2,
        "k",
        "street",
        {UCN: MethodResult(np.float32([1]), 0, {}), "sift": MethodResult(np.float32([30]), 0, {})},
        bounds={},
    )
    mixed = report_birds("cub", [*bird_pairs(), plain])
    table = main_table(mixed, CONFIG)
    assert table.headings[1:5] == ["PCK@1", "PCK@3", "PCK@5", "PCK@10"]
    assert table.rows[0].cells[3] == "60.0 %"  # three of the five points of all pairs
    alpha = list(table.headings).index("PCK@0.1 of the diagonal") - 1
    assert table.rows[0].cells[alpha] == "75.0 %"  # three of the four labelled points
    classes = class_table(mixed)
    assert [row.title for row in classes.rows] == ["crow", "wren", "mean over 2 classes"]
    street = sequence_table(mixed, CONFIG).rows[4]
    assert (street.title, street.cells[3], street.cells[alpha]) == ("UCN", "100.0 %", "–")
    page = html_report([mixed], [draw_figures(mixed)], {}, CONFIG)
    assert "PCK by displacement" in page
    assert "by class" in page


def test_a_method_without_any_answer_keeps_its_rows(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"output": tmp_path})
    poses = {"opencv-magsac": (PoseError(180.0, 180.0),)}

    def method(errors: list[float]) -> MethodResult:
        found = np.float32(errors)
        return MethodResult(
            found, 0, poses, {"given": np.zeros(0, np.float32)}, {"similarity": found}
        )

    nothing = {"given": np.zeros(0, np.float32)}
    pairs = [
        a_pair(0, "k", "s", {UCN: method([1, 2]), "sift": method([np.inf] * 2)}, bounds=nothing)
    ]
    quiet = report_set("night", Place("/data/a", "1"), pairs, [], config, {})
    write_output([quiet], {}, all_metrics([quiet], {}, config), config)
    table = main_table(quiet, config)
    assert list(table.headings[:3]) == ["method", "answered", "PCK@1"]
    assert [row.title for row in table.rows[:2]] == ["UCN", "dense SIFT"]
    assert list(table.rows[0].cells[:2]) == ["100.0 %", "50.0 %"]
    assert list(table.rows[1].cells[:6]) == [*["0.0 %"] * 5, "–"]
    sparse = sparse_table(quiet, config)
    assert [list(row.cells) for row in sparse.rows] == [["–"] * 4] * 2
    page = (tmp_path / "report.html").read_text()
    assert "0 points at keypoints of given" in page
    assert "dense SIFT: no correct match" in page
    assert {path.name for path in (tmp_path / "night").iterdir()} == {"pck.png", "filters-ucn.png"}


def test_figures_and_pictures_are_those_of_this_evaluation(
    report: SetReport, tmp_path: Path
) -> None:
    def written(one: SetReport) -> set[str]:
        write_output([one], {}, {}, config)
        found = [*tmp_path.rglob("*.png"), *tmp_path.rglob("*.jpg")]
        return {str(path.relative_to(tmp_path)) for path in found}

    config = CONFIG.model_copy(update={"output": tmp_path})
    own = tmp_path / "notes" / "photo.jpg"
    own.parent.mkdir()
    own.touch()
    drawn = report.pictures[0]
    before = written(replace(report, name="night", pictures=[drawn, drawn]))
    assert {"night/filters-sift.png", "night/matches/1-sift.jpg"} <= before
    fewer = replace(report, name="day", pictures=[drawn[:1]], filters={UCN: report.filters[UCN]})
    assert written(replace(fewer, name="night")) == {
        "notes/photo.jpg",
        "night/pck.png",
        "night/filters-ucn.png",
        "night/matches/0-ucn.jpg",
    }
    assert written(fewer) == {
        "notes/photo.jpg",
        "day/pck.png",
        "day/filters-ucn.png",
        "day/matches/0-ucn.jpg",
    }


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


def test_parts_csv_has_every_length_of_labelled_keypoints() -> None:
    text = parts_csv([report_birds("cub", bird_pairs())], CONFIG.thresholds)
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["quantity"] == "class"]
    wren = next(row for row in rows if (row["part"], row["method"]) == ("wren", UCN))
    names = ("points", "pck/10", "pck_side/0.1", "pck_diagonal/0.1", "pck_box/0.1")
    assert [float(wren[name]) for name in names] == [2, 50, 50, 100, 0]
    assert len(rows) == 2 * 2


def test_curve_is_a_picture_and_reproducible(report: SetReport) -> None:
    png = draw_figures(report)["pck.png"]
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape[0] > 300
    assert png == draw_figures(report)["pck.png"]


def test_lines_of_all_methods_are_apart() -> None:
    config = EvaluateConfig(
        shards=("a",),
        model=tuple(f"m{n}=a" for n in range(8)),
        baselines=tuple(BASELINES.builtin),
        googlenet_weights=Path("w"),
        external=tuple(f"e{n}=a" for n in range(10)),
    )
    lines = styles({label.name: label for label in method_labels(config)})
    assert len(set(lines.values())) == len(lines) == 8 + len(BASELINES.builtin) + 10
    # Lines with the same dashes differ in colour, from each other and from the paper.
    for dashes in {line.dashes for line in lines.values()}:
        same = [line.colour for line in lines.values() if line.dashes == dashes]
        lab_M3 = rgb2lab(np.array([to_rgb(colour) for colour in (*same, "white")]))
        difference_MM = deltaE_ciede2000(lab_M3[:, None], lab_M3[None])
        assert difference_MM[np.triu_indices(len(lab_M3), 1)].min() > 15


def colour_at(picture: MatchPicture, x: int, y: int) -> str:
    image = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
    blue, green, red = image[y, x].tolist()
    return "grey" if max(blue, green, red) < 60 else "green" if green > red else "red"


def black_sample(**metadata: Any) -> Sample:
    """Two black images of 100 x 80 pixels, side by side in a picture."""
    black = np.zeros((80, 100), np.uint8)
    return Sample("k", black, black, np.zeros((0, 4), np.float32), metadata)


def test_right_matches_are_green_and_wrong_ones_red() -> None:
    truth = np.float32([[10, 10, 10, 10], [60, 40, 60, 40], [90, 70, 90, 70]])
    found = np.float32([[10, 10, 20, 10], [60, 40, 60, 50.5], [90, 70, np.nan, np.nan]])
    picture = draw_method(black_sample(kind="flow"), UCN, found, truth, CONFIG)
    assert picture.percent == pytest.approx(100 / 3)
    assert str(picture.criterion) == "10 px"
    places = [(10, 10), (60, 40), (90, 70)]
    assert [colour_at(picture, *place) for place in places] == ["green", "red", "grey"]


@pytest.mark.parametrize(("source", "colour"), [("pascal", "red"), ("cub", "green")])
def test_labelled_keypoints_are_coloured_by_alpha_and_their_truth_is_drawn(
    source: str, colour: str
) -> None:
    # 12 px are 0.12 of the side and 0.094 of the diagonal.
    truth, found = np.float32([[10, 10, 50, 40]]), np.float32([[10, 10, 62, 40]])
    sample = black_sample(kind="semantic", source=source)
    picture = draw_method(sample, UCN, found, truth, CONFIG)
    assert picture.percent == (100 if colour == "green" else 0)
    second = 100 + GAP  # where image 1 starts
    # The match in both images, the ring around the truth, and the line between.
    places = [(10, 10), (second + 62, 40), (second + 44, 40), (second + 53, 40)]
    assert [colour_at(picture, *place) for place in places] == [colour] * 4
    assert colour_at(picture, second + 50, 43) == "grey"  # within the ring


def test_a_picture_without_any_match_is_drawn() -> None:
    truth = np.float32([[10, 10, 50, 40]])
    found = np.float32([[10, 10, np.nan, np.nan]])
    for kind in ("flow", "semantic"):
        assert draw_method(black_sample(kind=kind), UCN, found, truth, CONFIG).percent == 0


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


def test_pairs_of_labelled_keypoints_are_chosen_by_alpha() -> None:
    # 20 px are right in the larger image only.
    pairs = [
        a_pair(
            i, f"k{i}", "s", {UCN: MethodResult(np.float32([20]), 0, {})}, lengths={"side": side}
        )
        for i, side in enumerate([100.0, 300.0])
    ]
    assert [pair.index for pair in choose_pairs(pairs, 2, 10)] == [1, 0]
