// An authorization server and an API for the tests in .., see ../harness.mjs.
// The protocol is that of npm's @node-oauth/oauth2-server, which leaves to its
// user what a model is: here, memory, in which refresh tokens rotate and one
// that is shown again ends its family (RFC 9700 section 4.14.2).
//
// The argument: {accessLifetime, refreshLifetime, clients}, lifetimes in
// seconds.
import { randomUUID } from 'node:crypto';
import OAuth2Server from '@node-oauth/oauth2-server';
import { counts, form, knows, listen, loginPage, options, read, ready } from '../harness.mjs';

const grants = ['password', 'authorization_code', 'refresh_token'];
const clients = new Map(options.clients.map(({ client_id: id, client_secret: secret }) => [id, {
  id, secret, grants, redirectUris: ['http://127.0.0.1/callback'],
}]));
const codes = new Map(); // by code
const access = new Map(); // by access token
const refresh = new Map(); // by refresh token, those that are good
const spent = new Map(); // by refresh token, the family of those that are not

// kill ends a family. Its refresh tokens stay known as spent.
function kill(family) {
  for (const [value, { user }] of access) if (user.family === family) access.delete(value);
  for (const [value, { user }] of refresh) if (user.family === family) refresh.delete(value);
  counts.familiesKilled += 1;
}

// A login is a user with a family: tokens carry it from one to the next.
const login = (name) => ({ name, family: randomUUID() });

const model = {
  getClient: async (id, secret) => {
    const client = clients.get(id);
    return client && (!client.secret || secret === null || secret === client.secret) ? client : false;
  },
  getUser: async (username, password) => knows({ username, password }) && login(username),

  saveAuthorizationCode: async (code, client, user) => {
    codes.set(code.authorizationCode, { ...code, client, user });
    return code;
  },
  getAuthorizationCode: async (code) => codes.get(code),
  revokeAuthorizationCode: async ({ authorizationCode }) => codes.delete(authorizationCode),
  // The port is the program's to choose (RFC 8252 section 7.3).
  validateRedirectUri: async (uri, { redirectUris }) => redirectUris.includes(uri.replace(/^(http:\/\/127\.0\.0\.1):\d+\//, '$1/')),
  validateScope: async () => ['api'], // there is only one

  saveToken: async (token, client, user) => {
    const saved = { ...token, client, user };
    access.set(token.accessToken, saved);
    refresh.set(token.refreshToken, saved);
    return saved;
  },
  getAccessToken: async (value) => access.get(value),
  getRefreshToken: async (value) => {
    if (spent.has(value)) {
      counts.reuses += 1;
      kill(spent.get(value));
    }
    return refresh.get(value);
  },
  revokeToken: async ({ refreshToken, user }) => {
    spent.set(refreshToken, user.family);
    return refresh.delete(refreshToken);
  },
};

const { server, base: issuer } = await listen();
const oauth = new OAuth2Server({
  model,
  accessTokenLifetime: options.accessLifetime,
  refreshTokenLifetime: options.refreshLifetime,
  requireClientAuthentication: { password: false, refresh_token: false }, // a client without a secret has none
});

// handle has the library answer a request in its own terms.
async function handle(req, res, url, act) {
  const query = Object.fromEntries(url.searchParams);
  const request = new OAuth2Server.Request({ method: req.method, headers: req.headers, query, body: req.filled ?? {} });
  const response = new OAuth2Server.Response({});
  try {
    await act(request, response);
  } catch (err) {
    if (response.status !== 302) { // or else the redirect says what is wrong
      response.status = err.code ?? 500;
      response.body = { error: err.name, error_description: err.message };
    }
    if (response.status >= 500) console.error(err);
  }
  res.writeHead(response.status, { 'Content-Type': 'application/json', ...response.headers });
  res.end(JSON.stringify(response.body));
}

const routes = {
  '/token': async (req, res, url) => {
    counts.tokenRequests += 1;
    req.filled = await form(req);
    await handle(req, res, url, async (request, response) => {
      try {
        await oauth.token(request, response);
        if (request.body.grant_type === 'refresh_token') counts.refreshes += 1;
      } catch (err) {
        if (err.name === 'invalid_grant') counts.invalidGrants += 1;
        if (err.name === 'invalid_client') counts.invalidClients += 1;
        throw err;
      }
    });
  },

  '/authorize': async (req, res, url) => {
    const filled = req.method === 'POST' ? await form(req) : {};
    if (!knows(filled)) {
      res.writeHead(200, { 'Content-Type': 'text/html' });
      res.end(loginPage());
      return;
    }
    const authenticateHandler = { handle: async () => login(filled.username) };
    await handle(req, res, url, (request, response) => oauth.authorize(request, response, { authenticateHandler }));
  },

  '/secret': async (req, res, url) => {
    counts.api += 1;
    await handle(req, res, url, async (request, response) => {
      try {
        const { user } = await oauth.authenticate(request, response);
        response.body = { subject: user.name, received: await read(req) };
      } catch (err) {
        if (err.code === 401) counts.apiRejected += 1;
        throw err;
      }
    });
  },

  '/control/counts': (req, res) => res.end(JSON.stringify(counts)),

  // end is what an administrator does: it ends the session of a refresh token.
  '/control/end': (req, res, url) => {
    kill(refresh.get(url.searchParams.get('token')).user.family);
    res.end('{}');
  },

  // pass makes all refresh tokens older.
  '/control/pass': (req, res, url) => {
    for (const token of refresh.values()) {
      token.refreshTokenExpiresAt = new Date(token.refreshTokenExpiresAt - url.searchParams.get('seconds') * 1000);
    }
    res.end('{}');
  },
};

server.on('request', (req, res) => {
  const url = new URL(req.url, issuer);
  const route = routes[url.pathname] ?? (() => res.writeHead(404).end());
  Promise.resolve(route(req, res, url)).catch((err) => {
    console.error(err);
    res.destroy();
  });
});
ready({ issuer });
