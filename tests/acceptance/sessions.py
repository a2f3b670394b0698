"""How does a test get at a buyer's session, or make nobody or an administrator of a buyer?"""

from typing import Any

from tests.acceptance.conftest import Buyer

PASSWORD = "correct horse battery"


def session_of(buyer: Buyer) -> str:
    """The value of the session cookie."""
    return next(cookie.value for cookie in buyer.http.cookie_jar if cookie.key == "session")


def nobody(buyer: Buyer) -> Buyer:
    """The same browser without its session."""
    buyer.http.cookie_jar.clear()
    return buyer


async def log_in_as(role: str, buyer: Buyer, pool: Any) -> None:
    """Make the buyer a scanner or an administrator, with a session that says so."""
    await pool.execute("UPDATE users SET role = $2 WHERE email = $1", buyer.email, role)
    answer = await buyer.send("POST", "/api/auth/login", {"email": buyer.email, "password": PASSWORD})
    assert answer.body["role"] == role, answer.body


async def log_in_as_admin(buyer: Buyer, pool: Any) -> None:
    """Make the buyer an administrator, with a session that says so."""
    await log_in_as("admin", buyer, pool)
