"""From rows to a judgement: roles, blocks, nulls and tables of rows that are made by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from neurocli.systems.calcium.config import CalciumTaskBlock
from neurocli.systems.calcium.decoding import phase
from neurocli.systems.calcium.fitness import attainable_bits
from neurocli.systems.calcium.judging import Judgement, found_fit
from neurocli.systems.calcium.labels import LabelSpec
from neurocli.systems.calcium.samples import About, Piece

MOVIE = LabelSpec("movie_one", "movie", 40, 3)
DIRECTION = LabelSpec("direction", "class", 4)
PLACE = LabelSpec("place", "number")
TASK = CalciumTaskBlock(time_offsets=(2,))
START_S, RATE_HZ = 5.0, 20.0


def about(specs: tuple[LabelSpec, ...] = (MOVIE,), n: int = 1) -> About:
    """Return what is known of `n` sessions."""
    return About(tuple("abc"[:n]), specs, len(specs), (RATE_HZ,) * n)


def row(
    session: int,
    role: str,
    x: Any,
    labels: dict[str, Any],
    start: int,
    known: About,
    key: Any = None,
) -> dict[str, Any]:
    """Return one row of an evaluation, windows of one frame each."""
    embedding = np.asarray(x, dtype=np.float32)
    centre = start + np.arange(len(embedding))
    value = next(iter(labels.values())) if labels else np.zeros(len(centre))
    return {
        "participant": f"{known.names[session]}/test",
        "subject": known.names[session],
        "start": start,
        "piece": Piece(session, role, "test", start, start + len(centre)),
        "embedding": embedding,
        "scale": 1.0,
        "about": known,
        "centre": centre,
        "time_s": START_S + centre / RATE_HZ,
        "labels": {name: np.asarray(own) for name, own in labels.items()},
        "key": np.zeros(len(centre), dtype=np.int64) if key is None else np.asarray(key),
        "value": np.asarray(value, dtype=np.float64).reshape(len(centre), -1),
    }


def circle(n: int = 40) -> npt.NDArray[np.float64]:
    return phase(np.arange(n) % 40, 40)


def movie_rows(known: About, session: int = 0, x: Any = None) -> list[dict[str, Any]]:
    """Return two presentations to fit on and one to judge, each of 40 frames, with no noise."""
    found = circle() if x is None else x
    frames = {"movie_one": np.arange(40)}
    roles = ("fit", "fit", "judge")
    return [row(session, role, found, frames, 100 * i, known) for i, role in enumerate(roles)]


def judged(rows: list[dict[str, Any]], objective: str = "labels", n_refs: int = 16) -> Judgement:
    return Judgement(rows, objective, TASK, n_refs=n_refs)


def test_a_perfect_embedding_of_a_movie() -> None:
    found = judged(movie_rows(about())).summary()
    assert found.metrics["decode_accuracy"] == 1.0
    # Ridge shrinks by 80 / (80 + 1), so the unexplained share is 1 / 81 squared, 0.00015.
    assert found.metrics["decode_r2"] == pytest.approx(1 - 1 / 81**2, abs=1e-6)
    assert found.details["attainable_bits"] == attainable_bits(2, 1.0)
    bits = found.metrics["goodness_of_fit"]
    assert bits == pytest.approx((math.log(16) - found.metrics["infonce"]) / math.log(2))
    assert found.details["goodness_of_fit_share"] == pytest.approx(bits / attainable_bits(2, 1.0))
    assert found.n == 40  # only what is judged is counted
    assert found.unit == "windows"


def test_nulls_are_at_the_share_of_the_circle_that_counts_as_right() -> None:
    found = judged(movie_rows(about())).summary()
    # Perfect decoding: of turns of 1 to 39 frames, 3 at either end are still within tolerance,
    # 6 / 39 = 0.154; of shuffled frames 7 of 40 are right by chance, 0.175. Twenty draws.
    assert found.baselines["null_shift"]["decode_accuracy"] in {i / 20 for i in range(9)}
    assert found.baselines["null_shuffle"]["decode_accuracy"] == pytest.approx(7 / 40, abs=0.05)


def test_controls_tell_how_far_above_them_the_accuracy_lies() -> None:
    task = TASK.model_copy(update={"n_nulls": 400})
    found = Judgement(movie_rows(about()), "labels", task, n_refs=16).summary()
    # By chance 7 of 40 frames are right. Of a random permutation the number of hits has the
    # variance of a matching: with 7 allowed places per row and column it is 7 (1 - 7 / 40) 40 / 39.
    spread = math.sqrt(7 * (1 - 7 / 40) * 40 / 39) / 40
    expected = (1 - 7 / 40) / spread
    assert found.details["null_z"]["null_shuffle"] == pytest.approx(expected, rel=0.1)
    assert set(found.details["null_z"]) == set(found.baselines) & {"null_shift", "null_shuffle"}


def test_one_session_has_no_consistency_and_says_so() -> None:
    found = judged(movie_rows(about())).summary()
    assert math.isnan(found.metrics["consistency"])
    assert any("two sessions" in note for note in found.notes)


def test_rotated_sessions_agree_and_their_order_does_not_matter() -> None:
    known = about(n=2)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    rows = movie_rows(known, 0) + movie_rows(known, 1, circle() @ turn)
    found = judged(rows).summary()
    # Twenty even frames fit the map: ridge shrinks by 20 / (20 + 1).
    assert found.metrics["consistency"] == pytest.approx(1 - 1 / 21**2, abs=1e-4)
    swapped = judged(movie_rows(known, 1) + movie_rows(known, 0, circle() @ turn)).summary()
    for name in ("consistency", "decode_accuracy", "decode_r2"):
        assert found.metrics[name] == pytest.approx(swapped.metrics[name], abs=1e-6)
    assert found.per_subject is not None
    assert [line["participant"] for line in found.per_subject] == ["a/test", "b/test"]


def test_accuracy_is_the_mean_over_sessions_not_over_windows() -> None:
    known = about((DIRECTION,), 2)
    fit = np.eye(4)
    rows = []
    for session, asked in ((0, [0]), (1, [1, 1, 1])):
        labels = {"direction": np.arange(4)}
        rows.append(row(session, "fit", fit, labels, 0, known, np.arange(4)))
        for place, shown in enumerate(asked):
            # Session a is right once; session b sees class 1 and shows class 2, three times wrong.
            x = fit[[shown if session == 0 else 2]]
            rows.append(row(session, "judge", x, {"direction": [shown]}, 50 + 10 * place, known))
    own = judged(rows)
    assert own.summary().metrics["decode_accuracy"] == 0.5


def test_rows_that_come_twice_count_once() -> None:
    rows = movie_rows(about())
    assert judged([*rows, *rows]).summary().n == 40


def test_the_table_tells_time_by_the_sessions_clock() -> None:
    table = judged(movie_rows(about())).window_table()
    assert len(table) == 40
    # The judged presentation starts at frame 200; the clock starts at 5 s and has 20 frames a
    # second: 5 + 200 / 20 = 15 s, as embeddings/*.time_s.npy say of the same windows.
    assert table[0] == {
        "session": "a", "label": "movie_one", "frame": 200, "seconds": 15.0,
        "target": 0.0, "predicted": 0.0,
    }  # fmt: skip
    arrays = judged(movie_rows(about())).summary().arrays
    assert [line["seconds"] for line in table] == arrays["a.time_s"].tolist()


def test_several_columns_are_one_cell() -> None:
    known = about((PLACE,))
    values = np.column_stack([np.linspace(0, 1, 30), np.linspace(1, 0, 30)])
    rows = [row(0, role, values, {"place": values}, at, known) for role, at in (
        ("fit", 0), ("judge", 50))]  # fmt: skip
    own = judged(rows)
    assert own.window_table()[0]["target"] == "0 1"
    found = own.summary()
    assert math.isnan(found.metrics["decode_accuracy"])  # numbers are neither right nor wrong
    assert found.metrics["decode_r2"] > 0.99
    assert not found.baselines


def test_windows_without_a_label_are_left_out() -> None:
    known = about()
    rows = movie_rows(known)
    rows[2]["labels"]["movie_one"] = np.where(np.arange(40) < 30, np.arange(40), -1)
    own = judged(rows)
    assert len(own.window_table()) == 30
    assert own.summary().details["decoding"][0]["n"] == 30
    rows[2]["labels"]["movie_one"] = np.full(40, -1)
    none = judged(rows)
    assert none.window_table() == []
    assert math.isnan(none.summary().metrics["decode_accuracy"])


def test_while_training_there_is_a_loss_and_nothing_to_decode_with() -> None:
    rows = [own for own in movie_rows(about()) if own["piece"].role == "judge"]
    assert not found_fit(rows)
    found = judged(rows).summary()
    assert math.isfinite(found.metrics["infonce"])
    assert math.isnan(found.metrics["decode_accuracy"])
    assert not found.arrays
    assert found.details["decoding"] == []


def test_a_class_of_one_session_alone_is_no_obstacle() -> None:
    known = about((DIRECTION,), 2)
    rng = np.random.default_rng(0)
    keys = (np.repeat([0, 1, 2], 10), np.repeat([0, 1, 1], 10))
    rows = [
        row(s, "judge", rng.normal(size=(30, 3)), {"direction": key}, 0, known, key)
        for s, key in enumerate(keys)
    ]
    assert math.isfinite(judged(rows).summary().metrics["infonce"])
    rows[1]["key"] = np.full(30, 3)
    found = judged(rows).summary()
    assert math.isnan(found.metrics["infonce"])
    assert any("no fixed pairs in this part" in note for note in found.notes)


def test_a_session_without_judged_segments_is_named() -> None:
    known = about(n=2)
    rows = [*movie_rows(known, 0), *movie_rows(known, 1)[:2]]
    found = judged(rows).summary()
    assert math.isnan(found.metrics["goodness_of_fit"])
    assert any("session b has no segment" in note for note in found.notes)
    assert found.metrics["decode_accuracy"] == 1.0


def test_features_of_other_widths_are_decoded_and_not_compared() -> None:
    # Raw frames of sessions with other neurons: no loss between them, but decoding in each.
    known = about(n=2)
    wide = np.column_stack([circle(), np.zeros(40)])
    found = judged(movie_rows(known, 0) + movie_rows(known, 1, wide)).summary(is_baseline=True)
    assert math.isnan(found.metrics["infonce"])
    assert found.metrics["decode_accuracy"] == 1.0
    assert found.metrics["consistency"] == pytest.approx(1, abs=0.01)


def test_the_objective_time_judges_pairs_in_time() -> None:
    # Unit steps on the circle: a window and the one two frames later have the cosine of 18 degrees,
    # so the loss is log of the mean over negatives, ln 16 + ln I0(1) on average, less cos 18.
    rows = [own for own in movie_rows(about()) if own["piece"].role == "judge"]
    found = judged(rows, "time").summary()
    expected = math.log(16) + math.log(float(np.i0(1.0))) - math.cos(math.radians(18))
    # 8 draws of 16 negatives: exp(cos) has a spread of 0.8 around 1.27, so 0.06 of the logarithm.
    assert found.metrics["infonce"] == pytest.approx(expected, abs=0.2)


def test_a_block_of_windows_is_drawn_as_one() -> None:
    # Blocks of 2 s are 40 frames here. Frames 0 to 199 of one stretch fill five blocks; with all of
    # them right the interval is a point.
    known = about()
    frame = {"movie_one": np.tile(np.arange(40), 5)}
    x = circle(200)
    rows = [row(0, role, x, frame, at, known) for role, at in (("fit", 1000), ("judge", 0))]
    assert judged(rows).summary().ci95["decode_accuracy"] == (1.0, 1.0)
    # One block wrong in five: means of five draws are multiples of a fifth, 2.5 % to 97.5 %.
    rows[1]["embedding"] = np.where(np.arange(200)[:, None] < 40, -x, x).astype(np.float32)
    found = judged(rows).summary()
    assert found.metrics["decode_accuracy"] == pytest.approx(0.8)
    low, high = found.ci95["decode_accuracy"]
    # A draw of five holds three or more wrong blocks in 5.8 %, four or more in 0.7 %.
    assert low == pytest.approx(0.4)
    assert high == 1.0
    # Two blocks are too few for an interval.
    short = [{**rows[0]}, row(0, "judge", circle(80), {"movie_one": np.arange(80) % 40}, 0, known)]
    assert "decode_accuracy" not in judged(short).summary().ci95
