// An authorization server and an API for the tests in .., see ../harness.mjs.
// The protocol is that of npm's oauth2-server 2.4.1, on express, as in the
// tutorials of its time: passwords, and refresh tokens that are never spent,
// although each refresh brings a new one. The model is memory.
//
// The argument: {accessLifetime, refreshLifetime, clients}, lifetimes in
// seconds.
import { randomUUID } from 'node:crypto';
import express from 'express';
import oauthserver from 'oauth2-server';
import { counts, knows, listen, options, read, ready } from '../harness.mjs';

const access = new Map(); // by access token
const refresh = new Map(); // by refresh token
const used = new Set(); // the refresh tokens that have been used: this server does not care, the tests do

const model = {
  getClient: (id, secret, done) => {
    const client = options.clients.find((c) => c.client_id === id && (secret === null || c.client_secret === secret));
    done(null, client && { clientId: id });
  },
  grantTypeAllowed: (id, type, done) => done(null, ['password', 'refresh_token'].includes(type)),
  getUser: (username, password, done) => done(null, knows({ username, password }) && { id: username, family: randomUUID() }),
  saveAccessToken: (value, clientId, expires, user, done) => {
    access.set(value, { expires, user });
    done(null);
  },
  getAccessToken: (value, done) => done(null, access.get(value)),
  saveRefreshToken: (value, clientId, expires, user, done) => {
    refresh.set(value, { clientId, expires, user });
    done(null);
  },
  getRefreshToken: (value, done) => {
    if (used.has(value)) counts.reuses += 1;
    used.add(value);
    done(null, refresh.get(value));
  },
};

const { server, base: issuer } = await listen();
const app = express();
app.disable('x-powered-by');
app.oauth = oauthserver({
  model,
  grants: ['password', 'refresh_token'],
  accessTokenLifetime: options.accessLifetime,
  refreshTokenLifetime: options.refreshLifetime,
});

app.post('/token', express.urlencoded({ extended: false }), (req, res, next) => {
  counts.tokenRequests += 1;
  res.on('finish', () => {
    if (res.statusCode === 200 && req.body.grant_type === 'refresh_token') counts.refreshes += 1;
  });
  next();
}, app.oauth.grant());

app.all('/secret', (req, res, next) => {
  counts.api += 1;
  next();
}, app.oauth.authorise(), (req, res, next) => {
  read(req).then((received) => res.json({ subject: req.user.id, received })).catch(next);
});

app.get('/control/counts', (req, res) => res.json(counts));

// end is what an administrator does: it ends the session of a refresh token.
app.get('/control/end', (req, res) => {
  const { family } = refresh.get(req.query.token).user;
  for (const tokens of [access, refresh]) {
    for (const [value, { user }] of tokens) if (user.family === family) tokens.delete(value);
  }
  counts.familiesKilled += 1;
  res.json({});
});

// pass makes all refresh tokens older.
app.get('/control/pass', (req, res) => {
  for (const token of refresh.values()) token.expires = new Date(token.expires - req.query.seconds * 1000);
  res.json({});
});

app.use((err, req, res, next) => {
  if (err.error === 'invalid_grant') counts.invalidGrants += 1;
  if (err.error === 'invalid_client') counts.invalidClients += 1;
  if (req.path === '/secret' && err.code === 401) counts.apiRejected += 1;
  next(err);
}, app.oauth.errorHandler());

server.on('request', app);
ready({ issuer });
