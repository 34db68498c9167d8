// @azure/identity. Instance discovery can't be switched off by the environment: without the option it asks
// login.microsoftonline.com first.
import { writeFile } from "node:fs/promises";

import { ClientAssertionCredential, WorkloadIdentityCredential } from "@azure/identity";

import { run } from "./frame.js";

const disableInstanceDiscovery = true;

// All else from the environment that the AKS webhook sets.
const workload_identity = ({ scope }) => async (assertion) => {
  await writeFile(process.env.AZURE_FEDERATED_TOKEN_FILE, assertion);
  // A new one each time: it keeps the file's content for five minutes.
  return (await new WorkloadIdentityCredential({ disableInstanceDiscovery }).getToken(scope)).token;
};

const client_assertion = ({ authority, tenant, client_id, scope }) => {
  let current;
  const options = { authorityHost: authority, disableInstanceDiscovery };
  const credential = new ClientAssertionCredential(tenant, client_id, async () => current, options);
  return async (assertion) => {
    current = assertion;
    return (await credential.getToken(scope)).token;
  };
};

await run("token", { workload_identity, client_assertion });
