import re
from dataclasses import replace

import numpy as np
import torch

from seg.benchmark.harness import Row
from seg.cli.tables import (
    benchmark_table,
    boundary_table,
    class_table,
    comparison_table,
    model_table,
    profile_table,
    run_table,
    size_table,
    table,
)
from seg.evaluation.boundary import Boundary
from seg.evaluation.compare import Comparison
from seg.evaluation.metrics import Scores
from seg.labels import VOC, LabelSet
from seg.models.profile import Group
from seg.models.summary import summary

LABELS = LabelSet(("ground", "road", "water", "nowhere"), tuple((i, 0, 0) for i in range(4)))


def cells(text, name):
    """The cells of the row of that name."""
    row = next(line for line in text.splitlines() if line.strip().startswith(name))
    return row.strip().removeprefix(name).split()


def test_scores_are_shown_per_class_and_then_as_means():
    matrix = np.zeros((4, 4), np.int64)
    matrix[0, 0], matrix[0, 1], matrix[1, 1], matrix[1, 2] = 6000, 2000, 1500, 500
    text = table(Scores(LABELS, matrix, 12))
    assert cells(text, "ground") == ["75.00", "75.00", "8,000"]
    assert cells(text, "road") == ["37.50", "75.00", "2,000"]  # 1500 of 4000
    assert cells(text, "water") == ["0.00", "-", "0"]
    assert cells(text, "nowhere") == ["-", "-", "0"]
    assert "mIoU 56.25 % over the 2 classes present in the ground truth of 12 images" in text
    assert "37.50 % over the 3 classes present or predicted" in text
    assert "pixel accuracy 75.00 %, mean accuracy 75.00 %, frequency-weighted IoU 67.50 %" in text


def test_class_names_are_shown_completely():
    text = table(Scores(VOC, np.eye(21, dtype=np.int64), 1))
    assert [cells(text, name) for name in VOC.names] == [["100.00", "100.00", "1"]] * 21


def test_class_counts_show_images_and_the_share_of_pixels():
    counts = np.zeros((3, 256), np.int64)
    counts[0, [0, 1]], counts[1, 0], counts[2, [0, 255]] = (70, 5), 20, (1, 4)
    text = class_table(counts, LABELS)
    assert cells(text, "ground") == ["3", "91.00"]
    assert cells(text, "road") == ["1", "5.00"]
    assert cells(text, "water") == ["0", "0.00"]
    assert cells(text, "(void)") == ["1", "4.00"]
    assert "nan" not in class_table(counts[:0], LABELS)


def test_image_sizes_are_counted_and_the_extremes_named():
    sizes = np.array([[500, 375], [375, 500], [500, 375], [513, 514], [0, 0], [5000, 100]])
    text = size_table(sizes)
    assert cells(text, "385-513") == ["3", "1"]
    assert cells(text, "514-768") == ["1", "0"]
    assert cells(text, "257-384") == ["0", "3"]
    assert cells(text, "1-128") == ["0", "1"]
    assert cells(text, "4097") == ["and", "more", "1", "0"]
    assert "smallest 375x500, largest 5000x100, most frequent 500x375 (2 of 5)" in text
    assert size_table(sizes[4:5]) == ""


def test_a_network_is_shown_with_its_sizes_parameters_and_multiply_adds():
    conv = torch.nn.Conv2d(3, 1000, 3, padding=1)
    text = model_table(summary(torch.nn.Sequential(conv), 33, 40), 33, 40)
    assert "33x40" in text.splitlines()[0] + text.splitlines()[1]
    assert cells(text, "total") == ["1000x33x40", "28,000", "0.036", "B"]  # 33 * 40 * 27 * 1000


def test_a_profile_shows_time_memory_and_rate_of_each_group():
    groups = [Group("aspp", 0.0125, 0.25, 3 * 2**19, 10**9), Group("resize", 0.0375, 0.75, 0, 0)]
    text = profile_table([*groups, Group("total", 0.05, 1.0, 3 * 2**19, 10**9)], 33, 40)
    assert cells(text, "aspp") == ["12.50", "25.00", "1.5", "1.000", "B", "160.0"]
    assert cells(text, "resize") == ["37.50", "75.00", "0.0", "0.000", "B", "0.0"]
    assert cells(text, "total") == ["50.00", "100.00", "1.5", "1.000", "B", "40.0"]


def test_percents_of_a_comparison_have_a_space():
    scores = Scores(LABELS, np.diag([4, 4, 0, 0]), 2)
    comparison = Comparison(scores, scores, (-0.005, 0.02))
    text = comparison_table(comparison, "a.json", "b.json")
    assert "+0.00 points, 95 % confidence interval -0.50 to +2.00" in text
    assert not re.search(r"\d%", text)


def test_boundary_scores_are_shown_per_class_and_per_width():
    boundary = Boundary(LABELS, widths=(1, 20))
    boundary.intersection[:], boundary.union[:] = [30, 10, 0, 0], [40, 40, 5, 0]
    boundary.present[:] = [True, True, False, False]
    boundary.matrices[1][0, 0] = boundary.matrices[20][0, 0] = 9
    boundary.matrices[20][1, 0] = 1
    text = boundary_table(boundary)
    assert cells(text, "ground") == ["75.00"]
    assert cells(text, "nowhere") == ["-"]
    assert "mean Boundary IoU 50.00 % over the classes present" in text
    assert "mIoU near void borders: 100.00 % (1 px), 45.00 % (20 px)" in text


def test_the_table_of_a_run_fits_80_columns_and_names_every_class():
    iou = {name: index / 21 for index, name in enumerate(VOC.names)} | {"sofa": None, "a class of a very long name": 0.5}
    text = run_table({"miou": 0.4321, "iteration": 1200, "split": "val", "iou": iou})
    assert "best mIoU 43.21 % on val, at iteration 1200" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    for name, value in iou.items():
        assert f"{name[:17]:17} " + ("    -" if value is None else f"{100 * value:5.1f}") in text


def test_the_benchmark_table_shows_ratio_memory_and_share_of_the_limit():
    row = Row("forward", "513x513", 0.5, "a peer", 1.43, 2.86, 812.4, None, 0.4, "product, 9 GFLOP/s")
    where = {"processor": "P", "cores": 2, "threads": 1, "torch": "2.6", "gpu": None}
    text = benchmark_table(where, [row, replace(row, section="loss", ours_s=2.5e-5, limit=None)])
    assert text.splitlines()[0] == "P, 2 cores, 1 thread, torch 2.6, no GPU"
    lines = [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]
    assert ["513x513", "500 ms", "812", "a peer", "1.43 s", "-", "2.86", "80 %"] in lines
    assert ["513x513", "25.0 us", "812", "a peer", "1.43 s", "-", "2.86", "-"] in lines
    long = replace(row, peer="smp DeepLabV3Plus tu-xception65, 512x512", case="batch 2, 321x321, float32")
    folded = benchmark_table(where, [long])
    assert all(word in folded for word in f"{long.peer} {long.case}".split()) and max(map(len, folded.splitlines())) <= 100
    assert "limit of forward: product, 9 GFLOP/s: 400 ms" in text
