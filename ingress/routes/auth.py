"""How does somebody get an account and a session?"""

from http import HTTPStatus
from typing import Annotated

from pydantic import AfterValidator, Field
from sanic import Blueprint, HTTPResponse, Request

from db.sessions import create_session, destroy_session, read_cookie
from db.users import User, create_user, find_user, find_user_for_login
from ingress.gate import Bucket, admitted, admitted_address, admitted_newcomer, session_cookie
from ingress.operation import Access, operation
from ingress.passwords import PASSWORD_MAX_BYTES
from ingress.request_body import RequestModel, read_json
from ingress.resources import IngressResources, resources_of
from ingress.responses import ProblemCode, empty_response, json_response, problem
from ingress.security_headers import is_https
from ingress.texts import EmailAddress

auth = Blueprint("auth", url_prefix="/api/auth")

_SETS_THE_COOKIE = {"Set-Cookie": "The session, HttpOnly; send it back with every request."}
_ANN = {"email": "ann@example.org", "password": "correct horse"}


def _hashable_password(password: str) -> str:
    if len(password.encode()) > PASSWORD_MAX_BYTES:
        raise ValueError(f"at most {PASSWORD_MAX_BYTES} bytes in UTF-8: bcrypt reads no further")
    return password


def _stripped_name(text: str) -> str:
    name = text.strip()
    if not name:
        raise ValueError("must not be empty")
    return name


NewPassword = Annotated[
    str,
    Field(min_length=8, description=f"at most {PASSWORD_MAX_BYTES} bytes in UTF-8"),
    AfterValidator(_hashable_password),
]


class RegisterRequest(RequestModel):
    """A new account."""

    email: EmailAddress
    password: NewPassword = Field(repr=False)
    name: Annotated[str, Field(max_length=255, json_schema_extra={"pattern": r"\S"}), AfterValidator(_stripped_name)]


class LoginRequest(RequestModel):
    """Whatever was typed: what cannot be right is answered as what is not right."""

    email: str
    password: str = Field(repr=False)


@auth.post("/register")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.AUTH,
    body=RegisterRequest,
    answers={HTTPStatus.CREATED: User},
    refusals=(ProblemCode.EMAIL_TAKEN,),
    headers=_SETS_THE_COOKIE,
    examples={"a new account": {**_ANN, "name": "Ann"}},
)
async def register(request: Request) -> HTTPResponse:
    """Make an account and log in."""
    await admitted_newcomer(request)
    wanted = read_json(request, RegisterRequest)
    resources = resources_of(request)
    password_hash = await resources.passwords.hash(wanted.password)
    user = await create_user(resources.pool, email=wanted.email, password_hash=password_hash, name=wanted.name)
    if user is None:
        return problem(ProblemCode.EMAIL_TAKEN)
    return await _logged_in(request, user, HTTPStatus.CREATED)


@auth.post("/login")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.AUTH,
    body=LoginRequest,
    answers={HTTPStatus.OK: User},
    refusals=(ProblemCode.WRONG_CREDENTIALS,),
    headers=_SETS_THE_COOKIE,
    examples={"the account of before": _ANN},
)
async def login(request: Request) -> HTTPResponse:
    """Start a session. The answer to a wrong password and to an unknown address is the same, and takes as long."""
    await admitted_newcomer(request)
    given = read_json(request, LoginRequest)
    resources = resources_of(request)
    found = await find_user_for_login(resources.pool, given.email.strip().lower())
    user, password_hash = found if found is not None else (None, None)
    if not await resources.passwords.matches(given.password, password_hash) or user is None:
        return problem(ProblemCode.WRONG_CREDENTIALS)
    return await _logged_in(request, user, HTTPStatus.OK)


@auth.post("/logout")
@operation(
    access=Access.ANYONE,
    bucket=Bucket.OTHER,
    answers={HTTPStatus.NO_CONTENT: None},
    headers={"Set-Cookie": "Takes the session's cookie away."},
)
async def logout(request: Request) -> HTTPResponse:
    """End the session, if there is one; the answer is the same either way."""
    await admitted_address(request, Bucket.OTHER)
    resources = resources_of(request)
    await _end_presented_session(request, resources)
    return empty_response(headers={"set-cookie": _cookie(resources, "", seconds=0)})


@auth.get("/me")
@operation(access=Access.USER, bucket=Bucket.OTHER, answers={HTTPStatus.OK: User})
async def me(request: Request) -> HTTPResponse:
    """The account of whoever is asking."""
    asker = await admitted(request, Bucket.OTHER)
    user = await find_user(resources_of(request).pool, asker.user_id)
    return json_response(user) if user is not None else problem(ProblemCode.UNAUTHENTICATED)


async def _logged_in(request: Request, user: User, status: HTTPStatus) -> HTTPResponse:
    resources = resources_of(request)
    # A session that somebody else may have planted or read before must not become a logged-in one.
    await _end_presented_session(request, resources)
    seconds = resources.settings.session_seconds
    value = await create_session(resources.redis, user_id=user.id, role=user.role, seconds=seconds)
    return json_response(user, status, {"set-cookie": _cookie(resources, value, seconds=seconds)})


async def _end_presented_session(request: Request, resources: IngressResources) -> None:
    presented = session_cookie(request, resources.gate.cookie_name)
    session = read_cookie(presented) if presented else None
    if session is not None:
        resources.gate.end(session)
        await destroy_session(resources.redis, session)


def _cookie(resources: IngressResources, value: str, *, seconds: int) -> str:
    secure = "; Secure" if is_https(resources.settings.public_url) else ""
    return f"{resources.gate.cookie_name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"
