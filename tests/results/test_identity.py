"""UIDs follow from the input, and the node knows its own."""

from __future__ import annotations

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from dicom_ai_node.report import Algorithm
from dicom_ai_node.results.identity import MANUFACTURER, MODEL_NAME, ResultIdentity, is_own_result

uids = st.integers(1, 10**30).map(lambda number: f"2.25.{number}")
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
algorithms = st.lists(
    st.builds(Algorithm, st.text(min_size=1, max_size=20), st.just("1"), hashes, uids), max_size=3
)


@given(study=uids, inputs=st.lists(uids, min_size=1, unique=True), models=algorithms, data=st.data())
def test_the_same_input_in_any_order_gives_the_same_uid(study, inputs, models, data):
    shuffled = data.draw(st.permutations(inputs))
    first = ResultIdentity.of(study, inputs, models)
    second = ResultIdentity.of(study, [*shuffled, shuffled[0]], models[::-1])
    assert first.uid("seg") == second.uid("seg")
    assert UID(first.uid("seg")).is_valid


@given(study=uids, inputs=st.lists(uids, min_size=2, unique=True), models=algorithms, model=hashes)
def test_another_input_kind_or_model_gives_another_uid(study, inputs, models, model):
    identity = ResultIdentity.of(study, inputs, models)
    others = [
        ResultIdentity.of(study, inputs[1:], models).uid("seg"),
        ResultIdentity.of(
            study, inputs, [*models, Algorithm("another one than those", "1", model, "1.2")]
        ).uid("seg"),
        identity.uid("sr"),
        identity.uid("series seg"),
    ]
    assert len({identity.uid("seg"), *others}) == 5


@pytest.mark.parametrize("name", ["seg", "sr", "pr-1", "reformat", "sc-1"])
def test_every_result_is_recognised_also_after_an_archive_renamed_its_maker(encoded, name):
    dataset = encoded("axial").read(name)
    assert is_own_result(dataset)
    dataset.Manufacturer = "Some Archive"
    dataset.ManufacturerModelName = "Some Viewer"
    assert is_own_result(dataset)


def test_what_others_made_is_not_ours(encoded):
    assert not is_own_result(pydicom.dcmread(encoded("axial").study.source.paths[0]))
    assert not is_own_result(pydicom.Dataset())
    other = pydicom.Dataset()
    other.Manufacturer, other.ManufacturerModelName = MANUFACTURER, "another product"
    assert not is_own_result(other)
    other.Manufacturer, other.ManufacturerModelName = "another maker", MODEL_NAME
    assert not is_own_result(other)
