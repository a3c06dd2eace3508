// Package grant has sessions that need neither a person nor a refresh token: each
// token is asked for anew, with something that the program has at hand.
//
//   - [TokenExchange]: with a token of another kind, or from another server (RFC
//     8693): that of a user's session, or the one that a platform gives its
//     workloads, as Kubernetes does.
//   - [JWTBearer]: with an assertion that the program signs with its key, or is
//     handed (RFC 7523 section 2.1), as service accounts do at Google and
//     integrations at Salesforce.
//   - [ClientCredentials]: with nothing but what the client authenticates with
//     (RFC 6749 section 4.4).
//
// Each is a Config.Refresher, and that is all there is to set: it asks the token
// endpoint of the Config, as its client, whether that authenticates by a secret,
// by Config.ClientAuth or not at all, and it brings the first token as well as
// the others.
//
//	src, err := freshtoken.New(freshtoken.Config{
//		OAuth2:     &oauth2.Config{ClientID: "billing", Endpoint: oauth2.Endpoint{TokenURL: tokenURL}},
//		Refresher:  &grant.TokenExchange{Subject: grant.File("/var/run/secrets/tokens/sts", grant.TypeJWT)},
//		Background: true,
//	})
//
// Everything else is as it is for any session: one request at a time over all
// goroutines and processes that share a Store, in good time before the token
// expires, and after a 401. Config.RefreshParams are further parameters, for
// servers that want some. Config.OAuth2.Scopes, which logins ask for, stay empty:
// each grant has Scopes of its own. A Config with a Store needs a ClientID or a
// Config.Session that tells the identities apart.
//
// The first token is had when somebody asks for one, also with Config.Background,
// which keeps it fresh from then on. A service that calls Source.Token at its start
// is told at once of a client or a key that the server does not know. Until there is
// a first token, what it fails of is told as for any other: it is no
// freshtoken.ErrNoSession, for nobody has to log in.
//
// # When the server refuses
//
// Nothing has been spent, and nothing has ended: the next attempt has another
// assertion, or another subject token, and may do better. So a refusal is a
// [*freshtoken.RefreshError] that matches [ErrRefused] and is Temporary: the
// token in use serves on until it expires, the Source asks again after a pause
// that grows, and no refusal makes freshtoken.ErrSessionEnded of it. Only if the
// server does not know the client, or allows it no such grant, is it not
// Temporary.
//
// What the program's own function fails with is wrapped in such an error, too:
// if the user's session, from which the subject token comes, has ended, callers
// find freshtoken.ErrSessionEnded (errors.Is), and this session goes on by itself
// once somebody has logged in there.
//
// What cannot work at all, New refuses: see the errors of this package.
//
// # What is not kept
//
// A refresh token in the answer is dropped: the RFCs advise servers against it,
// and a session that is asked for anew ends when what it rests on does, which a
// refresh token would outlive.
package grant
