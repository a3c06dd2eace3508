// An API behind oauth2-proxy for the tests in .., see ../harness.mjs. The proxy
// is the program that go.mod here pins; what is ours is its flags and the API,
// which believes what the proxy says of the user.
//
// The argument: {binary, issuer, clientId, clientSecret, audience}: the proxy's
// program, the authorization server, the proxy's client there, and the audience
// of the JWTs that it takes from others. The first line has two further members,
// the addresses of two proxies: proxy, which sends those who must sign in to the
// server, and button, which shows them a page with a button, as it does by
// default. The proxies end with this process.
import { spawn } from 'node:child_process';
import * as net from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { listen, options, read, ready } from '../harness.mjs';

const { server, base: issuer } = await listen();
server.on('request', async (req, res) => {
  res.setHeader('Content-Type', 'application/json');
  res.end(JSON.stringify({ subject: req.headers['x-forwarded-user'], received: await read(req) }));
});

// freePort returns a port that was free a moment ago: the proxy does not tell
// which one it gets.
async function freePort() {
  const probe = net.createServer();
  await new Promise((resolve) => { probe.listen(0, '127.0.0.1', resolve); });
  const { port } = probe.address();
  await new Promise((resolve) => { probe.close(resolve); });
  return port;
}

const stops = []; // each stops a proxy, and returns when it has ended

// start returns the address of a proxy that answers, or undefined if it ended.
async function start(flags) {
  const address = `127.0.0.1:${await freePort()}`;
  const child = spawn(options.binary, [
    `--http-address=${address}`, `--upstream=${issuer}/`,
    '--provider=oidc', `--oidc-issuer-url=${options.issuer}`,
    `--client-id=${options.clientId}`, `--client-secret=${options.clientSecret}`, `--redirect-url=http://${address}/oauth2/callback`,
    '--cookie-secret=0123456789abcdef0123456789abcdef', '--cookie-secure=false',
    '--email-domain=*', '--oidc-email-claim=sub',
    '--skip-jwt-bearer-tokens', `--oidc-extra-audience=${options.audience}`,
    '--api-route=^/api/', ...flags,
  ], { stdio: ['ignore', 'ignore', 'inherit'] });
  process.on('exit', () => child.kill('SIGKILL')); // whatever for
  let ended = false;
  const end = new Promise((resolve) => { child.on('exit', resolve).on('error', (err) => { console.error(err); resolve(); }); });
  end.then(() => { ended = true; });
  stops.push(async () => { child.kill(); await end; });
  for (let i = 0; i < 600 && !ended; i += 1) {
    const answer = await fetch(`http://${address}/ping`).catch(() => undefined);
    if (answer?.ok && !ended) return `http://${address}`;
    await setTimeout(50);
  }
  child.kill('SIGKILL');
  return undefined;
}

// started tries again if another program was faster with the port.
async function started(flags) {
  for (let i = 0; i < 3; i += 1) {
    const address = await start(flags);
    if (address) return address;
  }
  throw new Error('oauth2-proxy does not start');
}

const [proxy, button] = await Promise.all([started(['--skip-provider-button']), started([])]);
ready({ issuer, proxy, button }, () => Promise.all(stops.map((stop) => stop())));
