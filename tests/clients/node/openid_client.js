// openid-client, which knows nothing of Entra.
import * as openid from "openid-client";

import { run } from "./frame.js";

const JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

// It signs assertions with a key of its own; presenting one of somebody else takes a ClientAuth written by its user.
const clientCredentials = async (configuration, scope) =>
  (await openid.clientCredentialsGrant(configuration, { scope })).access_token;

const presents = (current) => (server, client, body) => {
  body.set("client_id", client.client_id);
  body.set("client_assertion_type", JWT_BEARER);
  body.set("client_assertion", current());
};

const issuer = ({ authority, tenant }) => `${authority}/${tenant}/v2.0`;

// What a program knows that was told, and asks nobody.
const server = (request) => ({
  issuer: issuer(request),
  token_endpoint: `${request.authority}/${request.tenant}/oauth2/v2.0/token`,
});

const configured = (request) => {
  let current;
  const configuration = new openid.Configuration(server(request), request.client_id, {}, presents(() => current));
  return (assertion) => {
    current = assertion;
    return clientCredentials(configuration, request.scope);
  };
};

const discovered = (request) => async (assertion) => {
  const url = new URL(issuer(request));
  const configuration = await openid.discovery(url, request.client_id, {}, presents(() => assertion));
  return clientCredentials(configuration, request.scope);
};

await run("token", { configured, discovered });
