// Package discovery asks an authorization server for its metadata (RFC 8414,
// OpenID Connect Discovery), and fills a freshtoken.Config in with it.
//
//	cfg := freshtoken.Config{
//		OAuth2: &oauth2.Config{ClientID: "my-client", Scopes: scopes},
//		Issuer: "https://login.example.com",
//		Store:  store,
//	}
//	if _, err := discovery.Configure(ctx, &cfg); err != nil {
//		return err
//	}
//	src, err := freshtoken.New(cfg)
//
// # When to use it
//
// A program whose users bring their own server, or that talks to many, needs
// [Configure]: the issuer is all that its users have to know.
//
// A program that talks to one server may as well write the endpoints down:
// print once what [Fetch] finds, and copy it. Either way Config.Issuer stays as
// it is, since stored sessions are bound to it.
//
// Configure keeps the metadata in Config.Store, sealed like a session, and asks
// once a day. So a program starts without it being asked for, and while the
// server is down it can still use the tokens that it has.
//
// # What is believed
//
// A document counts only if it names exactly the issuer that was asked for,
// character by character, so that no server can speak for another. It must
// come from the issuer's own origin; the endpoints in it may be elsewhere, but
// must be https. Plain http is for this machine alone, as in freshtoken.New,
// unless Config.InsecureHTTP is set. Issuers shared by many tenants, such as
// .../common/v2.0, name an issuer with a placeholder and are refused: use the
// issuer of a tenant, or write the endpoints down.
//
// # When it fails
//
// A failure costs no session: this package touches none that is stored, and
// leaves the Config as it was. Do not take it for a reason to log in again.
// Branch on the errors with errors.Is: [ErrUnavailable] passes as a rule, the
// others are about the Config or the server, and say what to change. Of
// a document they repeat nothing but the issuer and the names of authentication
// methods, made harmless.
package discovery
