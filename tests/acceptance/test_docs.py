"""Is this API explained where it promises to be, to people and to programs?"""

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from contracts.rejections import RejectionCode
from ingress.responses import ProblemCode

COMMITTED = Path(__file__).parents[2] / "contracts" / "openapi.json"


@pytest.fixture
async def http(ingress_url: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(ingress_url) as client:
        yield client


async def test_the_page_names_every_operation_and_every_code(http: aiohttp.ClientSession) -> None:
    async with http.get("/docs") as response:
        page = await response.text()
        assert response.status == 200
    document = json.loads(COMMITTED.read_text(encoding="utf-8"))
    for methods in document["paths"].values():
        for operation in methods.values():
            assert f'id="{operation["operationId"]}"' in page
    for code in (*RejectionCode, *ProblemCode):
        assert f'id="problem-{code.value}"' in page


async def test_every_link_of_the_page_leads_somewhere(http: aiohttp.ClientSession) -> None:
    async with http.get("/docs") as response:
        page = await response.text()
    links = set(re.findall(r'href="([^"]+)"', page))
    anchors = {f"#{name}" for name in re.findall(r'\bid="?([\w-]+)', page)}
    assert len(links) > 50
    assert {link for link in links if link.startswith("#")} - anchors == set()
    for link in links - anchors:
        async with http.get(link) as response:
            assert response.status == 200, link


async def test_the_page_may_load_its_style_sheet_and_nothing_else(http: aiohttp.ClientSession) -> None:
    async with http.get("/docs") as response:
        page, policy = await response.text(), response.headers["content-security-policy"]
    assert "default-src 'none'; style-src 'self';" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|https?://[^\s<]*\.(js|css)", page)
    async with http.get("/docs.css") as response:
        assert response.content_type == "text/css"


async def test_the_document_that_is_served_is_the_one_in_the_repository(http: aiohttp.ClientSession) -> None:
    async with http.get("/openapi.json") as response:
        served, tag = await response.json(), response.headers["etag"]
    assert served == json.loads(COMMITTED.read_text(encoding="utf-8"))
    async with http.get("/openapi.json", headers={"if-none-match": tag}) as response:
        assert (response.status, await response.read()) == (304, b"")


async def test_a_problems_type_leads_to_what_it_means(http: aiohttp.ClientSession) -> None:
    async with http.post("/api/seats/reserve", json={}) as refused:
        problem = await refused.json(content_type=None)
    async with http.get(problem["type"]) as page:
        text = await page.text()
        assert (page.status, problem["code"] in text, problem["whatToDo"] in text) == (200, True, True)


async def test_a_code_that_there_is_not_is_not_explained(http: aiohttp.ClientSession) -> None:
    async with http.get("/problems/nonsense") as response:
        assert (response.status, (await response.json(content_type=None))["code"]) == (404, "not_found")
