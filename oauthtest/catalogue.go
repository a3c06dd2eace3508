package oauthtest

import (
	"net/http"
	"time"
)

// Lists of what servers in the field answer, by what it means to a client. The
// names are stable: see [Pick].

// Pick returns the fault of this name. It panics if there is none.
func Pick(list []Fault, name string) Fault {
	for _, f := range list {
		if f.Name == name {
			return f
		}
	}
	panic("oauthtest: no fault is called " + name)
}

func named(name string, f Fault) Fault {
	f.Name = name
	return f
}

// DeadGrants returns the ways of token endpoints to say that a refresh token is
// dead, in so many words: only a login helps.
func DeadGrants() []Fault {
	described := errorAnswer(400, "invalid_grant", "Token has been expired or revoked.")
	return []Fault{
		named("invalid-grant", InvalidGrant()),
		named("invalid-grant-described", JSON(400, string(described.body()))),
		named("invalid-grant-401", Error(401, "invalid_grant")),
		named("invalid-grant-403", Error(403, "invalid_grant")),
		named("invalid-grant-200", Error(200, "invalid_grant")),
		named("invalid-grant-code", JSON(400, `{"code":400,"error":"invalid_grant"}`)),
		named("invalid-grant-string", JSON(400, `{"code":"400","error":"invalid_grant"}`)),
	}
}

// OddRefusals returns refusals of a refresh token by other names, or by none:
// they may mean that it is dead.
func OddRefusals() []Fault {
	return []Fault{
		named("bad-refresh-token", Error(400, "bad_refresh_token")),
		named("bad-refresh-token-200", JSON(200, `{"error":"bad_refresh_token","error_description":"The refresh token passed is incorrect or expired.","error_uri":"https://docs.example/errors"}`)),
		named("invalid-request-claimed", JSON(400, `{"error":"invalid_request","error_description":"Refresh token is invalid or has already been claimed by another client."}`)),
		named("invalid-request-expired", JSON(400, `{"error":"invalid_request","error_description":"Refresh token expired."}`)),
		named("invalid-token-401", Error(401, "invalid_token")),
		named("bad-verification-code-200", Error(200, "bad_verification_code")),
		named("private-code-403", Error(403, "example_session_gone")),
		named("error-object", JSON(400, `{"error":{"code":400,"message":"refresh token gone"}}`)),
		named("empty-400", Status(400)),
		named("empty-401", Status(401)),
		named("html-400", HTML(400)),
	}
}

// ClientRefusals returns answers that blame the client's configuration: the
// refresh token is as good as before.
func ClientRefusals() []Fault {
	basic := Error(401, "invalid_client")
	basic.Header.Set("WWW-Authenticate", `Basic realm="oauthtest"`)
	return []Fault{
		named("invalid-client", basic),
		named("invalid-client-400", Error(400, "invalid_client")),
		named("unauthorized-client", Error(400, "unauthorized_client")),
		named("unsupported-grant-type", Error(400, "unsupported_grant_type")),
	}
}

// TargetRefusals returns answers that blame what the access token was asked for,
// a scope or a resource (RFC 8707): the refresh token is as good as before, and
// serves to ask for something else.
func TargetRefusals() []Fault {
	return []Fault{
		named("invalid-scope", Error(400, "invalid_scope")),
		named("invalid-scope-described", JSON(400, `{"error":"invalid_scope","error_description":"One or more scopes are not configured for this client.","scope":"admin"}`)),
		named("invalid-scope-403", Error(403, "invalid_scope")),
		named("invalid-scope-200", Error(200, "invalid_scope")),
		named("invalid-target", Error(400, "invalid_target")),
		named("invalid-target-described", JSON(400, `{"error":"invalid_target","error_description":"resource indicator is missing, or unknown"}`)),
		named("invalid-target-401", Error(401, "invalid_target")),
		named("invalid-resource", Error(400, "invalid_resource")),
	}
}

// Outages returns passing failures, after which the refresh token is as good as
// before. What a client can know differs: only after "refuse" is it certain
// that nothing was sent.
func Outages() []Fault {
	dated := TooManyRequests("Fri, 31 Dec 1999 23:59:59 GMT") // long past
	return []Fault{
		named("unavailable", Unavailable("")),
		named("unavailable-seconds", Unavailable("120")),
		named("unavailable-garbage", Unavailable("soon")),
		named("too-many-requests", TooManyRequests("")),
		named("too-many-requests-seconds", TooManyRequests("30")),
		named("too-many-requests-past", dated),
		named("too-many-requests-decade", TooManyRequests("315360000")),
		named("request-timeout", Status(http.StatusRequestTimeout)),
		named("rate-limit-403", JSON(403, `{"error":"rate_limit_exceeded","error_description":"API rate limit exceeded"}`)),
		named("slow-down-400", Error(400, "slow_down")),
		named("temporarily-unavailable-400", Error(400, "temporarily_unavailable")),
		named("server-error-500", Error(500, "server_error")),
		named("invalid-grant-500", Error(500, "invalid_grant")),
		named("empty-500", Status(500)),
		named("html-500", HTML(500)),
		named("html-502", HTML(502)),
		named("empty-504", Status(504)),
		Refuse(),
		Drop(),
	}
}

// LostAnswers returns failures that come after the request has taken effect:
// the refresh token is spent, and its successor is lost.
func LostAnswers() []Fault {
	return []Fault{
		LoseAnswer(),
		named("truncated", Fault{Truncate: 20}),
		named("header-only", Fault{Truncate: -1}),
		named("bad-gateway-after", HTML(502).AfterProcessing()),
		named("empty-500-after", Status(500).AfterProcessing()),
		named("gateway-timeout-after", Status(504).AfterProcessing()),
	}
}

// BadAnswers returns answers of status 200 that hold no usable access token.
// Those in which a refresh token can still be read have spent the old one.
func BadAnswers() []Fault {
	edit := func(name, body string) Fault {
		return Edit(name, func(a *Answer) { a.Raw = []byte(body) })
	}
	return []Fault{
		edit("empty", ""),
		edit("null", "null"),
		edit("array", "[]"),
		edit("object", "{}"),
		edit("number", "1"),
		named("html-200", HTML(200)),
		FormEncoded(),
		Edit("cut-json", func(a *Answer) { b := a.body(); a.Raw = b[:len(b)/2] }),
		Edit("trailing-garbage", func(a *Answer) { a.Raw = append(a.body(), "<!-- served by proxy -->"...) }),
		Edit("no-access-token", OmitMember("access_token").Edit),
		Edit("empty-access-token", SetMember("access_token", `""`).Edit),
		Edit("number-access-token", SetMember("access_token", `123`).Edit),
		Edit("null-access-token", SetMember("access_token", `null`).Edit),
		Edit("control-access-token", SetMember("access_token", `"a b\r\nX-Evil: y"`).Edit),
		Edit("control-refresh-token", SetMember("refresh_token", `"a\u0000b\r\nc"`).Edit),
		Edit("number-refresh-token", SetMember("refresh_token", `123`).Edit),
		Edit("missing-token-type", OmitMember("token_type").Edit),
		Edit("mac-token-type", SetMember("token_type", `"mac"`).Edit),
		Edit("dpop-token-type", SetMember("token_type", `"DPoP"`).Edit),
		Edit("twice-access-token", AddMember("access_token", `"evil"`).Edit),
		Edit("twice-refresh-token", AddMember("refresh_token", `"evil"`).Edit),
		Edit("error-beside-tokens", AddMember("error", `"server_error"`).Edit),
		Edit("100-MiB", BigBody(100<<20).Edit),
		Edit("endless", BigBody(-1).Edit),
	}
}

// OddAnswers returns good answers with an oddity that a client must cope with:
// the tokens in them serve.
func OddAnswers() []Fault {
	set := func(name, member, text string) Fault { return Edit(name, SetMember(member, text).Edit) }
	return []Fault{
		set("expires-in-string", "expires_in", `"3600"`),
		set("expires-in-float", "expires_in", `3600.0`),
		set("expires-in-fraction", "expires_in", `3599.6`),
		set("expires-in-exponent", "expires_in", `3.6e3`),
		set("expires-in-null", "expires_in", `null`),
		Edit("expires-in-missing", OmitMember("expires_in").Edit),
		set("expires-in-nanoseconds", "expires_in", `3600000000000`),
		set("expires-in-zero", "expires_in", `0`),
		set("expires-in-negative", "expires_in", `-1`),
		set("expires-in-1e18", "expires_in", `1e18`),
		set("expires-in-1e400", "expires_in", `1e400`),
		set("expires-in-garbage", "expires_in", `"soon"`),
		set("expires-in-object", "expires_in", `{}`),
		set("token-type-lower", "token_type", `"bearer"`),
		set("token-type-odd", "token_type", `"bEaReR"`),
		Edit("refresh-token-folded", AddMember("Refresh_Token", `"evil"`).Edit),
		Edit("access-token-folded", AddMember("ACCESS_TOKEN", `"evil"`).Edit),
		Edit("unknown-members", func(a *Answer) {
			a.Members.Add("nested", map[string]any{"a": []any{1, nil, map[string]string{"refresh_token": "evil"}}})
			a.Members.Add("nothing", nil)
			a.Members.Add("id_token", "e30.e30.e30")
		}),
		set("scope-null", "scope", `null`),
		set("scope-empty", "scope", `""`),
		Edit("content-type-charset", func(a *Answer) { a.Header.Set("Content-Type", "Application/JSON; charset=UTF-8") }),
		Edit("space-around", func(a *Answer) { a.Raw = []byte("\r\n \t" + string(a.body()) + "\n\n") }),
	}
}

// OmittedRefreshTokens returns good answers without a refresh token in them: for
// a server with the Rotation NoRotation, where the old one serves on.
func OmittedRefreshTokens() []Fault {
	set := func(name, text string) Fault { return Edit(name, SetMember("refresh_token", text).Edit) }
	return []Fault{
		Edit("refresh-token-missing", OmitMember("refresh_token").Edit),
		set("refresh-token-empty", `""`),
		set("refresh-token-null", `null`),
	}
}

// Rejections returns the ways of APIs to refuse an access token that has died
// before its time: a new token may help. Use them with IfRefused, or as they
// are to reject a good token.
func Rejections() []Fault {
	const bearer = `Bearer realm="oauthtest", error="invalid_token"`
	slow := Unauthorized(bearer)
	slow.Stream = Trickle(`{"error":"invalid_token"}`, 5*time.Second)
	endless := Unauthorized(bearer)
	endless.Stream = Repeat("401 ", -1)
	return []Fault{
		named("invalid-token", Unauthorized(bearer)),
		named("bare", Unauthorized()),
		named("json", JSON(401, `{"error":"invalid_token"}`)),
		named("no-error", Unauthorized(`Bearer realm="oauthtest"`)),
		named("scheme-alone", Unauthorized(`Bearer`)),
		named("odd-case", Unauthorized(`bEARER ERROR = invalid_token`)),
		named("unknown-parameters", Unauthorized(`Bearer foo="1", error="invalid_token", bar=2`)),
		named("empty-members", Unauthorized(`,, Bearer realm="x", , error="invalid_token",`)),
		named("one-line", Unauthorized(`Basic realm="a\\", Bearer scope="x, \"y\"", error="invalid_token"`)),
		named("two-lines", Unauthorized(`Basic realm="x"`, `Bearer error="invalid_token"`)),
		named("token68-first", Unauthorized(`Negotiate YII==, Bearer error="invalid_token"`)),
		named("bearer-and-dpop", Unauthorized(`Bearer error="invalid_token"`, `DPoP algs="ES256", error="invalid_token"`)),
		named("slow-body", slow),
		named("endless-body", endless),
	}
}

// OddRejections returns refusals that a client can know only by being told:
// they need a rule of the client's own. Use them with IfRefused.
func OddRejections() []Fault {
	login := Redirect(http.StatusFound, "/login")
	login.Header.Set("Set-Cookie", "_csrf=1; Path=/; HttpOnly")
	return []Fault{
		named("access-denied-403", JSON(403, `{"error":"access_denied"}`)),
		named("empty-object-403", JSON(403, `{}`)),
		named("invalid-token-400", JSON(400, `{"error":"invalid_request"}`)),
		named("private-error", Unauthorized(`Bearer error="request_unauthorized"`)),
		named("login-page", login),
	}
}

// Denials returns refusals that no new access token cures: a client that
// refreshes because of them refreshes in vain.
func Denials() []Fault {
	return []Fault{
		named("insufficient-scope", Forbidden(`Bearer error="insufficient_scope", scope="admin"`)),
		named("insufficient-scope-401", Unauthorized(`Bearer error="insufficient_scope", scope="admin"`)),
		named("step-up", Unauthorized(`Bearer error="insufficient_user_authentication", acr_values="high", max_age="5"`)),
		named("basic-alone", Unauthorized(`Basic realm="x"`)),
		named("negotiate-alone", Unauthorized(`Negotiate`, `NTLM`)),
		named("dpop-alone", Unauthorized(`DPoP error="use_dpop_nonce"`)),
		named("bearer-in-quotes", Unauthorized(`Basic realm="Bearer error=\"invalid_token\""`)),
		named("invalid-request", challengeOf(400, `Bearer error="invalid_request"`)),
		named("forbidden", Forbidden()),
		named("proxy-authentication", Status(http.StatusProxyAuthRequired)),
		named("misdirected", Status(http.StatusMisdirectedRequest)),
		named("too-large", closing(Status(http.StatusRequestEntityTooLarge))),
		named("server-error", JSON(500, `{"error":"invalid_token"}`)),
		named("bad-gateway", HTML(502)),
		named("unavailable", Unavailable("1")),
	}
}

func challengeOf(status int, line string) Fault { return challenge(status, []string{line}) }

func closing(f Fault) Fault {
	f.Header = http.Header{"Connection": {"close"}}
	return f
}
