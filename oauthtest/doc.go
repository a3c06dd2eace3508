// Package oauthtest is a strict OAuth 2.0 authorization server, and an API that
// trusts it, for tests of programs that hold tokens.
//
// The server rotates refresh tokens and ends a session when a spent one is
// shown, as strict servers in the field do. It misbehaves on demand, in the ways
// that servers and networks are known to, and keeps a log that says in which
// order requests took effect and which answers were written. It lives in
// memory, without sockets, so that tests can run on fake time; or on a loopback
// port, so that other processes can reach it.
//
// # A first test
//
// [New] makes the server, [Server.Login] stands for a whole login, and
// [Server.Client] reaches everything:
//
//	srv := oauthtest.New(oauthtest.Options{})
//	tok := srv.Login("alice", "read")
//	ctx := context.WithValue(ctx, oauth2.HTTPClient, srv.Client())
//	client := srv.OAuth2().Client(ctx, tok)
//	resp, err := client.Get(srv.APIURL("hello"))
//
// The API under /api/ wants a live Bearer token. It answers with JSON: subject,
// family, generation, method, path, scope and resource of the token, and the
// length and sha256 of the request's body, which prove that no body was damaged
// on the way; a client may also state the checksum itself, see [ChecksumHeader].
// With the query scope=x it wants that scope, and with resource=URI a token for
// that resource. The token dies by time, by [Server.RevokeAccess], by
// [Server.RevokeFamily], or as [Options] says.
//
// # Logins
//
// A program that logs in by itself meets the authorization endpoint, where the
// user approves at once: "alice", or who [Server.ApproveAs] says. Open the URL
// that the program makes with [Server.Browser], which follows the redirect to
// the program's own listener:
//
//	open := func(url string) error {
//		resp, err := srv.Browser().Get(url)
//		if err != nil {
//			return err
//		}
//		return resp.Body.Close()
//	}
//
// The redirect URI must be one of Options.RedirectURIs; by default that is
// http://127.0.0.1/callback or http://[::1]/callback with any port.
//
// A program may push its authorization request (RFC 9126), and has to with
// Options.RequirePushed. What comes of it, the log tells at both endpoints.
//
// The user of a device login decides when the test says so: hand the user code
// that the program shows to [Server.ApproveDevice] or [Server.DenyDevice]. The
// log has an [Entry] for each poll, and the differences of their Arrived are
// the gaps between polls; Stats().SlowDowns is how often one came too soon.
//
//	for _, e := range srv.LogOf(oauthtest.TokenEndpoint) {
//		fmt.Println(e.Arrived, e.Outcome) // authorization-pending, slow-down, granted
//	}
//
// With [Options].IDTokens a login with the scope openid brings an ID token, and
// refreshes bring more of them. [SetClaim] and [OmitClaim] make one of their claims
// wrong, under a good signature.
//
// The server describes itself under /.well-known/, with [Server.BaseURL] as the
// issuer; see Options.Metadata.
//
// # One session, several resources
//
// The parameter resource (RFC 8707) says what an access token is to serve for;
// see [Options].Resources. What a login asks for, at the authorization endpoint
// or that for devices, is what it is granted: its token requests may name fewer
// resources, and without any they yield a token for all of them. A login that
// asked for none may name any. A token that was not asked for with a resource,
// neither then nor at the login, is restricted to none and serves everywhere.
//
// A restricted token is refused where the query says that the API is another
// resource: with 401 invalid_token, and [WrongAudience] in the log. Without
// resource in the query the API is of no resource in particular, and takes any
// live token.
//
//	srv.APIURL("files?resource=" + url.QueryEscape("https://files.test"))
//
// Each access token has its own life: another refresh of the session leaves it
// alone, unless [Options].KillOldAccess says otherwise, as some servers do.
// [Entry].Scope and [Entry].Resource tell in the log what a token is good for.
//
// # On fake time
//
// In a testing/synctest bubble an hour passes in no time, and the server's clock
// with it. Use [Server.Client] or [Server.Transport] there, never a listener:
//
//	synctest.Test(t, func(t *testing.T) {
//		srv := oauthtest.New(oauthtest.Options{AccessLifetime: time.Minute})
//		tok := srv.Login("alice")
//		time.Sleep(time.Minute)
//		// The access token has expired: what does the client do?
//	})
//
// The server itself holds no channel and no goroutine and may be made anywhere;
// a [Gate] belongs into the bubble. A client that does not close a response body
// leaves the server's goroutine behind, which the bubble reports.
//
// [Server.Handle] puts other hosts into the same memory: a second API, a second
// server, or the place that a redirect leads to. All other hosts fail to
// connect.
//
// # Over a listener
//
// [Server.Start] listens on 127.0.0.1 and makes that the base URL. Pass
// [Server.TokenURL] and [Server.APIURL] to other processes, and let the log say
// afterwards what they did: Stats().Reuses is how often one of them showed a
// spent refresh token, and Stats().PeakTokenRequests tells whether they took
// turns. net/http's own client repeats a GET whose kept connection was dropped;
// the in-memory transport does not.
//
// # Clients that prove who they are
//
// With [Options].ClientAuth the client has to sign assertions, each of which
// serves once, or to present a certificate: in memory by [Server.TransportWith],
// over a listener by [Server.StartTLS].
//
// # Faults
//
// Each endpoint has its own [Faults], a field of [Server]: a queue for the next
// requests, a function that decides for each, and a standing fault.
//
//	srv.Token.Next(oauthtest.Unavailable("30"), oauthtest.LoseAnswer())
//	srv.API.Always(oauthtest.Unauthorized(`Bearer error="invalid_token"`))
//
// A [Fault] is a struct whose fields combine; the functions that return one are
// starting points. What matters most about a failure of the token endpoint is
// whether the refresh token is spent: a canned answer stands instead of
// processing, so it is not, while [LoseAnswer], [SetMember] and whatever else
// changes a good answer spend it. [Fault.AfterProcessing] turns the former into
// the latter. [Fault.IfRefused] changes only how the server words a refusal:
//
//	srv.API.Always(oauthtest.Redirect(302, "/login").IfRefused())
//
// At the authorization endpoint [Deny] refuses a good request, and [SetParam],
// [AddParam] and [OmitParam] change what the browser brings back. Both combine:
//
//	f := oauthtest.Deny("access_denied")
//	f.Edit = oauthtest.OmitParam("iss").Edit
//	srv.Authorization.Next(f)
//
// The lists [DeadGrants], [OddRefusals], [ClientRefusals], [TargetRefusals],
// [Outages], [LostAnswers], [BadAnswers], [OddAnswers] and
// [OmittedRefreshTokens] hold what token endpoints in the field answer, and
// [Rejections], [OddRejections] and [Denials] what APIs do, each by what it
// means to a client. For logins there are [DeniedLogins], [ForeignCallbacks],
// [BadCallbacks], [OddCallbacks] and [UnfinishedLogins] at the authorization
// endpoint, [BadPushedAnswers] at that for pushed requests, [BadDeviceAnswers],
// [OddDeviceAnswers] and [EndedPolls] for devices, [BadMetadata] and
// [MissingMetadata] for metadata. They are made for table tests:
//
//	for _, f := range oauthtest.DeadGrants() {
//		t.Run(f.Name, func(t *testing.T) {
//			srv := oauthtest.New(oauthtest.Options{})
//			srv.Token.Next(f)
//			// The client must ask for a new login.
//		})
//	}
//
// A [Gate] holds requests before or after they take effect. That is the place to
// kill the client, to cancel it, or to send another request past the one held:
//
//	gate := oauthtest.NewGate()
//	srv.Token.Next(oauthtest.Fault{AfterCommit: gate.Hold})
//	go client.Get(srv.APIURL("hello"))
//	<-gate.Arrived() // the refresh token is spent, and nobody knows
//
// # Reading the log
//
// [Server.Log] returns an [Entry] for each request. Outcome says what the server
// made of it, Order in which order requests took effect, Family and Generation
// which token was shown. A refresh that was granted but whose AnswerWritten is
// zero is one whose successor the client never got. Tokens appear as
// fingerprints only: compare with [Fingerprint]. [Server.Stats] counts.
//
// # Searching for leaks
//
// Every token and code that the server issues has the text "LEAK~" in it, and in
// any twelve bytes of what is random in it; user codes have not, since people
// type them. To see that a program shows no secret, search what it logs, prints
// and stores for that text.
//
// # How strict it is
//
// The endpoints for tokens, revocation, devices and pushed requests accept POST
// with a form and nothing else. They refuse a parameter that stands twice or is empty, a secret
// in the URL, a client that authenticates in two ways or should not at all, HTTP
// Basic without the form-encoding of RFC 6749, section 2.3.1, more scope than
// was granted, a resource that is no absolute URI, has a fragment or was not
// granted, and what was issued to another client. The API refuses a token in
// the URL, two Authorization headers, and any spelling but "Bearer", one space,
// and the token. No refusal of a malformed request spends anything, nor does one
// of a scope or a resource. Grant types are authorization_code, refresh_token,
// client_credentials and device_code, and with [Options].Grants those of
// assertions and of token exchange.
//
// The authorization endpoint wants GET, response_type=code, PKCE with S256, and
// parameters that stand once and are not empty. It shows a page, and redirects
// nobody, unless client and redirect URI are known. A request_uri serves once, the
// client that pushed the request, and with nothing beside it but client_id. An
// authorization code serves once: a well-formed request with another client, redirect URI or verifier
// spends it too, and one that shows it again ends the session that came of it. A
// device code likewise serves once. A poll that follows another too soon is
// answered with slow_down, whatever the user has decided, and makes the interval
// of that login five seconds longer; so the interval counts from poll to poll,
// and the first poll may come at any time (RFC 8628, section 3.5).
package oauthtest
