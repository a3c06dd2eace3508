// An authorization server and an API for the tests in .., see ../harness.mjs.
// The server is npm's oidc-provider, as it comes; what is ours here is its
// configuration, the pages in interactions.mjs, an API that checks tokens, and
// back doors under /control that only a test has use for.
//
// The argument: {accessLifetime, refreshLifetime, rotate, clients, audience,
// requirePushed, tls}, lifetimes in seconds. With an audience, access tokens are
// JWTs for it, which the API here does not take. With tls, {key, cert, ca}, the
// issuer speaks TLS, and a port beside it asks for the certificates of clients:
// see certificates.mjs. What it says then has the addresses of that, {certified},
// and of the back doors, {control}.
import { createPrivateKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { Provider } from 'oidc-provider';
import { counts, listen, options, read, ready } from '../harness.mjs';
import { aliases, mTLS, presents } from './certificates.mjs';
import { deviceFlow, interact, rpInitiatedLogout } from './interactions.mjs';

const scope = 'openid offline_access api';
const plain = await listen();
const { tls } = options;
const [front, certified] = tls ? [await listen(tls), await listen({ ...tls, requestCert: true, rejectUnauthorized: false })] : [plain];
const issuer = front.base;

// By way of PEM: Node.js 20 may wait for itself for ever when it writes a key down
// as a JWK that it has just made, and collects garbage meanwhile.
const { privateKey: pem } = generateKeyPairSync('ec', { namedCurve: 'P-256', privateKeyEncoding: { type: 'pkcs8', format: 'pem' } });
const privateKey = createPrivateKey(pem);
const provider = new Provider(issuer, {
  clients: options.clients.map((client) => ({
    redirect_uris: ['http://127.0.0.1/callback'],
    post_logout_redirect_uris: ['http://127.0.0.1/bye'],
    application_type: 'native',
    grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
    response_types: ['code'],
    ...client,
  })),
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: 'test' }] },
  cookies: { keys: [randomBytes(16).toString('hex')] },
  findAccount: async (ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  scopes: scope.split(' '),
  // What the provider hands over to fetch by keeps it from loopback addresses. The
  // only one that it is told of here is a test's jwks_uri.
  fetch: (url, { dispatcher, ...how }) => fetch(url, how),
  clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt',
    ...(tls ? ['tls_client_auth', 'self_signed_tls_client_auth'] : [])],
  ...(tls && { discovery: { mtls_endpoint_aliases: aliases(certified.base) } }),
  enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
  issueRefreshToken: async () => true,
  expiresWithSession: async () => false,
  clockTolerance: 0, // the default would keep access tokens alive at userinfo
  rotateRefreshToken: options.rotate,
  ttl: {
    AccessToken: options.accessLifetime, RefreshToken: options.refreshLifetime, Grant: 86400,
    AuthorizationCode: 60, DeviceCode: 600, IdToken: 3600, Interaction: 600, Session: 86400,
  },
  interactions: { url: (ctx, { uid }) => `/interaction/${uid}` },
  features: {
    devInteractions: { enabled: false },
    revocation: { enabled: true },
    deviceFlow,
    rpInitiatedLogout,
    pushedAuthorizationRequests: { enabled: true, requirePushedAuthorizationRequests: Boolean(options.requirePushed) },
    ...(tls && { mTLS }),
    resourceIndicators: {
      enabled: Boolean(options.audience),
      defaultResource: () => options.audience,
      useGrantedResource: () => true,
      getResourceServerInfo: (ctx, audience) => ({
        scope: 'api', audience, accessTokenFormat: 'jwt', accessTokenTTL: options.accessLifetime, jwt: { sign: { alg: 'ES256' } },
      }),
    },
  },
});

provider.on('grant.success', (ctx) => {
  if (ctx.oidc.params.grant_type === 'refresh_token') counts.refreshes += 1;
});
provider.on('grant.error', (ctx, err) => {
  if (err.error === 'invalid_client') counts.invalidClients += 1;
  if (err.error !== 'invalid_grant') return;
  counts.invalidGrants += 1;
  if (ctx.oidc.entities.RefreshToken?.consumed) counts.reuses += 1;
});
provider.on('revocation.error', (ctx, err) => {
  if (err.error === 'invalid_client') counts.invalidClients += 1;
});
provider.on('grant.revoked', () => { counts.familiesKilled += 1; });
provider.on('server_error', (ctx, err) => { console.error(err); });

// api answers for a resource server (RFC 6750 section 3) that asks the
// provider about each token.
async function api(ctx) {
  counts.api += 1;
  const [, value] = /^Bearer +(\S+)$/i.exec(ctx.get('authorization')) ?? [];
  const token = value && await provider.AccessToken.find(value);
  if (!token || token.isExpired || !presents(ctx, token)) {
    counts.apiRejected += 1;
    ctx.status = 401;
    ctx.set('WWW-Authenticate', `Bearer realm="api"${value ? ', error="invalid_token"' : ''}`);
    ctx.body = { error: 'unauthorized' };
    return;
  }
  ctx.body = { subject: token.accountId, client: token.clientId, received: await read(ctx.req) };
}

const control = {
  counts: async () => counts,

  // mint makes a family as a login in a browser would have, and hands out its
  // first refresh token.
  mint: async ({ client_id: id, lifetime }) => {
    const client = await provider.Client.find(id);
    const grant = new provider.Grant({ accountId: 'alice', clientId: id });
    grant.addOIDCScope(scope);
    const grantId = await grant.save();
    const token = new provider.RefreshToken({
      accountId: 'alice', client, grantId, scope, gty: 'authorization_code', rotations: 0, iiat: Math.floor(Date.now() / 1000),
      ...(lifetime && { expiresIn: Number(lifetime) }),
    });
    return { refreshToken: await token.save(), family: grantId };
  },

  // end is what an administrator or the user does who withdraws a consent. The
  // session is named by its family or by a refresh token.
  end: async ({ family, token }) => {
    family ??= (await provider.RefreshToken.find(token)).grantId;
    await provider.AccessToken.revokeByGrantId(family);
    await provider.RefreshToken.revokeByGrantId(family);
    await (await provider.Grant.find(family)).destroy();
    return {};
  },

  // whose tells of an access token to whom it belongs, and to which family.
  whose: async ({ token }) => {
    const { accountId: user, grantId: family } = await provider.AccessToken.find(token);
    return { user, family };
  },

  // pass puts the provider's clock forward, or back.
  pass: async ({ seconds }) => {
    const now = Date.now;
    Date.now = () => now() + seconds * 1000;
    return {};
  },

  // reject kills an access token and leaves its family alone.
  reject: async ({ token }) => {
    await (await provider.AccessToken.find(token)).destroy();
    return {};
  },
};

provider.use(async (ctx, next) => {
  ctx.set('Date', new Date(Date.now()).toUTCString()); // by the clock that pass puts forward
  if (ctx.path === '/api' || ctx.path.startsWith('/api/')) return api(ctx);
  if (ctx.path.startsWith('/interaction/')) return interact(provider, ctx);
  if (ctx.path.startsWith('/control/')) {
    ctx.body = await control[ctx.path.slice('/control/'.length)](ctx.query);
    return undefined;
  }
  if (ctx.path === '/favicon.ico') { // there is none, which is no reason to complain
    ctx.status = 204;
    return undefined;
  }
  if (ctx.path === '/token') counts.tokenRequests += 1;
  if (ctx.path === '/token/revocation') counts.revocations += 1;
  return next();
});

for (const { server } of new Set([plain, front, certified ?? plain])) server.on('request', provider.callback());
ready({ issuer, ...(tls && { control: plain.base, certified: certified.base }) });
