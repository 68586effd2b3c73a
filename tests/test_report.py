"""A report survives JSON without loss, obeys its schema, and refuses what makes no sense."""

from __future__ import annotations

import copy
import json

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_ai_node.anatomy import LEVELS, Level, order
from dicom_ai_node.report import (
    DISEASES,
    REASON_CODES,
    SCHEMA,
    SEEN_ON,
    SIGNAL_RATIOS,
    Algorithm,
    BoxPx,
    HeightsMm,
    PlaneMeasures,
    Reason,
    SeenOn,
    SixPoints,
    Source,
    SpineReport,
    Vertebra,
)
from dicom_ai_node.report_schema import json_schema

numbers = st.floats(-5000, 5000)
shares = st.floats(0, 1)
text = st.text(max_size=30)
uids = st.from_regex(r"\A[12]\.[1-9][0-9]{0,8}(\.[1-9][0-9]{0,8}){1,4}\Z")
points = st.tuples(numbers, numbers, numbers)
reasons = st.builds(Reason, st.sampled_from(sorted(REASON_CODES)), text)


def vertebrae(level: Level) -> st.SearchStrategy[Vertebra]:
    pairs = st.tuples(numbers, numbers)
    boxes = st.builds(BoxPx, uids, st.integers(1, 999), pairs, pairs)
    corners = st.none() | st.tuples(*[points] * 4)
    seen_on = st.builds(SeenOn, st.integers(0, 9), st.integers(1, 9), st.none() | boxes, corners)
    six_points = st.builds(SixPoints, *[points] * 6)
    heights = st.builds(HeightsMm, *[st.floats(0, 60)] * 4)
    planes = st.builds(
        PlaneMeasures, numbers, st.booleans(), six_points, heights, st.none() | st.floats(-1, 1)
    )
    return st.builds(
        Vertebra,
        level=st.just(level),
        level_confidence=shares,
        level_alternatives=st.dictionaries(
            st.sampled_from([item.value for item in LEVELS]), shares, max_size=3
        ),
        center_mm=st.none() | points,
        box_px=st.none() | boxes,
        six_points=st.none() | six_points,
        heights_mm=st.none() | heights,
        height_loss=st.none() | st.floats(-1, 1),
        genant_grade=st.none() | st.integers(0, 3),
        deformity=st.none() | st.sampled_from(["wedge", "biconcave", "crush", "none"]),
        fractured=st.none() | st.booleans(),
        fracture_probability=st.none() | shares,
        classes=st.dictionaries(text, st.dictionaries(text, shares, max_size=3), max_size=2),
        mean_hu=st.none() | numbers,
        malignant=st.none() | st.booleans(),
        features=st.dictionaries(text, shares, max_size=3),
        signal=st.dictionaries(
            text, st.dictionaries(st.sampled_from(SIGNAL_RATIOS), st.floats(0, 9)), max_size=2
        ),
        abnormal=st.lists(text, max_size=2).map(tuple),
        diseases=st.none() | st.lists(st.sampled_from(sorted(DISEASES)), max_size=2).map(tuple),
        seen_on=st.dictionaries(st.sampled_from(SEEN_ON), seen_on, max_size=3),
        status=st.sampled_from(["analysed", "not-analysable"]),
        reasons=st.lists(reasons, max_size=2).map(tuple),
        planes=st.lists(planes, max_size=3).map(tuple),
    )


@st.composite
def reports(draw: st.DrawFn) -> SpineReport:
    levels = sorted(draw(st.sets(st.sampled_from(LEVELS), max_size=4)), key=order)
    return SpineReport(
        status=draw(st.sampled_from(["analysed", "not-analysable"])),
        source=draw(st.builds(Source, uids, st.lists(uids, max_size=3).map(tuple), text, st.none() | uids)),
        reasons=tuple(draw(st.lists(reasons, min_size=1, max_size=3))),
        limitations=tuple(draw(st.lists(reasons, max_size=2))),
        algorithms=tuple(draw(st.lists(st.builds(Algorithm, text, text, text, uids), max_size=2))),
        vertebrae=tuple(draw(vertebrae(level)) for level in levels),
    )


@given(reports())
def test_json_keeps_every_value(report: SpineReport) -> None:
    assert SpineReport.from_json(report.to_json()) == report


@given(reports())
def test_every_report_obeys_the_published_schema(report: SpineReport) -> None:
    jsonschema.validate(report.to_dict(), json_schema(), jsonschema.Draft202012Validator)


@given(reports(), st.data())
def test_the_schema_notices_a_missing_key(report: SpineReport, data: st.DataObject) -> None:
    broken = copy.deepcopy(report.to_dict())
    planes = [plane for vertebra in broken["vertebrae"] for plane in vertebra["planes"]]
    places = [broken, broken["source"], *broken["vertebrae"], *planes, *broken["algorithms"]]
    place = data.draw(st.sampled_from(places))
    del place[data.draw(st.sampled_from(sorted(place)))]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, json_schema(), jsonschema.Draft202012Validator)
    with pytest.raises(ValueError, match=r"report|schema"):
        SpineReport.from_dict(broken)


@given(st.lists(points, min_size=6, max_size=6))
def test_six_points_go_to_an_array_and_back(six: list[tuple[float, float, float]]) -> None:
    array = np.array(six)
    np.testing.assert_array_equal(SixPoints.from_array(array).to_array(), array)


def test_vertebrae_out_of_order_or_twice_are_refused() -> None:
    source = Source("1.2", ("1.2.3",), "CT", None)
    upper, lower = Vertebra(Level.L1, 1.0), Vertebra(Level.L2, 1.0)
    assert [item.level for item in SpineReport("analysed", source, vertebrae=(upper, lower))] == ["L1", "L2"]
    for wrong in ((lower, upper), (upper, upper)):
        with pytest.raises(ValueError, match="head to tail"):
            SpineReport("analysed", source, vertebrae=wrong)


def test_not_analysable_needs_a_reason_and_reasons_need_a_known_code() -> None:
    with pytest.raises(ValueError, match="says why"):
        SpineReport("not-analysable", Source("1.2", (), "CT", None))
    with pytest.raises(ValueError, match="reason code"):
        Reason("because", "so")


def test_another_schema_is_refused_by_name() -> None:
    other = json.dumps({"schema": "somebody-else/2"})
    with pytest.raises(ValueError, match=SCHEMA):
        SpineReport.from_json(other)
