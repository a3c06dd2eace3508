package freshtoken_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken"
	"golang.org/x/oauth2"
)

// What comes from outside of the library's world: people, backups, and programs
// that know nothing of locks.

// modelLogin is how somebody logs in.
type modelLogin struct {
	how   string // "succeeds", "fails", or "deaf": succeeds though nobody waits any more
	takes time.Duration
}

var errModelLogin = errors.New("nobody wants to log in")

// modelPerson is an Authenticator.
type modelPerson struct {
	w       *modelWorld
	p       *modelProcess
	account int
	ordered bool
	login   func() modelLogin
}

func (m modelPerson) Authenticate(ctx context.Context, _ freshtoken.Config) (*oauth2.Token, error) {
	l := m.login()
	a := &modelAsk{Proc: m.p.id, Account: m.account, Ordered: m.ordered}
	m.w.h.begins(a)
	alarm := time.NewTimer(l.takes)
	defer alarm.Stop()
	given := ctx.Done()
	if l.how == "deaf" {
		given = nil
	}
	select {
	case <-alarm.C:
	case <-given:
		m.w.h.answers(a, "left", "")
		return nil, ctx.Err()
	case <-m.p.dead.Done():
		m.w.h.answers(a, "left", "")
		return nil, errModelDead
	}
	if l.how == "fails" {
		m.w.h.answers(a, "failed", "")
		return nil, errModelLogin
	}
	tok := m.w.newLogin(m.account)
	m.w.h.answers(a, "succeeded", tok.RefreshToken)
	return tok, nil
}

// ordered is the Authenticator of Config.Reauthenticate: it meets what the plan
// has next.
func (w *modelWorld) ordered(p *modelProcess, account int) freshtoken.Authenticator {
	return modelPerson{w, p, account, true, func() modelLogin {
		w.mu.Lock()
		defer w.mu.Unlock()
		q := w.next[account]
		switch {
		case w.over:
			return modelLogin{how: "fails"}
		case len(q) > 0:
			w.next[account] = q[1:]
			return q[0]
		}
		return modelLogin{"succeeds", 700 * time.Millisecond}
	}}
}

func (w *modelWorld) authenticate(src *modelSource, s modelStep) {
	w.call(src, modelCall{Kind: "authenticate"}, s, func(ctx context.Context, c *modelCall) {
		tok, err := src.Authenticate(ctx, modelPerson{w, src.p, src.account, false, func() modelLogin { return s.login }})
		w.hand(src, c, tok, err)
	})
}

func (w *modelWorld) newLogin(account int) *oauth2.Token {
	var scopes []string
	if w.plan.mode.Targets {
		scopes = []string{"read", "write"}
	}
	tok := w.as.Login(fmt.Sprint(account), scopes...)
	w.h.origin(tok.RefreshToken, account)
	return tok
}

// forget has a process drop an account.
func (w *modelWorld) forget(src *modelSource, s modelStep) {
	cfg := w.config(src.account)
	name := cfg.Session
	cfg.Store = modelStore{w.disk, src.p}
	cfg.HTTPClient = &http.Client{Transport: modelNet{src.p, src.account, w.h, w.as.Transport()}}
	all := freshtoken.SourcesOf(cfg, src.Source)
	w.call(src, modelCall{Kind: "logout", Forget: true}, s, func(ctx context.Context, c *modelCall) { c.Err = all.Forget(ctx, name) })
	all.Close()
}

// takeOver has a process import a plaintext file.
func (w *modelWorld) takeOver(src *modelSource, tok *oauth2.Token, s modelStep) {
	data, err := json.Marshal(tok)
	if err != nil {
		panic(err)
	}
	path := filepath.Join(w.dir, fmt.Sprintf("%d-%s.json", w.plan.seed, short(tok.RefreshToken)))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		panic(err)
	}
	w.call(src, modelCall{Kind: "login", Given: tok.RefreshToken}, s, func(ctx context.Context, c *modelCall) {
		c.Err = src.Import(ctx, path)
		w.h.imports(modelImport{Proc: src.p.id, Account: src.account, path: path, Given: tok.RefreshToken, Err: c.Err, Lost: src.p.dead.Err() != nil})
	})
}

func (h *modelHistory) imports(m modelImport) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Imports = append(h.Imports, m)
}

// leftovers sees what has become of the files.
func (w *modelWorld) leftovers() {
	for i := range w.h.Imports {
		m := &w.h.Imports[i]
		m.Gone = os.Remove(m.path) != nil
	}
}

// restore puts back what was stored before.
func (w *modelWorld) restore(s modelStep) {
	w.disk.mu.Lock()
	past := w.disk.past[s.account]
	w.disk.mu.Unlock()
	if len(past) < 2 {
		return
	}
	w.h.note("a backup of account %d is restored", s.account)
	w.disk.write(0, w.key(s.account), past[max(len(past)-2-s.n, 0)], "backup")
}

func (w *modelWorld) key(account int) string { return freshtoken.StoreKey(w.config(account)) }

// fork has a program that knows no lock refresh what is stored, and write it
// down a while later, over whatever is there.
func (w *modelWorld) fork(s modelStep) {
	old, err := w.disk.inner.Load(context.Background(), w.key(s.account))
	rec := parseModelRecord(old)
	if err != nil || !rec.alive() || rec.Refresh == "" {
		return
	}
	answer := w.foreignGrant(s.account, rec.Refresh)
	if answer.Access == "" {
		return
	}
	issued := time.Now().UTC()
	time.Sleep(s.lasts)
	dec := json.NewDecoder(bytes.NewReader(old))
	dec.UseNumber()
	var all map[string]any
	if err := dec.Decode(&all); err != nil {
		panic(err)
	}
	for _, name := range []string{"mark", "pause", "padding"} {
		delete(all, name)
	}
	all["generation"], all["issued"], all["access_token"] = rec.Generation+1, issued, answer.Access
	all["lifetime_ns"] = w.plan.server.AccessLifetime
	if answer.Refresh != "" {
		all["refresh_token"] = answer.Refresh
	}
	data, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	w.disk.write(0, w.key(s.account), data, "fork")
}

type modelAnswer struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// foreignGrant spends a refresh token as another program would.
func (w *modelWorld) foreignGrant(account int, refresh string) (a modelAnswer) {
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {w.as.OAuth2().ClientID}}
	req, err := http.NewRequest(http.MethodPost, w.as.TokenURL(), strings.NewReader(form.Encode()))
	if err != nil {
		panic(err)
	}
	id := w.h.sends(modelSend{Account: account, Refresh: refresh})
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set(modelSendHeader, strconv.Itoa(id))
	resp, err := w.as.Client().Do(req)
	if err != nil {
		w.h.sent(id, 0, err)
		return a
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	w.h.sent(id, resp.StatusCode, err)
	return a
}
