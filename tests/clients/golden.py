"""What a person sees of a refusal through each client: whole texts, in which ids and times are replaced."""

import re
from dataclasses import dataclass, replace
from string import Template

from stage import Client, Request

GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.0000000)?Z")


@dataclass(frozen=True)
class Refusal:
    """One of the broker's.

    `otherwise` has what is seen through clients that don't show its text in their frame, by name."""

    error: str
    code: int
    text: str
    otherwise: dict[str, str]


WRONG_SUBJECT = Refusal(
    "invalid_client",
    700213,
    "No matching federated identity record found for presented assertion subject "
    "'repo:my--org/payments-service:ref:refs/heads/feature/login'. Check the federated credential's issuer, subject "
    "and audience against the presented token; they are compared byte for byte. "
    "https://learn.microsoft.com/entra/workload-id/workload-identity-federation",
    {},
)
EXPIRED = Refusal(
    "invalid_client",
    700024,
    "Client assertion is not within its valid time range. Current time: <time>, assertion valid from <time>, expiry "
    "time of assertion <time>.",
    {},
)

# MSAL reads the tenant's discovery document before it asks for a token, and tells nothing of an answer that is none.
UNRESOLVED = "endpoints_resolution_error: See https://aka.ms/msal.js.errors#endpoints_resolution_error for details"
UNKNOWN_TENANT = Refusal(
    "invalid_request",
    90002,
    "Tenant '<tenant>' not found. Check that you have the correct tenant ID and are signing into the correct broker.",
    {
        "msal": "ValueError: Unable to get authority configuration for <authority>/<tenant>. Authority would typically "
        "be in a format of https://login.microsoftonline.com/your_tenant or https://tenant_name.ciamlogin.com or "
        "https://tenant_name.b2clogin.com/tenant.onmicrosoft.com/policy.  Also please double check your tenant name or "
        "GUID is correct.",
        "msal_oidc": "ValueError: Unable to get OIDC authority configuration for <authority>/<tenant>/v2.0 because its "
        "OIDC Discovery endpoint is unavailable at <authority>/<tenant>/v2.0/.well-known/openid-configuration  Also "
        "please double check your tenant name or GUID is correct.",
        "node_workload_identity": f"CredentialUnavailableError: {UNRESOLVED}",
        "node_client_assertion": f"CredentialUnavailableError: {UNRESOLVED}",
        "msal_node": f"ClientAuthError: {UNRESOLVED}",
        "msal_node_oidc": f"ClientAuthError: {UNRESOLVED}",
    },
)

# These look at the status of a 5xx and throw its body away.
OPENID_5XX = "ClientError: unexpected HTTP response status code"
ISSUER_UNAVAILABLE = Refusal(
    "temporarily_unavailable",
    50166,
    "Request to External OIDC endpoint failed. Issuer: 'https://127.0.0.1:1'.",
    {
        "msal": "MsalServiceError: HTTP Error: 503",
        "msal_oidc": "MsalServiceError: HTTP Error: 503",
        "authlib": "HTTPError: 503 Server Error: Service Unavailable for url: <authority>/<tenant>/oauth2/v2.0/token",
        "openid_client": OPENID_5XX,
        "openid_client_exchange": OPENID_5XX,
    },
)
# MSAL for Node answers in our place until the time is over that the broker said.
MSAL_JS_AGAIN = "ServerError: $code: $description"
ISSUER_STILL_UNAVAILABLE = replace(
    ISSUER_UNAVAILABLE,
    otherwise={**ISSUER_UNAVAILABLE.otherwise, "msal_node": MSAL_JS_AGAIN, "msal_node_oidc": MSAL_JS_AGAIN},
)

AZURE_IDENTITY = """Microsoft Entra ID error '($error) $description'
Content: {"error":"$error","error_description":"$description","error_codes":[$code],"timestamp":"<time>",\
"trace_id":"<id>","correlation_id":"<id>","error_uri":"<authority>/error?code=$code"}"""
MSAL_JS = (
    "$error: Error(s): $code - Timestamp: <time> - Description: $description - Correlation ID: <id> - Trace ID: <id>"
)
OPENID_ERROR = "ResponseBodyError: server responded with an error in the response body"
# Where a client shows our text, by its name.
FRAMES = {
    "workload_identity": f"ClientAuthenticationError: {AZURE_IDENTITY}",
    "client_assertion": f"ClientAuthenticationError: {AZURE_IDENTITY}",
    "aio_workload_identity": f"ClientAuthenticationError: {AZURE_IDENTITY}",
    "aio_client_assertion": f"ClientAuthenticationError: {AZURE_IDENTITY}",
    "default_credential": f"""ClientAuthenticationError: \
DefaultAzureCredential failed to retrieve a token from the included credentials.
Attempted credentials:
\tEnvironmentCredential: EnvironmentCredential authentication unavailable. \
Environment variables are not fully configured.
Visit https://aka.ms/azsdk/python/identity/environmentcredential/troubleshoot to troubleshoot this issue.
\tWorkloadIdentityCredential: {AZURE_IDENTITY}
To mitigate this issue, please refer to the troubleshooting guidelines here at \
https://aka.ms/azsdk/python/identity/defaultazurecredential/troubleshoot.""",
    "msal": "$description",
    "msal_oidc": "$description",
    "node_workload_identity": f"AuthenticationRequiredError: {MSAL_JS}",
    "node_client_assertion": f"AuthenticationRequiredError: {MSAL_JS}",
    "msal_node": f"ServerError: {MSAL_JS}",
    "msal_node_oidc": f"ServerError: {MSAL_JS}",
    # RFC 8693 knows one error for a subject token that is not accepted.
    "google_auth": "OAuthError: Error code $exchange_error: $description - <authority>/error?code=$code",
    "authlib": "OAuthError: $exchange_error: $description",
    "rust_workload_identity": "WorkloadIdentityCredential authentication failed. $description\n"
    "To troubleshoot, visit https://aka.ms/azsdk/rust/identity/troubleshoot#workload",
    "rust_client_assertion": "ClientAssertionCredential authentication failed. $description",
    "openid_client": f"{OPENID_ERROR} ($error: $description)",
    "openid_client_exchange": f"{OPENID_ERROR} ($exchange_error: $description)",
}


def shown(client: Client, refusal: Refusal) -> str:
    """What is seen of it through a client."""
    name = client.__name__
    description = f"AADSTS{refusal.code}: {refusal.text} Trace ID: <id> Correlation ID: <id> Timestamp: <time>"
    frame = Template(refusal.otherwise.get(name, FRAMES[name]))
    exchange_error = refusal.error.replace("invalid_client", "invalid_request")
    return frame.substitute(
        error=refusal.error, exchange_error=exchange_error, code=refusal.code, description=description
    )


def masked(request: Request, error: str) -> str:
    """What was seen, less what differs from run to run."""
    named = error.replace(request.authority, "<authority>").replace(request.tenant, "<tenant>")
    return TIME.sub("<time>", GUID.sub("<id>", named))
