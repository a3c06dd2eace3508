package oauthtest_test

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/oauthtest"
)

const (
	files = "https://files.test/v1"
	mail  = "https://mail.test/"
	wiki  = "urn:example:wiki"
)

// post sends a form that asks for these resources.
func post(t *testing.T, srv *oauthtest.Server, to string, form url.Values, resources ...string) reply {
	t.Helper()
	form = maps.Clone(form)
	if len(resources) > 0 {
		form["resource"] = resources
	}
	r, err := do(srv.Client(), formRequest(t, to, form))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func refreshFor(t *testing.T, srv *oauthtest.Server, rt string, resources ...string) reply {
	t.Helper()
	return post(t, srv, srv.TokenURL(), refreshForm(rt), resources...)
}

// An asker asks for resources in one of the places where a client can, and
// returns the error code, or "". Only a success can spend what it uses: it may be
// called again after a refusal.
type asker func(resources ...string) string

// askers are all of them, each with the login that it needs; the logins name the
// resources granted.
func askers(t *testing.T, srv *oauthtest.Server, granted ...string) map[string]asker {
	t.Helper()
	query := loginQuery()
	if granted != nil {
		query["resource"] = granted
	}
	code := broughtBack(t, authorize(t, srv, query.Encode())).Get("code")
	first := redeem(t, srv, broughtBack(t, authorize(t, srv, query.Encode())).Get("code"))
	r := post(t, srv, srv.DeviceAuthURL(), url.Values{"client_id": {"client"}}, granted...)
	srv.ApproveDevice(r.member(t, "user_code"), "alice")
	token := func(form url.Values) asker {
		return func(resources ...string) string {
			t.Helper()
			return post(t, srv, srv.TokenURL(), form, resources...).member(t, "error")
		}
	}
	return map[string]asker{
		"refresh": token(refreshForm(first.member(t, "refresh_token"))),
		"code": token(url.Values{
			"grant_type": {"authorization_code"}, "client_id": {"client"}, "code": {code},
			"redirect_uri": {callback}, "code_verifier": {verifier},
		}),
		"poll": token(url.Values{"grant_type": {deviceGrant}, "client_id": {"client"}, "device_code": {r.member(t, "device_code")}}),
	}
}

func unbound(t *testing.T, srv *oauthtest.Server) map[string]asker { return askers(t, srv) }

// beginnings are the places that know of no login before.
func beginnings(t *testing.T, srv *oauthtest.Server) map[string]asker {
	return map[string]asker{
		"authorization": func(resources ...string) string {
			t.Helper()
			query := loginQuery()
			query["resource"] = resources
			q := broughtBack(t, authorize(t, srv, query.Encode()))
			if q.Has("code") == q.Has("error") || q.Get("state") != "xyz" || q.Get("iss") != srv.BaseURL() {
				t.Errorf("brought back %v", q)
			}
			return q.Get("error")
		},
		"device": func(resources ...string) string {
			t.Helper()
			return post(t, srv, srv.DeviceAuthURL(), url.Values{"client_id": {"client"}}, resources...).member(t, "error")
		},
		"client credentials": func(resources ...string) string {
			t.Helper()
			form := url.Values{"grant_type": {"client_credentials"}, "client_id": {"service"}, "client_secret": {"s"}}
			return post(t, srv, srv.TokenURL(), form, resources...).member(t, "error")
		},
	}
}

func resourceServer(resources ...string) *oauthtest.Server {
	return oauthtest.New(oauthtest.Options{Resources: resources, OtherClients: map[string]string{"service": "s"}})
}

// wantTargets asks for each of the bad sets in every place, and then for the
// good one: what is refused has spent nothing.
func wantTargets(t *testing.T, srv *oauthtest.Server, places map[string]asker, good []string, bad ...[]string) {
	t.Helper()
	for name, ask := range places {
		for _, resources := range bad {
			code, e := ask(resources...), last(srv)
			if code != "invalid_target" || e.Outcome != oauthtest.BadTarget || e.Detail == "" || e.IssuedAccess+e.IssuedCode+e.IssuedRefresh+e.Resource != "" {
				t.Errorf("%s: resources %q: error %q, log %+v", name, resources, code, e)
			}
			if want := 400; name != "authorization" && e.Status != want {
				t.Errorf("%s: resources %q: status %d", name, resources, e.Status)
			}
		}
		if code := ask(good...); code != "" || last(srv).Resource != strings.Join(good, " ") {
			t.Errorf("%s: resources %q: error %q, log %+v", name, good, code, last(srv))
		}
	}
	if st := srv.Stats(); st.Reuses+st.CodeReuses+st.FamilyKills+st.InvalidGrants+st.SlowDowns != 0 {
		t.Errorf("stats %+v", st)
	}
}

var badURIs = []string{
	"files", "/v1", "//files.test/v1", "files.test/v1", "1https://files.test", ":", "://files.test",
	files + "#", files + "#top", "urn:example:wiki#x",
	"https:", "https://", "https:///v1", "https:files.test", "HTTPS:///v1", "https://:443/", "https://user@/",
	" " + files, files + " ", "https://files.test/a b", "https://files.test/?a b", "https://files.test/\x00", "https://files.test/\n",
	"https://files.test/%", "https://files.test/%z0", "https://files.test/?%z0", "urn:%z0", "https://files.test/?x=%4",
	"https://files.test/ä", "https://bücher.test/", `https://files.test/"`, "https://files.test/<x>", `https://files.test/\`,
	"https://files.test/[", "https://files.test/]", "https://files.test/?x[]=1", "https://files.test:port/", "https://[::1/",
}

var goodURIs = []string{
	files, mail, wiki, "https://files.test", "HTTPS://FILES.test/", "https://files.test:8443/a%20b/?c=d&e=/?", "http://[::1]:8080/x",
	"api://0f1e/", "com.example.app:/x", "urn:%C3%A4", "https://user@files.test/;a=b,c!$&'()*+~",
}

// Where any resource may be asked for, it must still be an absolute URI without a
// fragment (RFC 8707, section 2).
func TestMalformedResources(t *testing.T) {
	var bad [][]string
	for _, uri := range badURIs {
		bad = append(bad, []string{uri})
	}
	bad = append(bad, []string{files, "/v1"}, []string{"/v1", files})
	for name, places := range map[string]func(*testing.T, *oauthtest.Server) map[string]asker{
		"at the beginning":  beginnings,
		"in a login":        unbound,
		"in one with bound": func(t *testing.T, srv *oauthtest.Server) map[string]asker { return askers(t, srv, goodURIs...) },
	} {
		bubble(t, name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{OtherClients: map[string]string{"service": "s"}})
			wantTargets(t, srv, places(t, srv), goodURIs, bad...)
		})
	}
	bubble(t, "an empty one is a malformed request", func(t *testing.T) {
		srv := resourceServer(files)
		rt := srv.Login("alice").RefreshToken
		if r := refreshFor(t, srv, rt, files, ""); r.member(t, "error") != "invalid_request" || !srv.Alive(rt) {
			t.Fatalf("%+v", r)
		}
	})
}

// None but Options.Resources can be had, to the letter.
func TestUnknownResources(t *testing.T) {
	others := [][]string{{mail}, {files, mail}, {files + "/"}, {"https://FILES.test/v1"}, {"https://files.test:443/v1"}, {"https://files.test"}, {files + "?"}}
	bubble(t, "at the beginning", func(t *testing.T) {
		srv := resourceServer(files, wiki)
		wantTargets(t, srv, beginnings(t, srv), []string{wiki, files}, others...)
	})
	bubble(t, "in a login that named none", func(t *testing.T) {
		srv := resourceServer(files, wiki)
		wantTargets(t, srv, askers(t, srv), []string{wiki, files}, others...)
	})
	bubble(t, "none at all", func(t *testing.T) {
		for _, places := range []func(*testing.T, *oauthtest.Server) map[string]asker{beginnings, unbound} {
			srv := resourceServer([]string{}...)
			wantTargets(t, srv, places(t, srv), nil, []string{files})
		}
	})
	for _, uri := range []string{"", "files", files + "#"} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New takes the resource %q", uri)
				}
			}()
			resourceServer(files, uri)
		}()
	}
	own := []string{files}
	srv := resourceServer(own...)
	own[0] = mail
	if r := refreshFor(t, srv, srv.Login("alice").RefreshToken, files); r.status != 200 {
		t.Errorf("the caller's list was not copied: %+v", r)
	}
}

// What a login was granted bounds what its token requests may name.
func TestResourcesOfALogin(t *testing.T) {
	bubble(t, "not more", func(t *testing.T) {
		srv := resourceServer(files, mail, wiki)
		wantTargets(t, srv, askers(t, srv, files, mail), []string{mail}, []string{wiki}, []string{files, wiki}, []string{files, mail, wiki})
	})
	bubble(t, "all, if none is named", func(t *testing.T) {
		srv := resourceServer(files, mail, wiki)
		for name, ask := range askers(t, srv, mail, files, mail) {
			if code := ask(); code != "" || last(srv).Resource != mail+" "+files {
				t.Errorf("%s: error %q, log %+v", name, code, last(srv))
			}
		}
	})
	bubble(t, "none in particular", func(t *testing.T) {
		srv := resourceServer(files, mail, wiki)
		for name, ask := range askers(t, srv) {
			if code := ask(); code != "" || last(srv).Resource != "" {
				t.Errorf("%s: error %q, log %+v", name, code, last(srv))
			}
		}
	})
	bubble(t, "narrowing one token narrows no other", func(t *testing.T) {
		srv := resourceServer(files, mail, wiki)
		query := loginQuery("scope", "read write")
		query["resource"] = []string{files, mail}
		r := redeem(t, srv, broughtBack(t, authorize(t, srv, query.Encode())).Get("code"), "resource", files)
		for _, step := range []struct {
			ask  []string
			want string
		}{{nil, files + " " + mail}, {[]string{mail}, mail}, {[]string{mail, files, mail}, mail + " " + files}, {nil, files + " " + mail}} {
			if r = refreshFor(t, srv, r.member(t, "refresh_token"), step.ask...); r.status != 200 || r.member(t, "scope") != "read write" {
				t.Fatalf("%q: %+v", step.ask, r)
			}
			if e := last(srv); e.Resource != step.want || e.Scope != "read write" {
				t.Errorf("%q: log %+v", step.ask, e)
			}
		}
	})
	bubble(t, "who approves with fewer scopes approves the resources", func(t *testing.T) {
		srv := resourceServer()
		d := startDevice(t, srv, "scope", "read write", "resource", files)
		srv.ApproveDevice(d.UserCode, "alice", "read")
		wantPoll(t, srv, d.DeviceCode, "", oauthtest.Granted)
		if e := last(srv); e.Scope != "read" || e.Resource != files {
			t.Errorf("log %+v", e)
		}
		srv.ApproveAs("alice", "read")
		redeem(t, srv, codeOf(t, srv, "scope", "read write", "resource", files))
		if e := last(srv); e.Scope != "read" || e.Resource != files {
			t.Errorf("log %+v", e)
		}
	})
}

// A bad resource hides no reuse.
func TestReuseBeforeResources(t *testing.T) {
	bubble(t, "refresh token", func(t *testing.T) {
		srv := resourceServer(files)
		rt := srv.Login("alice").RefreshToken
		_, next := refreshed(t, srv, rt)
		if r := refreshFor(t, srv, rt, mail); r.member(t, "error") != "invalid_grant" || last(srv).Outcome != oauthtest.Reuse || srv.Alive(next) {
			t.Errorf("%+v", r)
		}
	})
	bubble(t, "code and device code", func(t *testing.T) {
		srv := resourceServer(files)
		places := askers(t, srv)
		for _, name := range []string{"code", "poll"} {
			if code := places[name](files); code != "" {
				t.Fatalf("%s: %s", name, code)
			}
			if code := places[name](mail); code != "invalid_grant" || last(srv).Outcome != oauthtest.Reuse {
				t.Errorf("%s: %s, log %+v", name, code, last(srv))
			}
		}
	})
}

// A scope that was not granted is told before a resource, and neither spends.
func TestRefusedTargetsSpendNothing(t *testing.T) {
	for _, rotation := range []oauthtest.Rotation{oauthtest.Rotate, oauthtest.RotateLenient, oauthtest.NoRotation, oauthtest.SameToken} {
		srv := oauthtest.New(oauthtest.Options{Resources: []string{files}, Rotation: rotation, KillOldAccess: true})
		tok := srv.Login("alice", "read")
		form := refreshForm(tok.RefreshToken)
		if r := post(t, srv, srv.TokenURL(), form, mail); r.member(t, "error") != "invalid_target" {
			t.Errorf("rotation %d: %+v", rotation, r)
		}
		form.Set("scope", "write")
		if r := post(t, srv, srv.TokenURL(), form, mail); r.member(t, "error") != "invalid_scope" || last(srv).Outcome != oauthtest.BadScope || last(srv).Detail == "" {
			t.Errorf("rotation %d: %+v", rotation, r)
		}
		if st := srv.Stats(); !srv.Alive(tok.RefreshToken) || !srv.AccessAlive(tok.AccessToken) || st.Refreshes+st.GraceUses+st.InvalidGrants+st.BadRequests != 0 {
			t.Errorf("rotation %d: stats %+v", rotation, st)
		}
	}
}

// An API takes no token that is for other resources only.
func TestAPIWantsItsAudience(t *testing.T) {
	const wrong = `Bearer realm="oauthtest", error="invalid_token", error_description="The token is for another resource"`
	bubble(t, "audiences", func(t *testing.T) {
		srv := resourceServer(files, mail, wiki)
		tok := srv.Login("alice", "read")
		one := refreshFor(t, srv, tok.RefreshToken, files)
		two := refreshFor(t, srv, one.member(t, "refresh_token"), files, wiki)
		tokens := map[string]string{"": tok.AccessToken, files: one.member(t, "access_token"), files + " " + wiki: two.member(t, "access_token")}
		for restricted, at := range tokens {
			for _, ask := range [][]string{nil, {files}, {wiki}, {mail}, {files, wiki}, {wiki, mail}, {files + "/"}, {"nonsense"}, {""}} {
				query := url.Values{"resource": ask, "scope": {"read"}}
				good := restricted == "" || !slices.ContainsFunc(ask, func(uri string) bool { return !slices.Contains(strings.Fields(restricted), uri) })
				before := srv.Stats()
				r := callAPI(t, srv, "x?"+query.Encode(), at)
				e, after := last(srv), srv.Stats()
				if e.Resource != restricted || e.Scope != "read" || e.Presented != oauthtest.Fingerprint(at) {
					t.Errorf("log %+v", e)
				}
				switch {
				case good && (r.status != 200 || r.member(t, "resource") != restricted || e.Outcome != oauthtest.Served):
					t.Errorf("a token for %q at %q: %+v, log %+v", restricted, ask, r, e)
				case !good && (r.status != 401 || r.member(t, "error") != "invalid_token" || r.header.Get("WWW-Authenticate") != wrong ||
					e.Outcome != oauthtest.WrongAudience || e.Detail == "" || after.APIUnauthorized != before.APIUnauthorized+1):
					t.Errorf("a token for %q at %q: %+v, log %+v", restricted, ask, r, e)
				}
			}
		}
	})
	bubble(t, "what else is wrong", func(t *testing.T) {
		srv := resourceServer(files)
		tok := srv.Login("alice", "read")
		at := refreshFor(t, srv, tok.RefreshToken, files).member(t, "access_token")
		path := "x?scope=write&resource=" + url.QueryEscape(mail)
		if r := callAPI(t, srv, path, at); r.status != 401 || last(srv).Outcome != oauthtest.WrongAudience {
			t.Errorf("before the scope: %+v", r)
		}
		if r := callAPI(t, srv, "x?scope=write&resource="+url.QueryEscape(files), at); r.status != 403 || last(srv).Outcome != oauthtest.InsufficientScope {
			t.Errorf("the scope: %+v", r)
		}
		srv.API.Always(oauthtest.Pick(oauthtest.Rejections(), "bare").IfRefused())
		if r := callAPI(t, srv, path, at); r.status != 401 || r.body != "" || last(srv).Fault != "bare" {
			t.Errorf("in other words: %+v", r)
		}
		srv.API.Clear()
		srv.RevokeAccess(at)
		if r := callAPI(t, srv, path, at); r.status != 401 || last(srv).Outcome != oauthtest.InvalidToken {
			t.Errorf("a dead token: %+v", r)
		}
	})
}

// The tokens of one session live side by side, unless the server kills siblings.
func TestLivesOfSiblings(t *testing.T) {
	for _, kill := range []bool{false, true} {
		bubble(t, map[bool]string{false: "apart", true: "KillOldAccess"}[kill], func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{Resources: []string{files, mail}, KillOldAccess: kill, AccessLifetime: time.Minute})
			tok := srv.Login("alice")
			one := refreshFor(t, srv, tok.RefreshToken, files)
			time.Sleep(30 * time.Second)
			two := refreshFor(t, srv, one.member(t, "refresh_token"), mail)
			old, younger := one.member(t, "access_token"), two.member(t, "access_token")
			if srv.AccessAlive(old) == kill || srv.AccessAlive(tok.AccessToken) == kill || !srv.AccessAlive(younger) {
				t.Error("after the second refresh")
			}
			time.Sleep(30 * time.Second)
			if srv.AccessAlive(old) || !srv.AccessAlive(younger) {
				t.Error("a minute after the first refresh")
			}
			srv.RevokeAccess(younger)
			if !srv.Alive(two.member(t, "refresh_token")) {
				t.Error("an access token does not end the session")
			}
		})
	}
}

func TestLogTellsTargets(t *testing.T) {
	bubble(t, "log", func(t *testing.T) {
		srv := resourceServer(files, mail)
		code := codeOf(t, srv, "scope", "read write", "resource", files)
		want := func(scope, resource string) {
			t.Helper()
			if e := last(srv); e.Scope != scope || e.Resource != resource {
				t.Errorf("want %q and %q: %+v", scope, resource, e)
			}
		}
		want("read write", files)
		r := redeem(t, srv, code)
		want("read write", files)
		form := refreshForm(r.member(t, "refresh_token"))
		form.Set("scope", "write")
		r = post(t, srv, srv.TokenURL(), form)
		want("write", files)
		startDevice(t, srv, "scope", "read", "resource", mail)
		want("read", mail)
		form = url.Values{"client_id": {"client"}, "token": {r.member(t, "access_token")}}
		if r, err := do(srv.Client(), formRequest(t, srv.RevocationURL(), form)); err != nil || r.status != http.StatusOK {
			t.Fatalf("%v %+v", err, r)
		}
		want("write", files)
		refresh(t, srv, "unknown")
		want("", "")
	})
}
