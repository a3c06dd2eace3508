// What the servers in the folders beside this file have in common. Each takes
// one argument, JSON, and listens on a free port of the loopback interface. The
// first line of its standard output is JSON: {issuer}, its own address, and what
// else there is to say. It ends when its standard input does, hence with whoever
// started it.
import * as http from 'node:http';
import * as https from 'node:https';

export const options = JSON.parse(process.argv[2]);

export const counts = {
  tokenRequests: 0, // POSTs to the token endpoint
  refreshes: 0, // refresh_token grants that were answered with tokens
  invalidGrants: 0, // those answered with invalid_grant
  reuses: 0, // refresh tokens that were shown again after they were spent
  invalidClients: 0,
  revocations: 0, // requests to the revocation endpoint
  familiesKilled: 0, // whatever for: reuse or revocation
  api: 0, // requests to the API,
  apiRejected: 0, // and how many of them were answered with 401
};

// listen opens a port: with TLS, if there are options of node:tls for that.
export async function listen(tls) {
  const server = tls ? https.createServer(tls) : http.createServer();
  await new Promise((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return { server, base: `http${tls ? 's' : ''}://127.0.0.1:${server.address().port}` };
}

// ready says that the server is. last is what to do before the end.
export function ready(said, last = async () => {}) {
  console.log(JSON.stringify(said));
  process.stdin.resume().on('end', () => last().finally(() => process.exit()));
}

export async function read(stream) {
  let text = '';
  for await (const chunk of stream) text += chunk;
  return text;
}

export const form = async (stream) => Object.fromEntries(new URLSearchParams(await read(stream)));

// The users, who all have the same password. Most tests have alice alone.
const users = new Set(['alice', 'bob', 'carol', 'dave', 'erin', 'frank', 'grace', 'heidi', 'ivan', 'judy', 'mallory', 'niaj']);
export const knows = ({ username, password }) => users.has(username) && password === 'wonderland';

// page is all of the HTML that the servers show, but for what is inside.
export const page = (title, inside) => `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>${title}</title></head>
<body><h1>${title}</h1>${inside}</body></html>
`;

export const loginPage = () => page('Sign in', `<form method="post">
<input name="username" autocomplete="username">
<input name="password" type="password" autocomplete="current-password">
<button type="submit">Sign in</button>
</form>`);
