// A peer for load tests: oidc-provider takes client_credentials with a client_assertion (RFC 7523) that is signed by the
// issuer of `ficus-load prepare DIR`, and mints an RS256 JWT for the resource that is asked for.
//
//   node server.js DIR PORT, with peer.pem and peer-key.pem in DIR
import { generateKeyPairSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import Provider from 'oidc-provider'

const [folder, port] = process.argv.slice(2)
if (!port) throw new Error('usage: node server.js DIR PORT')
const read = (name) => readFileSync(`${folder}/${name}`)
const url = `https://localhost:${port}`

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const provider = new Provider(url, {
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: 'peer', use: 'sig', alg: 'RS256' }] },
  clients: [{
    client_id: 'load',
    grant_types: ['client_credentials'],
    redirect_uris: [],
    response_types: [],
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'RS256',
    jwks: JSON.parse(read('issuer/jwks.json')),
  }],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: '',
        audience: resource,
        accessTokenTTL: 3600,
        accessTokenFormat: 'jwt',
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
})

const tls = { cert: read('peer.pem'), key: read('peer-key.pem') }
// The harness's connections rest while it measures the machine; node would close them after five seconds.
createServer({ ...tls, keepAliveTimeout: 120_000 }, provider.callback()).listen(port, '127.0.0.1')
