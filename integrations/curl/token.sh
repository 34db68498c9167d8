#!/bin/sh
# Prints a token of a broker; needs sh, curl and sed. The platform's token is in the file of AZURE_FEDERATED_TOKEN_FILE,
# or GitHub Actions is asked for it.
#   AZURE_AUTHORITY_HOST=https://sts.contoso.example AZURE_TENANT_ID=... AZURE_CLIENT_ID=... ./token.sh https://vault.azure.net
set -eu
resource=${1:?usage: token.sh RESOURCE}
audience=api%3A%2F%2FAzureADTokenExchange

member() { # name; of JSON on the standard input, where its value is a string without escapes
    sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"
}

assertion() {
    if [ -n "${AZURE_FEDERATED_TOKEN_FILE:-}" ]; then
        cat "$AZURE_FEDERATED_TOKEN_FILE"
        return
    fi
    : "${ACTIONS_ID_TOKEN_REQUEST_URL:?add permissions: id-token: write to the job}"
    # Headers and bodies come on the standard input: arguments can be read by every process of the machine.
    printf 'Authorization: Bearer %s\n' "$ACTIONS_ID_TOKEN_REQUEST_TOKEN" |
        curl -sS --fail --retry 5 --header @- "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=$audience" | member value
}

token=$(assertion)
answer=$(printf %s "$token" | curl -sS --retry 5 \
    "${AZURE_AUTHORITY_HOST%/}/$AZURE_TENANT_ID/oauth2/v2.0/token" \
    --data grant_type=client_credentials \
    --data-urlencode "client_id=$AZURE_CLIENT_ID" \
    --data-urlencode "scope=$resource/.default" \
    --data client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer \
    --data-urlencode client_assertion@-)
token=$(printf '%s\n' "$answer" | member access_token)
if [ -z "$token" ]; then
    # A refusal holds no token, and says why.
    printf '%s\n' "$answer" >&2
    exit 1
fi
printf '%s\n' "$token"
