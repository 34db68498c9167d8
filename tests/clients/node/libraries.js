// Libraries that check a token. Each check is a token and what its audience and issuer have to be; everything else, the
// issuer too if it is not given, comes from the document below `base`.
import { createRemoteJWKSet, jwtVerify } from "jose";
import jsonwebtoken from "jsonwebtoken";
import jwksRsa from "jwks-rsa";

import { run } from "./frame.js";

const document = async (base) => (await fetch(`${base}/.well-known/openid-configuration`)).json();

const jose = ({ base }) => async ({ token, audience, issuer }) => {
  const found = await document(base);
  const keys = createRemoteJWKSet(new URL(found.jwks_uri));
  return (await jwtVerify(token, keys, { audience, issuer: issuer ?? found.issuer })).payload;
};

const jwks_rsa = ({ base }) => async ({ token, audience, issuer }) => {
  const found = await document(base);
  const client = jwksRsa({ jwksUri: found.jwks_uri });
  const key = (header, done) => client.getSigningKey(header.kid).then((it) => done(null, it.getPublicKey()), done);
  // The algorithms are those of the document too: this library takes any that fits the key if none is named.
  const options = { audience, issuer: issuer ?? found.issuer, algorithms: found.id_token_signing_alg_values_supported };
  return new Promise((done, failed) =>
    jsonwebtoken.verify(token, key, options, (error, claims) => (error ? failed(error) : done(claims))),
  );
};

await run("claims", { jose, jwks_rsa });
