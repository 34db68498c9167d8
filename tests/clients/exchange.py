"""Python clients of RFC 8693, which know nothing of Entra: google-auth and Authlib."""

from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from google.auth import exceptions, identity_pool
from google.auth.transport.requests import Request as Transport
from requests import HTTPError

from stage import Client, Outcome, Request

TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
JWT = "urn:ietf:params:oauth:token-type:jwt"


def token_url(request: Request) -> str:
    return f"{request.authority}/{request.tenant}/oauth2/v2.0/token"


class _Supplier(identity_pool.SubjectTokenSupplier):
    def __init__(self, assertion: str) -> None:
        self._assertion = assertion

    def get_subject_token(self, context: object, request: object) -> str:
        return self._assertion


def google_auth(request: Request, assertions: list[str]) -> list[Outcome]:
    """It sends no client id: the audience names the identity, the scope the resource."""

    def each(assertion: str) -> Outcome:
        credentials = identity_pool.Credentials(
            audience=request.client_id,
            subject_token_type=JWT,
            token_url=token_url(request),
            subject_token_supplier=_Supplier(assertion),
            scopes=[request.scope],
        )
        try:
            credentials.refresh(Transport())
        except (exceptions.OAuthError, exceptions.RefreshError) as error:
            return Outcome(None, f"{type(error).__name__}: {error.args[0]}")
        return Outcome(credentials.token, "")

    return [each(assertion) for assertion in assertions]


def authlib(request: Request, assertions: list[str]) -> list[Outcome]:
    def each(session: OAuth2Session, assertion: str) -> Outcome:
        try:
            token = session.fetch_token(
                token_url(request),
                grant_type=TOKEN_EXCHANGE,
                subject_token=assertion,
                subject_token_type=JWT,
                resource=request.scope.removesuffix("/.default"),
            )
        # The second: it looks at the status of a 5xx and throws its body away.
        except (OAuthError, HTTPError) as error:
            return Outcome(None, f"{type(error).__name__}: {error}")
        return Outcome(token["access_token"], "")

    with OAuth2Session(request.client_id, token_endpoint_auth_method="none") as session:
        return [each(session, assertion) for assertion in assertions]


CLIENTS: tuple[Client, ...] = (google_auth, authlib)
