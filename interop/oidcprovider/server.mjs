// An authorization server and an API for the tests in .., on a free port of
// the loopback interface. The server is npm's oidc-provider, as it comes; what
// is ours here is its configuration, an API that checks tokens, and back doors
// under /control that only a test has use for.
//
// The only argument is JSON: {accessLifetime, refreshLifetime, rotate, clients},
// lifetimes in seconds. The first line of standard output is JSON: {issuer}.
// The server ends when its standard input does, hence with whoever started it.
import * as http from 'node:http';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { Provider } from 'oidc-provider';

const options = JSON.parse(process.argv[2]);
const scope = 'offline_access api';

const counts = {
  tokenRequests: 0, // POSTs to the token endpoint
  refreshes: 0, // refresh_token grants that were answered with tokens
  invalidGrants: 0, // those answered with invalid_grant,
  reuses: 0, // and of these, for a refresh token that was spent before
  invalidClients: 0,
  revocations: 0, // requests to the revocation endpoint
  familiesKilled: 0, // whatever for: reuse or revocation
  api: 0, // requests to the API,
  apiRejected: 0, // and how many of them were answered with 401
};

const server = http.createServer();
await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
const issuer = `http://127.0.0.1:${server.address().port}`;

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const provider = new Provider(issuer, {
  clients: options.clients.map((client) => ({
    redirect_uris: ['http://127.0.0.1/callback'],
    application_type: 'native',
    grant_types: ['authorization_code', 'refresh_token'],
    response_types: ['code'],
    ...client,
  })),
  clientDefaults: { id_token_signed_response_alg: 'ES256' },
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'ES256', kid: 'test' }] },
  cookies: { keys: [randomBytes(16).toString('hex')] },
  findAccount: async (ctx, id) => ({ accountId: id, claims: async () => ({ sub: id }) }),
  scopes: scope.split(' '),
  clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post'],
  enabledJWA: { idTokenSigningAlgValues: ['ES256'] },
  issueRefreshToken: async () => true,
  expiresWithSession: async () => false,
  rotateRefreshToken: options.rotate,
  ttl: { AccessToken: options.accessLifetime, RefreshToken: options.refreshLifetime, Grant: 86400 },
  features: { devInteractions: { enabled: false }, revocation: { enabled: true } },
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
provider.on('grant.revoked', () => { counts.familiesKilled += 1; });
provider.on('server_error', (ctx, err) => { console.error(err); });

// api answers for a resource server (RFC 6750 section 3) that asks the
// provider about each token.
async function api(ctx) {
  counts.api += 1;
  const [, value] = /^Bearer +(\S+)$/i.exec(ctx.get('authorization')) ?? [];
  const token = value && await provider.AccessToken.find(value);
  if (!token || token.isExpired) {
    counts.apiRejected += 1;
    ctx.status = 401;
    ctx.set('WWW-Authenticate', `Bearer realm="api"${value ? ', error="invalid_token"' : ''}`);
    ctx.body = { error: 'unauthorized' };
    return;
  }
  let received = '';
  for await (const chunk of ctx.req) received += chunk;
  ctx.body = { subject: token.accountId, client: token.clientId, received };
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

  // end is what an administrator or the user does who withdraws a consent.
  end: async ({ family }) => {
    await provider.AccessToken.revokeByGrantId(family);
    await provider.RefreshToken.revokeByGrantId(family);
    await (await provider.Grant.find(family)).destroy();
    return {};
  },

  // reject kills an access token and leaves its family alone.
  reject: async ({ token }) => {
    await (await provider.AccessToken.find(token)).destroy();
    return {};
  },
};

provider.use(async (ctx, next) => {
  if (ctx.path === '/api' || ctx.path.startsWith('/api/')) return api(ctx);
  if (ctx.path.startsWith('/control/')) {
    ctx.body = await control[ctx.path.slice('/control/'.length)](ctx.query);
    return undefined;
  }
  if (ctx.path === '/token') counts.tokenRequests += 1;
  if (ctx.path === '/token/revocation') counts.revocations += 1;
  return next();
});

server.on('request', provider.callback());
console.log(JSON.stringify({ issuer }));
process.stdin.resume().on('end', () => process.exit(0));
