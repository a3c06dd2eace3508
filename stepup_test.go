package freshtoken_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"golang.org/x/oauth2"
)

func answerWith(status int, lines ...string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Www-Authenticate": lines}}
}

func TestChallengeFrom(t *testing.T) {
	const scope, auth = freshtoken.InsufficientScope, freshtoken.InsufficientUserAuthentication
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		name   string
		status int
		lines  []string
		want   *freshtoken.Challenge
	}{
		{"R6750-3.1-403: the scopes", 403, []string{`Bearer realm="api", error="insufficient_scope", error_description="more", scope="a b"`},
			&freshtoken.Challenge{Code: scope, Realm: "api", Description: "more", Scopes: []string{"a", "b"}}},
		{"R9470-4: acr_values and max_age", 401, []string{`Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="5"`},
			&freshtoken.Challenge{Code: auth, ACRValues: []string{"gold", "silver"}, MaxAge: 5 * time.Second, HasMaxAge: true}},
		{"R9470-4: an age of zero, and scopes", 401, []string{`Bearer error=insufficient_user_authentication, max_age=0, scope="a a"`},
			&freshtoken.Challenge{Code: auth, HasMaxAge: true, Scopes: []string{"a"}}},
		{"where the API describes itself", 403, []string{`Bearer error="insufficient_scope", resource_metadata="https://api.example.com/.well-known/oauth-protected-resource"`},
			&freshtoken.Challenge{Code: scope, ResourceMetadata: "https://api.example.com/.well-known/oauth-protected-resource"}},
		{"several challenges", 401, []string{`DPoP error="insufficient_scope", scope="z"`, `Bearer error="insufficient_scope", scope="a", Bearer error="insufficient_user_authentication", max_age=9, scope="b"`, `Bearer error="insufficient_user_authentication", max_age=7`},
			&freshtoken.Challenge{Code: auth, Scopes: []string{"a", "b"}, MaxAge: 7 * time.Second, HasMaxAge: true}},
		{"hostile words", 403, []string{`Bearer error="insufficient_scope", scope="a\" \\ ` + "b\x01 \xff " + long + ` ok", realm="` + "x\x1b[2J" + long + `", max_age="-1", resource_metadata="http://evil.example.com/"`},
			&freshtoken.Challenge{Code: scope, Scopes: []string{"ok"}, Realm: "x?[2J" + long[:195]}},
		{"an absurd age", 401, []string{`Bearer error="insufficient_user_authentication", max_age="18446744073709551615"`},
			&freshtoken.Challenge{Code: auth, MaxAge: 100 * 365 * 24 * time.Hour, HasMaxAge: true}},
		{"an age that is none", 401, []string{`Bearer error="insufficient_user_authentication", max_age="1e3", resource_metadata="file:///etc/passwd"`},
			&freshtoken.Challenge{Code: auth}},
		{"a rejection", 401, []string{`Bearer error="invalid_token", scope="a"`}, nil},
		{"another case", 401, []string{`Bearer error="Insufficient_Scope"`}, nil},
		{"another scheme", 401, []string{`Basic error="insufficient_scope"`}, nil},
		{"another status", 400, []string{`Bearer error="insufficient_scope"`}, nil},
		{"none", 403, nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := freshtoken.ChallengeFrom(answerWith(c.status, c.lines...))
			if ok != (c.want != nil) || ok != (got != nil) {
				t.Fatalf("got %+v, %t", got, ok)
			}
			if !ok {
				return
			}
			plain := *c.want
			if text := fmt.Sprintf("%+v", *freshtoken.Unseen(got)); text != fmt.Sprintf("%+v", plain) || !reflect.DeepEqual(*freshtoken.Unseen(got), plain) {
				t.Errorf("got  %s\nwant %+v", text, plain)
			}
			for _, r := range got.Error() {
				if r < 0x20 || r > 0x7e {
					t.Errorf("the error has %q", r)
				}
			}
		})
	}
	t.Run("bounded", func(t *testing.T) {
		var b strings.Builder
		for i := range 3000 {
			fmt.Fprintf(&b, "s%d ", i)
		}
		c, ok := freshtoken.ChallengeFrom(answerWith(403, `Bearer error="insufficient_scope", scope="`+b.String()[:9000]+`"`))
		if !ok || len(c.Scopes) > 64 {
			t.Errorf("%d scopes", len(c.Scopes))
		}
	})
	if _, ok := freshtoken.ChallengeFrom(nil); ok {
		t.Error("a challenge of no answer")
	}
}

// demanded is a challenge as a program gets it from an answer.
func demanded(t *testing.T, line string) *freshtoken.Challenge {
	t.Helper()
	c, ok := freshtoken.ChallengeFrom(answerWith(403, line))
	if !ok {
		t.Fatal("no challenge")
	}
	return c
}

const moreScope = `Bearer error="insufficient_scope", scope="write read"`

func TestStepUp(t *testing.T) {
	inBubble(t, "R9470-4: the login is given what the API demands", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Minute}
		src := w.source(func(c *freshtoken.Config) { c.OAuth2.Scopes = []string{"openid", "offline_access"} })
		if err := src.SetToken(t.Context(), with(w.as.Login("alice"), map[string]any{"scope": "read openid"})); err != nil {
			t.Fatal(err)
		}
		old := w.token(src)
		c := demanded(t, `Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="5", scope="write read"`)
		tok, err := src.StepUp(t.Context(), c, p)
		if err != nil || tok.AccessToken == old.AccessToken || !w.as.AccessAlive(tok.AccessToken) {
			t.Fatalf("got error %v", err)
		}
		if got := strings.Join(p.given.OAuth2.Scopes, " "); got != "openid offline_access read write" {
			t.Errorf("scopes %q", got)
		}
		if got := p.given.LoginParams.Encode(); got != "acr_values=gold+silver&max_age=5" {
			t.Errorf("parameters %q", got)
		}
		w.wantPosts(0)
		p.want(t, 1)
		time.Sleep(20 * time.Minute)
		if _, err := src.StepUp(t.Context(), demanded(t, `Bearer error="insufficient_scope", scope="admin"`), p); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(p.given.OAuth2.Scopes, " "); got != "openid offline_access read write admin" {
			t.Errorf("a later login asks for %q: what an answer leaves out was granted", got)
		}
	})
	inBubble(t, "R9470-8: the same demand again, with a limit", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Minute}
		src := w.loggedIn()
		for range 3 {
			src.StepUp(t.Context(), demanded(t, moreScope), p)
			time.Sleep(time.Second)
		}
		c := demanded(t, moreScope)
		_, err := src.StepUp(t.Context(), c, p)
		wantErr(t, err, freshtoken.ErrStepUpLimit)
		if got := new(freshtoken.Challenge); !errors.As(err, &got) || got != c || !strings.Contains(err.Error(), `the scope "write read", though somebody has just logged in for that`) {
			t.Errorf("got %v", err)
		}
		p.want(t, 1)
		w.usable(src)
		w.wantPosts(0)
		time.Sleep(10 * time.Minute)
		if _, err := src.StepUp(t.Context(), demanded(t, moreScope), p); err != nil {
			t.Error(err)
		}
		p.want(t, 2)
	})
	inBubble(t, "R9470-8: demands that change each time, with a limit", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Second}
		src := w.loggedIn()
		for i := range 50 {
			src.StepUp(t.Context(), demanded(t, fmt.Sprintf(`Bearer error="insufficient_scope", scope="s%d"`, i)), p)
			time.Sleep(2 * time.Second)
		}
		p.want(t, 5)
	})
	inBubble(t, "R9470-8: who declines is left alone for a minute, and the session goes on", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Second, err: errDeclined}
		src := w.loggedIn()
		for range 3 {
			_, err := src.StepUp(t.Context(), demanded(t, moreScope), p)
			wantErr(t, err, errDeclined)
			if errors.Is(err, freshtoken.ErrNoSession) || errors.Is(err, freshtoken.ErrSessionEnded) {
				t.Errorf("got %v", err)
			}
			w.usable(src)
		}
		p.want(t, 1)
		time.Sleep(time.Minute)
		p.fail(nil)
		if _, err := src.StepUp(t.Context(), demanded(t, moreScope), p); err != nil {
			t.Error(err)
		}
		p.want(t, 2)
	})
	inBubble(t, "a short max_age may come again when it has passed", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as}
		src := w.loggedIn()
		for range 3 {
			if _, err := src.StepUp(t.Context(), demanded(t, `Bearer error="insufficient_user_authentication", max_age="90"`), p); err != nil {
				t.Error(err)
			}
			time.Sleep(91 * time.Second)
		}
		p.want(t, 3)
	})
	inBubble(t, "one login for all who meet the same demand, and for those who met it before", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Minute}
		src := w.loggedIn()
		late := demanded(t, moreScope)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if _, err := src.StepUp(t.Context(), demanded(t, moreScope), p); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		time.Sleep(time.Second)
		if _, err := src.StepUp(t.Context(), late, p); err != nil {
			t.Error(err)
		}
		p.want(t, 1)
	})
	inBubble(t, "one login over all programs that share a store", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Minute}
		w.loggedIn()
		var wg sync.WaitGroup
		for range 3 {
			src := w.source()
			w.token(src)
			wg.Go(func() {
				if _, err := src.StepUp(t.Context(), demanded(t, moreScope), p); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		p.want(t, 1)
	})
	inBubble(t, "it is given up with the last who waits, and Close ends it", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as, time: time.Hour}
		src := w.loggedIn()
		_, err := src.StepUp(soon(t, time.Second), demanded(t, moreScope), p)
		wantErr(t, err, context.DeadlineExceeded)
		time.Sleep(2 * time.Second)
		done := make(chan error, 1)
		go func() { _, err := src.StepUp(context.Background(), demanded(t, moreScope), p); done <- err }()
		synctest.Wait()
		src.Close()
		if err := <-done; err == nil {
			t.Error("it went on")
		}
		p.want(t, 2)
	})
	inBubble(t, "R9470-8: a demand that has the token in it asks nobody, and is not repeated", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as}
		src := w.loggedIn()
		token := w.token(src).AccessToken
		_, err := src.StepUp(t.Context(), demanded(t, `Bearer error="insufficient_scope", scope="a `+token+`"`), p)
		if err == nil || strings.Contains(err.Error(), token) {
			t.Errorf("got %v", err)
		}
		p.want(t, 0)
	})
	t.Run("without what it takes", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		if _, err := src.StepUp(t.Context(), nil, &person{}); err == nil {
			t.Error("no challenge")
		}
		if _, err := src.StepUp(t.Context(), demanded(t, moreScope), nil); err == nil {
			t.Error("no Authenticator")
		}
	})
}

// A login that was granted less than the session has, and not what was demanded,
// takes nothing away.
func TestStepUpIsGrantedLess(t *testing.T) {
	for _, c := range []struct {
		name, had, granted string // scopes, as the server names them
		kept               bool
	}{
		{"less, and not what was demanded", "read list", "read", true},
		{"something else", "read", "list", true},
		{"no more", "read", "read", false},
		{"what was demanded alone", "list", "read write", false},
		{"more, by names of the server's own", "https://as.test/read", "https://as.test/read https://as.test/write", false},
		{"an answer that names none", "list", "", false},
		{"nothing known of the session", "", "list", false},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			src := w.source(func(c *freshtoken.Config) { c.RevocationURL = w.as.RevocationURL() })
			login := func(scopes string) *oauth2.Token {
				members := map[string]any{}
				if scopes != "" {
					members["scope"] = scopes
				}
				return with(w.as.Login("alice"), members)
			}
			if err := src.SetToken(t.Context(), login(c.had)); err != nil {
				t.Fatal(err)
			}
			old := w.token(src)
			p := freshtoken.AuthenticatorFunc(func(context.Context, freshtoken.Config) (*oauth2.Token, error) { return login(c.granted), nil })
			_, err := src.StepUp(t.Context(), demanded(t, moreScope), p)
			if errors.Is(err, freshtoken.ErrNotGranted) != c.kept || !c.kept && err != nil {
				t.Errorf("got error %v", err)
			}
			if same := w.token(src).AccessToken == old.AccessToken; same != c.kept {
				t.Errorf("the session is the old one: %t", same)
			}
			w.wantRevocations(0) // a server may take that for the end of all that the person has allowed
			_, err = src.Refresh(t.Context(), nil)
			if err != nil {
				t.Error(err)
			}
			_, err = src.StepUp(t.Context(), demanded(t, moreScope), p)
			wantErr(t, err, freshtoken.ErrStepUpLimit)
			if advised := strings.Contains(fmt.Sprint(err), `agree to "write"`) || strings.Contains(fmt.Sprint(err), `agree to all`); advised == (c.granted == "" || c.granted == "read write") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A Target has the scopes that it has: no login brings others.
func TestStepUpForATarget(t *testing.T) {
	inBubble(t, "a scope that it lacks asks nobody", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		p := &person{as: w.as}
		narrow := w.target(w.scoped(), reading)
		_, err := narrow.StepUp(t.Context(), demanded(t, moreScope), p)
		wantErr(t, err, freshtoken.ErrTarget)
		if got := new(freshtoken.Challenge); !errors.As(err, &got) || !strings.Contains(err.Error(), `the scope "write", and the Target has "read"`) {
			t.Errorf("got %v", err)
		}
		p.want(t, 0)
		w.usable(narrow)
	})
	inBubble(t, "what it has, and another login, are asked for", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		asked := 0
		p := freshtoken.AuthenticatorFunc(func(context.Context, freshtoken.Config) (*oauth2.Token, error) {
			asked++
			return w.as.Login("alice", "read", "write"), nil
		})
		src := w.scoped()
		for i, c := range []string{`Bearer error="insufficient_scope", scope="read"`, `Bearer error="insufficient_user_authentication", max_age="5"`} {
			tok, err := w.target(src, reading).StepUp(t.Context(), demanded(t, c), p)
			if err != nil || !w.as.AccessAlive(tok.AccessToken) {
				t.Errorf("got %v", err)
			}
			if asked != i+1 {
				t.Errorf("asked %d times", asked)
			}
		}
	})
}

// Another person's login does not take the place of the session.
func TestStepUpByAnotherPerson(t *testing.T) {
	idToken := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
	}
	for _, c := range []struct {
		name, was, is string
		other         bool
	}{
		{"another subject", `{"iss":"a","sub":"1"}`, `{"iss":"a","sub":"2"}`, true},
		{"another issuer", `{"iss":"a","sub":"1"}`, `{"iss":"b","sub":"1"}`, true},
		{"the two forms of Google's issuer", `{"iss":"accounts.google.com","sub":"1"}`, `{"iss":"https://accounts.google.com","sub":"1"}`, false},
		{"the same", `{"iss":"a","sub":"1","iat":1}`, `{"iss":"a","sub":"1","iat":2}`, false},
		{"none now", `{"iss":"a","sub":"1"}`, ``, false},
		{"none before", ``, `{"iss":"a","sub":"1"}`, false},
		{"one that cannot be read", `{"iss":"a","sub":"1"}`, `{"sub":`, false},
	} {
		inBubble(t, c.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Options{})
			src := w.source(func(c *freshtoken.Config) { c.RevocationURL = w.as.RevocationURL() })
			login := func(claims string) *oauth2.Token {
				return with(w.as.Login("somebody"), map[string]any{"id_token": idToken(claims)})
			}
			if err := src.SetToken(t.Context(), login(c.was)); err != nil {
				t.Fatal(err)
			}
			old := w.token(src)
			var brought *oauth2.Token
			_, err := src.StepUp(t.Context(), demanded(t, moreScope), freshtoken.AuthenticatorFunc(
				func(context.Context, freshtoken.Config) (*oauth2.Token, error) {
					brought = login(c.is)
					return brought, nil
				}))
			if errors.Is(err, freshtoken.ErrOtherAccount) != c.other || !c.other && err != nil {
				t.Errorf("got error %v", err)
			}
			if same := w.token(src).AccessToken == old.AccessToken; same != c.other {
				t.Errorf("the session is the old one: %t", same)
			}
			if w.as.AccessAlive(brought.AccessToken) == c.other {
				t.Error("what nobody uses is left at the server, or what is used is not")
			}
			w.usable(src)
		})
	}
}

// It is the session in the store that another person's login does not replace.
func TestStepUpBesideAnotherLogin(t *testing.T) {
	inBubble(t, "of another person, by another program", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{IDTokens: "ES256"})
		one, two := w.source(), w.source()
		if err := one.SetToken(t.Context(), w.as.Login("alice", "openid")); err != nil {
			t.Fatal(err)
		}
		w.token(one)
		bob := w.as.Login("bob", "openid")
		_, err := one.StepUp(t.Context(), demanded(t, moreScope), freshtoken.AuthenticatorFunc(
			func(context.Context, freshtoken.Config) (*oauth2.Token, error) {
				if err := two.SetToken(t.Context(), bob); err != nil {
					t.Error(err)
				}
				time.Sleep(time.Minute)
				return w.as.Login("alice", "openid", "write"), nil
			}))
		wantErr(t, err, freshtoken.ErrOtherAccount)
		if got := w.token(one).AccessToken; got != bob.AccessToken {
			t.Error("the session is not the one that was begun last")
		}
	})
}

// Nobody is asked to log in for a session that the store would not take, and what
// is damaged there is set aside by the login alone.
func TestStepUpChecksTheStoreFirst(t *testing.T) {
	inBubble(t, "which is full", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		f := w.faults()
		src := w.loggedIn()
		w.token(src)
		f.set(func(f *faulty) { f.save = func() error { return errors.New("no space left on device") } })
		p := &person{as: w.as}
		_, err := src.StepUp(t.Context(), demanded(t, moreScope), p)
		wantErr(t, err, freshtoken.ErrStore)
		p.want(t, 0)
		w.usable(src)
		f.set(func(f *faulty) { f.save = nil })
		if _, err := src.StepUp(t.Context(), demanded(t, moreScope), p); err != nil {
			t.Error(err)
		}
		p.want(t, 1)
	})
	inBubble(t, "which has room for the new session, though not for much more than the old one", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		disk := &tight{Store: w.store}
		w.store = disk
		src := w.scoped()
		w.use(src, 20)
		data, err := disk.Store.Load(t.Context(), freshtoken.StoreKey(w.config()))
		if err != nil {
			t.Fatal(err)
		}
		disk.room.Store(int64(len(data)) + 2500)
		if _, err := src.StepUp(t.Context(), demanded(t, moreScope), &person{as: w.as}); err != nil {
			t.Error(err)
		}
	})
	inBubble(t, "whose session is damaged", func(t *testing.T) {
		w := newWorld(t, oauthtest.Options{})
		src := w.loggedIn()
		w.token(src)
		w.restore("{damaged")
		_, err := src.StepUp(t.Context(), demanded(t, moreScope), &person{as: w.as, err: errDeclined})
		wantErr(t, err, errDeclined)
		if got := w.stored(); got != "{damaged" {
			t.Errorf("what could not be read has become %d bytes of something else", len(got))
		}
	})
}
