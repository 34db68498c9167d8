// @azure/msal-node by itself, of a newer line than the one inside @azure/identity.
import { ConfidentialClientApplication, ProtocolMode } from "@azure/msal-node";

import { run } from "./frame.js";

const application = (authority) => ({ client_id, scope, ...request }) => {
  let current;
  const auth = { clientId: client_id, clientAssertion: async () => current, ...authority(request) };
  const client = new ConfidentialClientApplication({ auth });
  return async (assertion) => {
    current = assertion;
    return (await client.acquireTokenByClientCredential({ scopes: [scope] })).accessToken;
  };
};

// With the port: a name alone is not found again.
const known_authority = application(({ authority, tenant }) => ({
  authority: `${authority}/${tenant}`,
  knownAuthorities: [new URL(authority).host],
}));

const oidc = application(({ authority, tenant }) => ({
  authority: `${authority}/${tenant}/v2.0`,
  knownAuthorities: [new URL(authority).host],
  protocolMode: ProtocolMode.OIDC,
}));

await run("token", { known_authority, oidc });
