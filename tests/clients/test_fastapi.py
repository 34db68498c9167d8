"""An API behind fastapi-azure-auth, which is told where our discovery document is and nothing else of ficus."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests
import uvicorn
from fastapi import FastAPI, Security
from fastapi_azure_auth import B2CMultiTenantAuthorizationCodeBearer
from fastapi_azure_auth.user import User

from stage import Stage
from test_validators import RS256_V1, RS256_V2, Kind, mint, with_one_bit_flipped

START_SECONDS = 20.0


def api(broker: Stage, kind: Kind) -> FastAPI:
    """It trusts the tenant's issuer of the token's version. Of the package's classes this is the one that takes the URL
    of a document."""
    base = f"{broker.authority}/{broker.tenant_id}"
    base, issuer = (base, f"{base}/") if kind.version == "1.0" else (f"{base}/v2.0", f"{base}/v2.0")

    async def issuer_of(tid: str) -> str:
        assert tid == broker.tenant_id
        return issuer

    scheme = B2CMultiTenantAuthorizationCodeBearer(
        app_client_id=kind.audience,
        openid_config_url=f"{base}/.well-known/openid-configuration",
        iss_callable=issuer_of,
        openapi_authorization_url=f"{base}/authorize",
        openapi_token_url=f"{base}/token",
        http_client_config={"verify": ssl.create_default_context(cafile=broker.ca_file)},
    )
    app = FastAPI()

    @app.get("/")
    async def who(user: User = Security(scheme)) -> dict[str, object]:
        return {"version": user.claims["ver"], "guest": user.is_guest, "principal": user.claims["oid"]}

    return app


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not server.started:
            assert thread.is_alive() and time.monotonic() < deadline, "the API did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join()


# It knows RSA alone.
@pytest.mark.parametrize("kind", [RS256_V1, RS256_V2], ids=["v1", "v2"])
def test_a_token_is_accepted_and_what_differs_from_it_is_not(broker: Stage, kind: Kind) -> None:
    token, another = mint(broker, kind), mint(broker, RS256_V2 if kind is RS256_V1 else RS256_V1)
    with served(api(broker, kind)) as url:

        def ask(bearer: str) -> tuple[int, object]:
            answer = requests.get(url, headers={"Authorization": f"Bearer {bearer}"}, timeout=20)
            return answer.status_code, answer.json()

        principal = "a1b2c3d4-0001-4a00-8000-00000000b001"
        assert ask(token) == (200, {"version": kind.version, "guest": False, "principal": principal})
        for wrong, message in (
            # Another audience, and another issuer.
            (another, "Token contains invalid claims"),
            (with_one_bit_flipped(token), "Unable to validate token"),
        ):
            status, body = ask(wrong)
            assert (status, message in str(body)) == (401, True), body
