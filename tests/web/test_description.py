"""The interface keeps to its own description, whatever it is asked."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.web.conftest import AUTHORIZED, Interface
from tests.workflow.peers import ct_series

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@schemathesis.serializer("application/dicom", "multipart/related")
def as_it_is(_context: Any, value: Any) -> bytes:
    """Bodies that are no JSON; the tests of what comes in send good ones."""
    return bytes(getattr(value, "data", b"")) or str(value).encode()


@pytest.fixture(scope="module")
def described(interface: Interface, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The description, with the names of a series and a job that are there among what is tried."""
    said = interface.upload(ct_series(tmp_path_factory.mktemp("series"), 430))[0]
    series = said["series_instance_uid"]
    events = interface.follow()
    next(events)
    interface.client.post(f"/series/{series}/complete")
    interface.follow_until(series, "delivered", events)
    state = interface.client.get(f"/series/{series}").json()
    description = interface.client.get("/openapi.json").json()
    names = {
        "series_instance_uid": series,
        "job": state["job"],
        "sop_instance_uid": state["results"][0]["sop_instance_uid"],
    }
    for operations in description["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", []):
                if parameter["name"] in names:
                    parameter["examples"] = {"here": {"value": names[parameter["name"]]}}
    # A stream without an end has tests of its own.
    del description["paths"]["/api/v1/events"]
    schema = schemathesis.openapi.from_dict(description)
    schema.config.base_url = interface.url.removesuffix("/api/v1")
    return schema


def answers_to(operation: Any, mode: GenerationMode) -> list[int]:
    """The status of every answer to what was tried; an answer that is not as described is an error."""
    found: list[int] = []

    @settings(
        max_examples=8,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        answer = case.call(headers=AUTHORIZED, timeout=60)
        found.append(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    ask()
    return found


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_meets_a_fault_or_an_undescribed_answer(
    described: Any, interface: Interface, mode: GenerationMode
) -> None:
    found: dict[str, list[int]] = {}
    for result in described.get_all_operations():
        operation = result.ok()
        name = f"{operation.method.upper()} {operation.path}"
        try:
            found[name] = answers_to(operation, mode)
        except Unsatisfiable:
            # Nothing can be wrong about a request that takes nothing.
            assert mode is GenerationMode.NEGATIVE
    assert len(found) >= 12, found.keys()
    assert not [line for line in interface.node.lines if line["event"] == "fault"]


def test_the_description_and_its_page_need_no_token_and_nothing_from_elsewhere(interface: Interface) -> None:
    with httpx.Client(base_url=interface.url, trust_env=False) as stranger:
        described = stranger.get("/openapi.json").json()
        page = stranger.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    for path in described["paths"]:
        assert path in page.text
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert "<script" not in page.text
