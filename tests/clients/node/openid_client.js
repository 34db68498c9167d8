// openid-client, which knows nothing of Entra.
import * as openid from "openid-client";

import { run } from "./frame.js";

const JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT = "urn:ietf:params:oauth:token-type:jwt";

const issuer = ({ authority, tenant }) => `${authority}/${tenant}/v2.0`;

// A way to a configuration: of a program that was told where to go and asks nobody, and of those that read a document.
const told = (request, authentication) => {
  const token_endpoint = `${request.authority}/${request.tenant}/oauth2/v2.0/token`;
  return new openid.Configuration({ issuer: issuer(request), token_endpoint }, request.client_id, {}, authentication);
};
const discovers = (algorithm) => (request, authentication) =>
  openid.discovery(new URL(issuer(request)), request.client_id, {}, authentication, { algorithm });

// It signs assertions with a key of its own; to present one of somebody else is for its user to write.
const presents = (assertion) => (server, client, body) => {
  body.set("client_id", client.client_id);
  body.set("client_assertion_type", JWT_BEARER);
  body.set("client_assertion", assertion);
};

const credentials = (configure) => (request) => async (assertion) => {
  const configuration = await configure(request, presents(assertion));
  return (await openid.clientCredentialsGrant(configuration, { scope: request.scope })).access_token;
};

// RFC 8693: whom the token is for is a resource, and the client says who it is and proves nothing.
const exchange = (configure) => (request) => async (assertion) => {
  const configuration = await configure(request, openid.None());
  const resource = request.scope.slice(0, -"/.default".length);
  const parameters = { subject_token: assertion, subject_token_type: JWT, resource };
  return (await openid.genericGrantRequest(configuration, TOKEN_EXCHANGE, parameters)).access_token;
};

await run("token", {
  credentials: credentials(told),
  credentials_discovery: credentials(discovers("oidc")),
  exchange: exchange(told),
  // RFC 8414's metadata.
  exchange_discovery: exchange(discovers("oauth2")),
});
