// Package freshtoken keeps one OAuth 2.0 session alive for a Go program: it
// attaches the access token to each request, replaces it before it expires or
// after a 401, and stores every rotated refresh token before anyone uses what
// came with it. It does so from any number of goroutines and processes of one
// machine.
//
// # What you need
//
// A [Source] keeps a session. It needs the client and the endpoints, as an
// oauth2.Config, which package discovery fills in from the server's issuer; and
// a place to keep the session, a [Store]. To start a session, have somebody log
// in with package login, or hand the token of a login to [Source.SetToken],
// however it was had; to end it, call [Source.Logout].
//
//	cfg := freshtoken.Config{Issuer: issuer, OAuth2: &oauth2.Config{ClientID: id}, Store: store}
//	_, err := discovery.Configure(ctx, &cfg)
//	src, err := freshtoken.New(cfg)
//	tok, err := login.Ensure(ctx, src, login.Auto{})
//	client := src.Client("https://api.example.com")
//
// A client that authenticates by a key or a certificate, and not by a secret,
// sets [Config.ClientAuth]: see package clientauth.
//
// A program that shows who is logged in sets [Config.IDTokens]: see package
// openid.
//
// # How a session begins
//
// With login.Ensure, where a program wants it to: at its start, say, or in a
// command of its own. With [Config.Reauthenticate], whenever somebody needs a
// token and there is none to be had. With SetToken, for a token that comes from
// elsewhere; with [Source.Import], for the plaintext file in which a program has
// kept one so far. Services that have tokens without a person, by client
// credentials for instance, set [Config.Refresher]: see package grant.
//
// # Which way to use it
//
// As an http.Client: [Source.Client], or a [Transport] of your own over
// any base. This is the way for APIs: it replays a request whose token was
// rejected, and knows which origins may see the token.
//
// As an oauth2.TokenSource, for libraries that want one: [Source.TokenSource].
// Such a library attaches the token by itself, and does not tell when an API
// rejects it.
//
// As a token: [Source.Token] before each use, and [Source.Refresh] when an API
// has rejected it. The call costs two atomic loads and a look at the clock; keep
// no token for later.
//
// # Which store
//
// Package storage has sealed files, whose key is a passphrase, a file, or held
// by the OS keyring (package keyring); that is the choice for most programs.
// Package keyring also keeps whole sessions. Without a Store the session ends
// with the program. Any other place will do that keeps the contract of [Store];
// with a Lock that excludes across machines, a session can be shared by
// machines.
//
// # Foreground or background
//
// By default nothing happens between calls: when a refresh is due, one caller
// waits for it, for two seconds at most, and the others go on with the token
// they have. That suits programs that run for a moment. Services and desktop
// programs set [Config.Background]: a timer refreshes the session in time, and
// nobody waits. Both call [Source.Close] before they end.
//
// Where the server says how long the session itself lasts, [Status] tells when it
// ends, as RefreshExpiry, and [EventExpiring] comes in time.
// [Config.KeepAlive] refreshes for the sake of the refresh token, too.
//
// # When an API demands more
//
// A Transport hands on an answer that demands more scope, or another login: no
// refresh brings either. [ChallengeFrom] reads it, and [Source.StepUp] has a
// person log in for it, not too often.
//
// # Several APIs
//
// [Source.For] makes another Source of the same session, whose access tokens are
// for a [Target]: one API of several, or fewer scopes. It is used like the first,
// and shares its refresh token.
//
// # Several accounts
//
// [Sources] has a Source for each name. They may share a Store, and nothing
// else: what is stored is bound to the name, the client and the server.
//
// # When something fails
//
// Branch on the errors with errors.Is: [ErrNoSession] and [ErrSessionEnded] ask
// for a login; [ErrLocked] and a [*RefreshError] that is Temporary pass; what to
// do about [ErrStore], the text says: free the disk, unlock the keyring, enter
// the right passphrase. The others are for the developer. Transient failures do not
// reach callers as long as the access token is valid. [Source.Status] and
// [Config.OnEvent] tell what goes on beneath, and [Config.OnAttempt] what it took.
//
// # What cannot be survived
//
// Where a server accepts each refresh token once, and a program is killed, or
// the network cut, after the server has issued the next one and before that is
// on the disk, the session is lost, and nothing on the client's side can help.
// The next attempt says so: [ErrSessionEnded], with [RefreshError].Interrupted
// set.
package freshtoken
