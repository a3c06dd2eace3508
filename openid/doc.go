// Package openid checks ID tokens (OpenID Connect Core), with which an
// authorization server says who has logged in, and reads what they tell.
//
//	cfg := freshtoken.Config{Issuer: issuer, OAuth2: &oauth2.Config{ClientID: id, Scopes: []string{"openid", "email"}}, Store: store}
//	server, err := discovery.Configure(ctx, &cfg)
//	cfg.IDTokens = &openid.Verifier{KeysURL: server.JWKSURI, Algorithms: server.IDTokenSigningAlgValuesSupported}
//	src, err := freshtoken.New(cfg)
//	tok, err := login.Ensure(ctx, src, login.Auto{})
//	who, err := openid.ClaimsOf(tok)
//	fmt.Println(who.Subject, who.Email)
//
// A program that only calls an API needs none of it. It is for those that show who
// is logged in, keep something for that person, or hand the ID token on.
//
// # At a login
//
// A login with the scope openid has to bring an ID token. It has to be from
// Config.Issuer, for this client alone, or for others if it says that this one
// asked (azp), signed with a key that the server has at Verifier.KeysURL, valid
// now, issued in this login (nonce, iat), and for the access token that came with
// it (at_hash). If the login has the parameter max_age, the person must have proved
// who they are as recently (auth_time). Otherwise there is no session, and the
// error is that of the rule: [ErrIssuer], [ErrNonce] and so on. On another device
// (login.Device) there is no nonce.
//
// # At a refresh
//
// Servers may send another ID token with a refresh. Its issuer, subject, audience
// and azp have to be those of the login, and so do nonce and auth_time if they are
// there (section 12.2). If one of them is not, the server has mixed up two
// sessions, or something answers in its place: nothing of the answer is used or
// stored, and the session keeps what it had. The access token serves as long as it
// lives; then callers get ErrSessionEnded with the reason, and Uncertain set: the
// server may have spent the old refresh token, or not, and who asks after five
// minutes has it tried again.
//
// The signature is checked with keys that are at hand, and no refresh waits for
// one that is not: what comes straight from the token endpoint, its certificate
// vouches for (section 3.1.3.7, rule 6). Where there is none, with plain http or a
// Config.Refresher, keys are asked for; and so they are where the key of that name
// has not made the signature, as the server may have another one by now, of the
// same name. If they cannot be had, or a clock is wrong,
// the answer's refresh token is kept and its access token is not: the refresh
// counts as failed for the moment, and costs no session.
//
// # What it tells
//
// [ClaimsOf] reads the ID token that is kept with the session. A server need not
// send one at every refresh, so what it tells may be as old as the login: ask the
// server's userinfo endpoint where that matters. Subject, with Issuer, is what to
// know a person by. Email and PreferredUsername may change, and pass to others.
//
// A logout in the browser (login.BrowserLogout) is told by the same ID token whose
// session to end.
package openid
