package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/login"
	"github.com/freshtoken/freshtoken/openid"
	"golang.org/x/oauth2"
)

// An action is what a button does, and what is on it.
type action string

const (
	signIn   action = "Sign in"
	cancel   action = "Cancel"
	signOut  action = "Sign out"
	tryAgain action = "Try again"
)

// A view is all that the window shows.
type view struct {
	headline string
	detail   string
	action   action // "" : no button
}

// An account is a session with a face.
type account struct {
	cfg     freshtoken.Config
	flow    login.Loopback
	changed func() // the view has; must not block

	ctx  context.Context // of all that goes on; ends with the window
	stop context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex // guards what follows
	src     *freshtoken.Source
	who     string             // is signed in; "": nobody, or it is not known
	unknown error              // why it is not known who is signed in
	notice  string             // what the person should know
	doing   string             // what is going on; "": nothing
	cancel  context.CancelFunc // ends that, if a person may
}

// newAccount begins to find out who is signed in.
func newAccount(cfg freshtoken.Config, browse func(context.Context, string) error, changed func()) *account {
	a := &account{cfg: cfg, changed: changed}
	a.ctx, a.stop = context.WithCancel(context.Background())
	a.flow.Prompt = login.Prompt{Browse: browse,
		Elsewhere: func(context.Context) { a.tell("Another window is signing in.") }}
	a.cfg.Background = true // a person who clicks shall not wait for a refresh
	a.cfg.OnEvent = a.event
	a.do(tryAgain)
	return a
}

// do is a click on a button. What it says has begun when it returns; unless something
// else is going on, in which case the button was that of a view of the past.
func (a *account) do(what action) {
	switch what {
	case tryAgain:
		a.start("Looking who is signed in", false, a.look)
	case signIn:
		a.start("Signing in", true, a.signIn)
	case signOut:
		a.start("Signing out", false, a.signOut)
	case cancel:
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.cancel != nil {
			a.cancel()
		}
	}
}

// start has something done in the background.
func (a *account) start(doing string, cancelable bool, f func(context.Context)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.doing != "" || a.ctx.Err() != nil {
		return
	}
	ctx, stop := context.WithCancel(a.ctx)
	a.doing, a.notice = doing, ""
	if cancelable {
		a.cancel = stop
	}
	a.work.Go(func() {
		defer stop()
		f(ctx)
		a.mu.Lock()
		a.doing, a.cancel = "", nil
		a.mu.Unlock()
		a.changed()
	})
	a.changed()
}

// source makes the Source once the server has told where its endpoints are.
func (a *account) source(ctx context.Context) (*freshtoken.Source, error) {
	if a.src != nil {
		return a.src, nil
	}
	cfg := a.cfg
	server, err := discovery.Configure(ctx, &cfg)
	if err != nil {
		return nil, err
	}
	cfg.IDTokens = &openid.Verifier{KeysURL: server.JWKSURI, Algorithms: server.IDTokenSigningAlgValuesSupported}
	src, err := freshtoken.New(cfg)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.src = src
	return src, nil
}

// look finds out who is signed in.
func (a *account) look(ctx context.Context) {
	var tok *oauth2.Token
	src, err := a.source(ctx)
	if err == nil {
		tok, err = src.Token(ctx)
	}
	switch { // what is no surprise
	case errors.Is(err, freshtoken.ErrNoSession):
		err = freshtoken.ErrNoSession
	case errors.Is(err, freshtoken.ErrSessionEnded):
		err = freshtoken.ErrSessionEnded
	}
	a.know(tok, err)
}

// signIn has somebody do so in the browser.
func (a *account) signIn(ctx context.Context) {
	src, err := a.source(ctx)
	var tok *oauth2.Token
	if err == nil {
		tok, err = login.Ensure(ctx, src, a.flow)
	}
	if ctx.Err() != nil { // who has cancelled it knows
		err = freshtoken.ErrNoSession
	}
	a.know(tok, err)
}

func (a *account) signOut(ctx context.Context) {
	err := a.src.Logout(ctx)
	if err == nil || errors.Is(err, freshtoken.ErrNotRevoked) {
		a.know(nil, freshtoken.ErrNoSession)
	}
	if err != nil {
		a.tell(explain(err))
	}
}

// know takes note of what was found out.
func (a *account) know(tok *oauth2.Token, err error) {
	who := ""
	if err == nil {
		who = name(tok)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.who, a.unknown, a.notice = who, nil, explain(err)
	if err != nil && !over(err) {
		a.unknown = err
	}
}

// tell has a notice shown.
func (a *account) tell(notice string) {
	a.mu.Lock()
	a.notice = notice
	a.mu.Unlock()
	a.changed()
}

// event is told what happens to the session, whoever has caused it.
func (a *account) event(e freshtoken.Event) {
	a.mu.Lock()
	src, who := a.src, a.who
	a.mu.Unlock()
	switch e.Kind {
	case freshtoken.EventLoggedIn, freshtoken.EventAdopted: // in another window, perhaps
		if tok, err := src.Token(a.ctx); err == nil {
			a.know(tok, nil)
		}
	case freshtoken.EventLoggedOut:
		if who != "" { // or it was here, and has been told
			a.know(nil, freshtoken.ErrNoSession)
		}
	case freshtoken.EventSessionEnded:
		a.know(nil, freshtoken.ErrSessionEnded)
	case freshtoken.EventRefreshFailed, freshtoken.EventNotPersisted:
		a.tell(explain(e.Err))
	case freshtoken.EventRefreshed, freshtoken.EventPersisted:
		a.tell("")
	}
	a.changed()
}

// view is what there is to see now.
func (a *account) view() view {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.doing != "" && a.cancel != nil:
		return view{a.doing, cmp.Or(a.notice, "Go on in your browser."), cancel}
	case a.doing != "":
		return view{a.doing, a.notice, ""}
	case a.unknown != nil:
		return view{"It is not known who is signed in", a.notice, tryAgain}
	case a.who == "":
		return view{"Nobody is signed in", a.notice, signIn}
	}
	return view{"Signed in as " + a.who, cmp.Or(a.notice, renewed(a.src.Status())), signOut}
}

// renewed tells that the session is kept alive.
func renewed(s freshtoken.Status) string {
	if s.RefreshAt.IsZero() || s.Generation == 0 {
		return ""
	}
	return fmt.Sprintf("Renewals so far: %d. The next one is due at %s.", s.Generation-1, s.RefreshAt.Format("15:04:05"))
}

// close ends what is going on, and the session's refreshes. The session itself stays
// for the next start.
func (a *account) close() error {
	a.mu.Lock()
	a.stop() // with the lock: nothing starts from here on
	a.mu.Unlock()
	a.work.Wait()
	if a.src == nil {
		return nil
	}
	return a.src.Close()
}

// over tells that nobody is signed in.
func over(err error) bool {
	return errors.Is(err, freshtoken.ErrNoSession) || errors.Is(err, freshtoken.ErrSessionEnded)
}

// explain puts an error in words for the person in front of the window.
func explain(err error) string {
	var failed *freshtoken.RefreshError
	switch {
	case err == nil || err == freshtoken.ErrNoSession || errors.Is(err, context.Canceled):
		return ""
	case errors.Is(err, keyring.ErrLocked):
		return "Your keyring is locked. Unlock it, and try again."
	case errors.Is(err, keyring.ErrUnavailable):
		return "There is no keyring on this machine, or it does not answer."
	case errors.Is(err, login.ErrDenied):
		return "The server says that the sign-in was refused."
	case errors.Is(err, freshtoken.ErrNotRevoked):
		return "Signed out here. The server has not confirmed it."
	case errors.Is(err, freshtoken.ErrNotPersisted):
		return "You stay signed in until this window is closed: the session could not be saved."
	case errors.Is(err, discovery.ErrUnavailable), errors.As(err, &failed) && failed.Temporary:
		return "The server cannot be reached at the moment."
	case err == freshtoken.ErrSessionEnded:
		return "Your session has ended. Sign in again."
	}
	return err.Error() // holds no secret
}

// name is what people call the person who has signed in.
func name(tok *oauth2.Token) string {
	who, err := openid.ClaimsOf(tok)
	if err != nil {
		return "somebody" // the server did not say
	}
	return cmp.Or(who.Name, who.PreferredUsername, who.Email, who.Subject)
}
