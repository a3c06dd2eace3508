package oauthtest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
)

// Lists of what can happen during a login, by what it means to a client.

// DeniedLogins returns the ways in which the authorization endpoint sends the
// browser back without a code: the login is over. For Server.Authorization.
func DeniedLogins() []Fault {
	described := Deny("access_denied")
	described.Edit = func(a *Answer) {
		SetParam("error_description", `<script>alert("evil")</script>`).Edit(a)
		SetParam("error_uri", "javascript:alert(1)").Edit(a)
	}
	return []Fault{
		Deny("access_denied"),
		named("access-denied-described", described),
		Deny("server_error"),
		Deny("temporarily_unavailable"),
		Deny("invalid_scope"),
		Deny("invalid_target"),
		Deny("invalid_request"),
		Deny("unauthorized_client"),
		Deny("unsupported_response_type"),
		Deny("login_required"),
		Deny("example_private_code"),
	}
}

// ForeignCallbacks returns redirects that do not carry the state that was sent,
// once and to the letter: no client may take them for the answer to its request,
// nor send the code in them anywhere. For Server.Authorization.
func ForeignCallbacks() []Fault {
	deny := func(f Fault) Fault {
		f.Deny = "access_denied"
		return f
	}
	upper := editParams("", func(q url.Values) { q.Set("state", swapCase(q.Get("state"))) })
	return []Fault{
		named("wrong-state", SetParam("state", "evil")),
		named("empty-state", SetParam("state", "")),
		named("missing-state", OmitParam("state")),
		named("twice-state", AddParam("state", "evil")),
		named("other-case-state", upper),
		named("longer-state", editParams("", func(q url.Values) { q.Set("state", q.Get("state")+" ") })),
		named("denied-wrong-state", deny(SetParam("state", "evil"))),
		named("denied-missing-state", deny(OmitParam("state"))),
		named("bare", editParams("", func(q url.Values) { clear(q) })),
	}
}

// swapCase changes the case of the letters; text without any gets one.
func swapCase(s string) string {
	out := strings.Map(func(r rune) rune {
		if lower := 'a' <= r && r <= 'z'; lower || 'A' <= r && r <= 'Z' {
			return r ^ 0x20
		}
		return r
	}, s)
	if out == s {
		out += "x"
	}
	return out
}

// BadCallbacks returns redirects with the right state that a client must refuse
// all the same: the code in them, if there is one, must not be redeemed. Those
// whose name ends in -iss are bad on a server that announces iss, as it does
// unless Options.OmitIss says otherwise. For Server.Authorization.
func BadCallbacks() []Fault {
	iss := func(name string, f func(iss string) string) Fault {
		return named(name, editParams("", func(q url.Values) { q.Set("iss", f(q.Get("iss"))) }))
	}
	denied := SetParam("iss", "https://evil.test")
	denied.Deny = "access_denied"
	return []Fault{
		named("wrong-iss", SetParam("iss", "https://evil.test")),
		named("empty-iss", SetParam("iss", "")),
		named("missing-iss", OmitParam("iss")),
		named("twice-iss", AddParam("iss", "https://evil.test")),
		iss("slash-iss", func(iss string) string { return iss + "/" }),
		iss("other-case-iss", swapCase),
		iss("port-iss", func(iss string) string { return iss + ":443" }),
		named("denied-wrong-iss", denied),
		named("twice-code", AddParam("code", "evil")),
		named("twice-code-same", editParams("", func(q url.Values) { q.Add("code", q.Get("code")) })),
		named("empty-code", SetParam("code", "")),
		named("missing-code", OmitParam("code")),
		named("error-beside-code", AddParam("error", "server_error")),
	}
}

// OddCallbacks returns good redirects with an oddity that a client must cope
// with: the code in them serves. For Server.Authorization.
func OddCallbacks() []Fault {
	return []Fault{
		named("session-state", AddParam("session_state", "a.b=c&d")),
		named("scope", AddParam("scope", "read https://api.example/auth")),
		Edit("unknown-twice", func(a *Answer) {
			AddParam("x", "1").Edit(a)
			AddParam("x", "2").Edit(a)
		}),
		Edit("other-case-unknown", func(a *Answer) {
			AddParam("Code", "evil").Edit(a)
			AddParam("STATE", "evil").Edit(a)
		}),
		Edit("fragment", func(a *Answer) { a.Header.Set("Location", a.Header.Get("Location")+"#_=_") }),
		Edit("see-other", func(a *Answer) { a.Status = http.StatusSeeOther }),
	}
}

// UnfinishedLogins returns what the user gets to see when the browser never
// comes back to the client. For Server.Authorization. With "stall" the request
// lasts until the browser gives up.
func UnfinishedLogins() []Fault {
	return []Fault{
		named("page", HTML(http.StatusOK)),
		named("bad-request", HTML(http.StatusBadRequest)),
		named("unavailable", Unavailable("120")),
		named("other-place", Redirect(http.StatusFound, "/login")),
		Drop(),
		LoseAnswer(),
		Stall(),
	}
}

// BadPushedAnswers returns answers of the pushed authorization request endpoint
// with which no login can go on, or must not: a client sends no browser anywhere.
// For Server.Pushed.
func BadPushedAnswers() []Fault {
	set := func(name, member, text string) Fault { return Edit(name, SetMember(member, text).Edit) }
	return []Fault{
		named("not-found", HTML(http.StatusNotFound)),
		named("html-200", HTML(http.StatusOK)),
		named("error-200", Error(200, "invalid_request")),
		named("error-201", Error(201, "invalid_request")),
		named("invalid-request", Error(400, "invalid_request")),
		named("invalid-scope", Error(400, "invalid_scope")),
		named("invalid-client", Error(401, "invalid_client")),
		named("too-large", Status(http.StatusRequestEntityTooLarge)),
		named("redirect", Redirect(http.StatusTemporaryRedirect, "https://evil.test/par")),
		Edit("status-200", func(a *Answer) { a.Status = http.StatusOK }), // RFC 9126, section 2.2, has 201
		Edit("array", func(a *Answer) { a.Raw = []byte("[]") }),
		Edit("cut-json", func(a *Answer) { b := a.body(); a.Raw = b[:len(b)/2] }),
		Edit("missing-request-uri", OmitMember("request_uri").Edit),
		set("empty-request-uri", "request_uri", `""`),
		set("number-request-uri", "request_uri", `1`),
		set("control-request-uri", "request_uri", `"urn:x\u001b[2J"`),
		Edit("twice-request-uri", AddMember("request_uri", `"urn:evil"`).Edit),
		set("expires-in-zero", "expires_in", `0`),
		set("expires-in-negative", "expires_in", `-1`),
		Edit("endless", BigBody(-1).Edit),
	}
}

// EndedPolls returns answers to the poll of a device login after which no
// further poll helps. For Server.Token.
func EndedPolls() []Fault {
	return []Fault{
		named("access-denied", Error(400, "access_denied")),
		named("access-denied-403", Error(403, "access_denied")),
		named("access-denied-200", Error(200, "access_denied")),
		named("expired-token", Error(400, "expired_token")),
		named("invalid-grant", InvalidGrant()),
		named("invalid-request", Error(400, "invalid_request")),
		named("invalid-client", Error(401, "invalid_client")),
		named("unauthorized-client", Error(400, "unauthorized_client")),
		named("unsupported-grant-type", Error(400, "unsupported_grant_type")),
		named("invalid-scope", Error(400, "invalid_scope")),
		named("invalid-target", Error(400, "invalid_target")),
		named("private-code", Error(400, "example_private_code")),
		named("other-case-pending", Error(400, "Authorization_Pending")),
	}
}

// BadDeviceAnswers returns answers of the device authorization endpoint with
// which no login can go on, or must not: a client neither polls nor shows what
// is in them. For Server.Device.
func BadDeviceAnswers() []Fault {
	set := func(name, member, text string) Fault { return Edit(name, SetMember(member, text).Edit) }
	list := []Fault{
		named("not-found", HTML(http.StatusNotFound)),
		named("html-200", HTML(http.StatusOK)),
		named("error-200", Error(200, "invalid_scope")),
		named("invalid-target", Error(400, "invalid_target")),
		Edit("array", func(a *Answer) { a.Raw = []byte("[]") }),
		set("empty-device-code", "device_code", `""`),
		set("number-device-code", "device_code", `123`),
		set("control-user-code", "user_code", `"WDJB\u001b[2J\r\n"`),
		set("script-uri", "verification_uri", `"javascript:alert(1)"`),
		set("file-uri", "verification_uri", `"file:///etc/passwd"`),
		set("relative-uri", "verification_uri", `"/login"`),
		set("control-uri", "verification_uri", `"https://oauth.test/\u001b[2J"`),
		set("expires-in-zero", "expires_in", `0`),
		set("expires-in-negative", "expires_in", `-1`),
		Edit("endless", BigBody(-1).Edit),
	}
	for _, member := range []string{"device_code", "user_code", "verification_uri"} {
		list = append(list, Edit("missing-"+strings.ReplaceAll(member, "_", "-"), OmitMember(member).Edit))
	}
	return list
}

// OddDeviceAnswers returns good answers of the device authorization endpoint
// with an oddity that a client must cope with. The server counts on
// Options.PollInterval in any case. For Server.Device.
func OddDeviceAnswers() []Fault {
	set := func(name, member, text string) Fault { return Edit(name, SetMember(member, text).Edit) }
	return []Fault{
		Edit("interval-missing", OmitMember("interval").Edit),
		set("interval-null", "interval", `null`),
		set("interval-zero", "interval", `0`),
		set("interval-negative", "interval", `-5`),
		set("interval-string", "interval", `"5"`),
		set("interval-float", "interval", `5.0`),
		Edit("complete-uri-missing", OmitMember("verification_uri_complete").Edit),
		Edit("verification-url", RenameMember("verification_uri", "verification_url").Edit),
		Edit("unknown-members", AddMember("message", `"To sign in, use a web browser"`).Edit),
	}
}

// BadMetadata returns documents that describe no server, or another one: a
// client must discard them whole. For Server.Metadata.
func BadMetadata() []Fault {
	issuer := func(name string, f func(issuer string) string) Fault {
		return Edit(name, func(a *Answer) {
			var own string
			if json.Unmarshal(a.Members.Get("issuer"), &own) == nil {
				a.Members.Set("issuer", f(own))
			}
		})
	}
	set := func(name, member, text string) Fault { return Edit(name, SetMember(member, text).Edit) }
	return []Fault{
		issuer("other-issuer", func(string) string { return "https://evil.test" }),
		issuer("slash-issuer", func(own string) string { return own + "/" }),
		issuer("other-case-issuer", swapCase),
		issuer("port-issuer", func(own string) string { return own + ":443" }),
		issuer("path-issuer", func(own string) string { return own + "/tenant" }),
		issuer("template-issuer", func(own string) string { return own + "/{tenantid}" }),
		Edit("missing-issuer", OmitMember("issuer").Edit),
		set("null-issuer", "issuer", `null`),
		set("array-issuer", "issuer", `["https://oauth.test"]`),
		set("plain-token-endpoint", "token_endpoint", `"http://oauth.test/token"`),
		set("script-authorization-endpoint", "authorization_endpoint", `"javascript:alert(1)"`),
		set("file-authorization-endpoint", "authorization_endpoint", `"file:///etc/passwd"`),
		set("relative-token-endpoint", "token_endpoint", `"/token"`),
		set("number-token-endpoint", "token_endpoint", `1`),
		Edit("cut-json", func(a *Answer) { b := a.body(); a.Raw = b[:len(b)/2] }),
		Edit("endless", BigBody(-1).Edit),
	}
}

// MissingMetadata returns answers that mean that there is no metadata in the
// place that was asked, though there may be in the other one. For
// Server.Metadata.
func MissingMetadata() []Fault {
	return []Fault{
		named("not-found", Status(http.StatusNotFound)),
		named("html-404", HTML(http.StatusNotFound)),
		named("html-200", HTML(http.StatusOK)), // an application of one page
		named("array", JSON(200, `[]`)),
		named("null", JSON(200, `null`)),
		named("no-content", Status(http.StatusNoContent)),
		named("unauthorized", Unauthorized(`Bearer`)),
		named("forbidden", Forbidden()),
		named("redirect", Redirect(http.StatusFound, "https://evil.test/")),
	}
}
