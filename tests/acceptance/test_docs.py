"""Does the API's own page name every route and every refusal?"""

import aiohttp

from contracts.rejections import RejectionCode
from ingress.responses import ProblemCode


async def test_the_page_names_every_route_and_every_code(ingress_url: str) -> None:
    async with aiohttp.ClientSession(ingress_url) as http, http.get("/docs") as response:
        page = await response.text()
        assert response.status == 200
        assert "script-src" not in response.headers["content-security-policy"]
    for path in ("/api/seats/reserve", "/api/checkout", "/api/orders", "/api/commands/", "/api/auth/login"):
        assert path in page
    for code in (*RejectionCode, *ProblemCode):
        assert f"<code>{code.value}</code>" in page


async def test_a_problems_type_leads_somewhere(ingress_url: str) -> None:
    async with aiohttp.ClientSession(ingress_url) as http:
        async with http.post("/api/seats/reserve", json={}) as refused:
            type_ = (await refused.json(content_type=None))["type"]
        async with http.get(type_) as page:
            assert page.status == 200
