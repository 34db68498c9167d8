// Middleware of express that checks a token; what a check is, see libraries.js.
import express from "express";
import { auth } from "express-oauth2-jwt-bearer";
import passport from "passport";
import { BearerStrategy } from "passport-azure-ad";

import { run } from "./frame.js";

// An API behind middleware, asked once with the token.
const ask = async (middleware, token, claims) => {
  // The default answer to an error has its status and headers; in this environment errors are not logged, too.
  const api = express().set("env", "test").use(middleware);
  api.get("/", (request, response) => response.json(claims(request)));
  const server = await new Promise((done) => {
    const listening = api.listen(0, "127.0.0.1", () => done(listening));
  });
  try {
    const headers = { authorization: `Bearer ${token}` };
    const response = await fetch(`http://127.0.0.1:${server.address().port}/`, { headers });
    if (response.status === 200) return await response.json();
    throw new Error(`${response.status} ${response.headers.get("www-authenticate")}`);
  } finally {
    server.close();
  }
};

const express_oauth2_jwt_bearer = () => ({ token, audience, base }) =>
  ask(auth({ issuerBaseURL: base, audience }), token, (request) => request.auth.payload);

const passport_azure_ad = () => ({ token, audience, base }) => {
  const options = {
    identityMetadata: `${base}/.well-known/openid-configuration`,
    clientID: audience,
    audience,
    // Or every refusal reads "cannot verify token"; and its log would go where the outcomes go.
    loggingNoPII: false,
    loggingLevel: "fatal",
  };
  const strategy = new BearerStrategy(options, (claims, done) => done(null, claims));
  const middleware = new passport.Passport().use(strategy).authenticate("oauth-bearer", { session: false });
  return ask(middleware, token, (request) => request.user);
};

await run("claims", { express_oauth2_jwt_bearer, passport_azure_ad });
