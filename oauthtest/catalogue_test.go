package oauthtest_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/oauthtest"
)

func TestCatalogueNames(t *testing.T) {
	for list, faults := range map[string][]oauthtest.Fault{
		"DeadGrants":           oauthtest.DeadGrants(),
		"OddRefusals":          oauthtest.OddRefusals(),
		"ClientRefusals":       oauthtest.ClientRefusals(),
		"TargetRefusals":       oauthtest.TargetRefusals(),
		"Outages":              oauthtest.Outages(),
		"LostAnswers":          oauthtest.LostAnswers(),
		"BadAnswers":           oauthtest.BadAnswers(),
		"OddAnswers":           oauthtest.OddAnswers(),
		"OmittedRefreshTokens": oauthtest.OmittedRefreshTokens(),
		"Rejections":           oauthtest.Rejections(),
		"OddRejections":        oauthtest.OddRejections(),
		"Denials":              oauthtest.Denials(),
		"DeniedLogins":         oauthtest.DeniedLogins(),
		"ForeignCallbacks":     oauthtest.ForeignCallbacks(),
		"BadCallbacks":         oauthtest.BadCallbacks(),
		"OddCallbacks":         oauthtest.OddCallbacks(),
		"UnfinishedLogins":     oauthtest.UnfinishedLogins(),
		"EndedPolls":           oauthtest.EndedPolls(),
		"BadDeviceAnswers":     oauthtest.BadDeviceAnswers(),
		"OddDeviceAnswers":     oauthtest.OddDeviceAnswers(),
		"BadMetadata":          oauthtest.BadMetadata(),
		"MissingMetadata":      oauthtest.MissingMetadata(),
	} {
		seen := map[string]bool{}
		for _, f := range faults {
			if f.Name == "" || seen[f.Name] {
				t.Errorf("%s: name %q is empty or stands twice", list, f.Name)
			}
			seen[f.Name] = true
			if got := oauthtest.Pick(faults, f.Name); got.Name != f.Name {
				t.Errorf("%s: Pick(%q) gives %q", list, f.Name, got.Name)
			}
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("Pick of an unknown name did not panic")
		}
	}()
	oauthtest.Pick(oauthtest.Denials(), "no such fault")
}

// What the lists promise of the refresh token, and of the answer's shape.
func TestTokenCatalogue(t *testing.T) {
	type list struct {
		name   string
		faults []oauthtest.Fault
		spent  bool
		check  func(reply) bool
	}
	refused := func(r reply) bool { return r.status < 500 && r.status != 429 && r.status != 503 }
	named := func(codes ...string) func(reply) bool {
		return func(r reply) bool {
			var m struct{ Error string }
			return refused(r) && json.Unmarshal([]byte(r.body), &m) == nil && slices.Contains(codes, m.Error)
		}
	}
	for _, l := range []list{
		{"DeadGrants", oauthtest.DeadGrants(), false, named("invalid_grant")},
		{"OddRefusals", oauthtest.OddRefusals(), false, refused},
		{"ClientRefusals", oauthtest.ClientRefusals(), false, named("invalid_client", "unauthorized_client", "unsupported_grant_type")},
		{"TargetRefusals", oauthtest.TargetRefusals(), false, named("invalid_scope", "invalid_target", "invalid_resource")},
		{"Outages", oauthtest.Outages(), false, func(r reply) bool { return r.status >= 400 }},
		{"LostAnswers", oauthtest.LostAnswers(), true, func(r reply) bool { return r.status >= 500 }},
		{"OddAnswers", oauthtest.OddAnswers(), true, func(r reply) bool {
			return r.status == 200 && json.Valid([]byte(r.body)) && strings.Contains(r.body, `"access_token":"at-`) && strings.Contains(r.body, `"refresh_token":"rt-`)
		}},
		{"OmittedRefreshTokens", oauthtest.OmittedRefreshTokens(), true, func(r reply) bool {
			return r.status == 200 && json.Valid([]byte(r.body)) && !strings.Contains(r.body, `"rt-`)
		}},
	} {
		for _, f := range l.faults {
			bubble(t, l.name+"/"+f.Name, func(t *testing.T) {
				srv := oauthtest.New(oauthtest.Options{})
				rt := srv.Login("alice", "read").RefreshToken
				srv.Token.Next(f)
				r, err := do(srv.Client(), formRequest(t, srv.TokenURL(), refreshForm(rt)))
				if err == nil && !l.check(r) {
					t.Errorf("answer %+v", r)
				}
				broken := f.Unsent || f.DropBefore || f.DropAfter || f.Truncate != 0
				if (err != nil) != broken {
					t.Errorf("error %v", err)
				}
				if srv.Alive(rt) == l.spent {
					t.Errorf("refresh token spent: %v", !srv.Alive(rt))
				}
				if e := last(srv); e.Fault != f.Name {
					t.Errorf("log %+v", e)
				}
			})
		}
	}
}

func TestBadAnswers(t *testing.T) {
	for _, f := range oauthtest.BadAnswers() {
		if f.Name == "endless" || f.Name == "100-MiB" {
			continue // see TestEndlessBodies and TestEdits
		}
		bubble(t, f.Name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{})
			srv.Token.Next(f)
			r := refresh(t, srv, srv.Login("alice").RefreshToken)
			if r.status != 200 {
				t.Fatalf("%+v", r)
			}
			// A reader as strict as the specification finds no token in it.
			var m map[string]json.RawMessage
			if json.Unmarshal([]byte(r.body), &m) != nil {
				return
			}
			odd := strings.Count(r.body, `_token"`) > 2 || m["error"] != nil ||
				string(m["token_type"]) != `"Bearer"` ||
				!strings.HasPrefix(string(m["access_token"]), `"at-`) || !strings.HasPrefix(string(m["refresh_token"]), `"rt-`)
			if !odd {
				t.Errorf("nothing is wrong with %s", r.body)
			}
		})
	}
}

func TestAPICatalogue(t *testing.T) {
	faults := slices.Concat(oauthtest.Rejections(), oauthtest.OddRejections(), oauthtest.Denials())
	for _, f := range faults {
		bubble(t, f.Name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Options{})
			at := srv.Login("alice").AccessToken
			srv.API.Always(f.IfRefused())
			if r := callAPI(t, srv, "x", at); r.status != 200 {
				t.Fatalf("IfRefused on a good token: %+v", r)
			}
			srv.RevokeAccess(at)
			tr := srv.Transport()
			resp, err := tr.RoundTrip(apiRequest(t, srv, "x", at))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != f.Status || !slices.Equal(resp.Header["Www-Authenticate"], f.Header["Www-Authenticate"]) {
				t.Fatalf("%d %v", resp.StatusCode, resp.Header)
			}
			if e := last(srv); e.Outcome != oauthtest.InvalidToken || e.Fault != f.Name || e.Status != f.Status {
				t.Fatalf("log %+v", e)
			}
		})
	}
}

func TestLoginPageOnExpiry(t *testing.T) {
	srv := oauthtest.New(oauthtest.Options{})
	srv.API.Always(oauthtest.Pick(oauthtest.OddRejections(), "login-page").IfRefused())
	resp, err := srv.Client().Get(srv.APIURL("x"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 401 { // no token at all is no expired token
		t.Fatal(resp.Status)
	}
	req := apiRequest(t, srv, "x", "dead")
	resp, err = srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") || resp.Request.URL.Path != "/login" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
}
