// Package clientauth proves to an authorization server which client asks, where
// a secret that is sent will not do: by a signed assertion (RFC 7523), or by the
// certificate of the connection (RFC 8705).
//
// # Which way
//
// The server says: it has the client registered with one method, whose name is
// token_endpoint_auth_method.
//
//   - none: nothing to do.
//   - client_secret_basic, client_secret_post: ClientSecret of oauth2.Config, and
//     its Endpoint.AuthStyle.
//   - private_key_jwt: [PrivateKeyJWT]. The key stays here; the server has the
//     public one, for which there is Key.PublicJWKS.
//   - client_secret_jwt: [SecretJWT]. The secret is a key, and is never sent.
//   - tls_client_auth, self_signed_tls_client_auth: [Certificate].
//
// The result is Config.ClientAuth, and ClientSecret is left out:
//
//	key, err := clientauth.LoadKey("client.pem", "key-1")
//	auth, err := clientauth.PrivateKeyJWT(key, clientauth.Options{})
//	cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "my-client"}, Issuer: issuer, ClientAuth: auth}
//	_, err = discovery.Configure(ctx, &cfg)
//
// discovery.Configure compares it with what the server says that it takes, and
// chooses the endpoints that the server has for certificates. Refreshes, logins,
// device logins with their polls, and revocations all use it.
//
// # Assertions
//
// Each request has an assertion of its own, which names this client, is for the
// server's issuer identifier alone, and is good for a minute. [Options] has what
// servers want otherwise: the token URL as the audience, another typ.
//
// Keys are read from PEM, JWK and JWKS files, or are a crypto.Signer, such as
// those that a KMS, an HSM or a TPM has: see [NewKey].
//
// # Certificates
//
// A [Certificate] is two things: Config.ClientAuth, and the HTTP client that
// presents it.
//
//	cert, err := clientauth.LoadCertificate("client.crt", "client.key")
//	cfg := freshtoken.Config{OAuth2: o, Issuer: issuer, ClientAuth: cert, HTTPClient: cert.Client()}
//
// If the server binds tokens to the certificate, the API has to see it, too:
//
//	api := &http.Client{Transport: &freshtoken.Transport{Source: src, Base: cert.Transport(nil), Origins: origins}}
//
// A program that runs for longer than its certificate calls [Certificate.Renew].
// That costs a refresh, and no login.
//
// # When it fails
//
// What is wrong with a key, a secret or a certificate is an error of its own when
// it is read or put to use: [ErrKeyTooShort], [ErrEncrypted], [ErrMismatch] and
// so on. What fails later, such as a KMS that cannot be reached, or a certificate
// that has expired, fails before anything is sent: the session stays, and goes on
// once that is mended.
package clientauth
