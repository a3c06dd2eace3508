// Package login starts sessions: it has a person log in, by the browser of this
// machine or on another device, and hands the tokens to a freshtoken.Source.
//
//	src, err := freshtoken.New(cfg)
//	tok, err := login.Ensure(ctx, src, login.Auto{})
//
// [Ensure] returns the session's token. It has somebody log in only if nobody is
// logged in, or the session has ended, and only once, however many goroutines
// and processes ask; and before it does so it sees that the session can be
// stored. Config.Reauthenticate has a Source do the same by itself.
//
// # Which way
//
//   - [Loopback]: the browser of this machine, and back to a port of this
//     machine. The way for programs that run where the person sits (RFC 8252).
//   - [Device]: the person visits an address on any device and enters a code
//     there. The way over ssh, in containers, on devices without a browser (RFC
//     8628). Not every server has it, and not for every client.
//   - [Auto]: the first where a browser can be opened, else the second where the
//     server has it.
//   - Any other: whatever yields an *oauth2.Token, handed to Source.SetToken, or
//     an Authenticator of your own.
//
// # What it needs
//
// Of freshtoken.Config: OAuth2 with ClientID, Scopes and the Endpoint's AuthURL
// or DeviceAuthURL, which discovery.Configure fills in from the Issuer; the
// Issuer, to tell answers of another server (RFC 9207).
//
// At the server: a client for native applications, usually without a secret,
// with the redirect URI http://127.0.0.1/callback on any port. Where it wants
// another, Config.OAuth2.RedirectURL says which.
//
// Servers give a refresh token if they are asked for one: by the scope
// offline_access, by access_type=offline (the option AccessTypeOffline), or
// always. A login that brings none fails with [ErrNoRefreshToken], unless the
// option AccessTokenOnly allows it: the session would end within the hour.
//
// Where Config.PushedAuthorizationURL is set, a login by browser leaves its
// parameters at the server first, and the browser is given no more than their
// name, which serves once (RFC 9126). What the server would have told the person
// in the browser, such as that it does not know the redirect URI, then is an error
// of the login, a [*ServerError].
//
// # Who is asked
//
// Without a [Prompt] a flow talks to standard error, if that is a terminal, and
// fails with [ErrNotInteractive] otherwise: no program waits for a person who is
// not there. A desktop program gives a Prompt of its own.
//
// # What is guarded against
//
// Every login has a state, a PKCE verifier (S256, RFC 7636) and a listener of
// its own, which is on the loopback interface alone and ends with the login. An
// answer with a wrong state is refused and the login goes on; one that names
// another issuer, or a parameter twice, ends it. A code is sent once, to the
// token endpoint alone. The browser is given https addresses, and those of this
// machine, as one argument, without a shell.
//
// Not guarded against: other users of this machine who see that argument, as the
// list of processes shows it on many systems. They can answer the listener with
// a login of their own, and have the program go on in their account. Where that
// matters, show who has logged in, or use [Device].
package login
