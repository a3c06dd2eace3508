// Clients that present a certificate (RFC 8705). They have a port of their own,
// so that browsers are not asked for one.
import { createHash } from 'node:crypto';

// certificate is what the client of a request has presented.
const certificate = (ctx) => ctx.socket.getPeerX509Certificate?.();

// mTLS is the provider's configuration. The certificate of tls_client_auth has to
// come from the CA of the listener; that of self_signed_tls_client_auth may come
// from anywhere, and the provider compares it with those that are registered.
export const mTLS = {
  enabled: true,
  certificateBoundAccessTokens: true,
  selfSignedTlsClientAuth: true,
  tlsClientAuth: true,
  getCertificate: certificate,
  certificateAuthorized: (ctx) => ctx.socket.authorized,
  certificateSubjectMatches: (ctx, property, expected) => {
    if (property !== 'tls_client_auth_subject_dn') throw new Error(`${property} is not compared here`);
    // A line for each part, the outermost first; RFC 4514 has it last.
    return certificate(ctx).subject.split('\n').reverse().join(',') === expected;
  },
};

// aliases are the endpoints of such clients (RFC 8705 section 5).
export const aliases = (base) => ({
  token_endpoint: `${base}/token`,
  revocation_endpoint: `${base}/token/revocation`,
  device_authorization_endpoint: `${base}/device/auth`,
  userinfo_endpoint: `${base}/me`,
});

// presents tells whether a request comes with the certificate that its access
// token is bound to, if that is bound to one (RFC 8705 section 3).
export function presents(ctx, token) {
  const bound = token['x5t#S256'];
  const cert = certificate(ctx);
  return !bound || (cert && createHash('sha256').update(cert.raw).digest('base64url') === bound);
}
