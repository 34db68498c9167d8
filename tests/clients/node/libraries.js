// Libraries that check a token. A check is a token, what its audience has to be, and the URL below which our document is:
// all else comes from that.
import { promisify } from "node:util";

import { createRemoteJWKSet, jwtVerify } from "jose";
import jsonwebtoken from "jsonwebtoken";
import jwksRsa from "jwks-rsa";

import { run } from "./frame.js";

const document = async (base) => (await fetch(`${base}/.well-known/openid-configuration`)).json();

const jose = () => async ({ token, audience, base }) => {
  const { issuer, jwks_uri } = await document(base);
  return (await jwtVerify(token, createRemoteJWKSet(new URL(jwks_uri)), { audience, issuer })).payload;
};

const jwks_rsa = () => async ({ token, audience, base }) => {
  const { issuer, jwks_uri, id_token_signing_alg_values_supported: algorithms } = await document(base);
  const client = jwksRsa({ jwksUri: jwks_uri });
  const key = (header, done) => client.getSigningKey(header.kid).then((it) => done(null, it.getPublicKey()), done);
  return promisify(jsonwebtoken.verify)(token, key, { audience, issuer, algorithms });
};

await run("claims", { jose, jwks_rsa });
