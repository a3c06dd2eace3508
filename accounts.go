package freshtoken

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// Sources are the Sources of a program with several accounts: one for each
// session name, made when it is first asked for. They have all of a Config but
// its Session in common, and nothing else: no account waits for another's
// refresh, or for its store lock. Make it with NewSources. It is safe for
// concurrent use, and does not print its secrets.
//
// Config.OnEvent and Config.OnAttempt are called for all of them, for several at
// the same time: Event.Session and Attempt.Session tell which. Config.Background
// keeps those sessions fresh whose Source has been asked for.
type Sources struct {
	cfg Config // checked; its Session is empty

	mu       sync.Mutex // guards what follows
	open     map[string]*Source
	closed   bool
	done     chan struct{}  // closed when Close has finished; nil before Close
	closeErr error          // set before done is closed
	retired  sync.WaitGroup // Sources that Forget is closing; nobody joins after Close
}

// NewSources checks the Config, whose Session must be empty, and returns the
// Sources of its sessions. It does not wait for the store or the network.
func NewSources(cfg Config) (*Sources, error) {
	if cfg.Session != "" {
		return nil, errors.New("freshtoken: Config.Session is set: leave it empty for NewSources, and name the session in Sources.Get")
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.Session = ""
	return &Sources{cfg: cfg, open: make(map[string]*Source)}, nil
}

// Get returns the Source of the session with this name, the same one whenever
// it is asked for; empty means "default". Once it has been closed, by Forget or
// by itself, there is a new one. The error is ErrClosed after Close; otherwise
// the name is not valid UTF-8.
func (a *Sources) Get(name string) (*Source, error) {
	name = cmp.Or(name, defaultSession)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, public(ErrClosed)
	}
	if s := a.open[name]; s != nil && !s.isClosed() {
		return s, nil
	}
	cfg := a.cfg
	cfg.Session = name
	s, err := New(cfg)
	if err != nil {
		return nil, err
	}
	s.owner = a
	a.open[name] = s
	return s, nil
}

// List returns the sessions that the store has for this client and server,
// sorted by name, without those that are over. Each Status tells what is
// stored: Persisted is true, and RefreshAt the earliest time at which a refresh
// is due. List makes no Source, and needs neither a lock nor the network.
//
// It needs a Store that is a Lister; the error is errors.ErrUnsupported
// otherwise. If some of the sessions cannot be read, List returns the others,
// and an error that matches ErrStore or ErrMismatch as that of Source.Token
// would. After Close it is ErrClosed.
func (a *Sources) List(ctx context.Context) ([]Status, error) {
	a.mu.Lock()
	closed := a.closed
	a.mu.Unlock()
	if closed {
		return nil, public(ErrClosed)
	}
	lister, ok := a.cfg.Store.(Lister)
	if !ok {
		return nil, public(errCannotList)
	}
	keys, err := lister.List(ctx)
	if errors.Is(err, errors.ErrUnsupported) {
		return nil, public(errCannotList)
	}
	if err != nil {
		err = &storeError{"list the sessions", err}
	}
	var all []Status
	for _, b := range a.ours(keys) {
		if ctx.Err() != nil {
			err = errors.Join(err, fmt.Errorf("listing the sessions: %w", ctx.Err()))
			break
		}
		r, failed := b.open(a.cfg.Store.Load(ctx, b.key()))
		switch {
		case failed != nil:
			err = errors.Join(err, fmt.Errorf("session %q: %w", b.Session, failed))
		case r != nil && r.Ended == nil:
			all = append(all, a.status(r))
		}
	}
	return all, public(err)
}

var errCannotList = fmt.Errorf("%w: Config.Store does not know what it keeps: use one that is a Lister, such as storage.NewFile, or keep the names of the sessions yourself", errors.ErrUnsupported)

// ours returns the bindings whose keys are among these, of this client and
// server, sorted by the sessions' names.
func (a *Sources) ours(keys []string) []binding {
	own := a.cfg.binding()
	var all []binding
	for _, key := range keys {
		if b, ok := parseKey(key); ok && b.Issuer == own.Issuer && b.ClientID == own.ClientID {
			all = append(all, b)
		}
	}
	slices.SortFunc(all, func(x, y binding) int { return cmp.Compare(x.Session, y.Session) })
	return slices.Compact(all)
}

// status tells of a stored record what Source.Status would: the session has
// ended if it has neither a token that is valid nor a way to another.
func (a *Sources) status(r *record) Status {
	st := Status{State: StateAlive, Session: r.Binding.Session, Generation: r.Generation, Persisted: true}
	st.RefreshExpiry, _ = r.ends()
	now := time.Now()
	refreshable := r.RefreshToken != "" || a.cfg.Refresher != nil
	dead := r.AccessToken == ""
	if !dead {
		st.Issued = r.Issued
		if r.Lifetime > 0 {
			st.Expiry = r.Issued.Add(r.Lifetime)
			dead = !now.Before(st.Expiry)
		}
		due := refreshAge(r.Lifetime, a.cfg.Lead, r.RefreshIn, 0)
		if a.cfg.KeepAlive {
			due = min(due, r.keepAge(&r.access, 0))
		}
		if refreshable && due != never {
			st.RefreshAt = r.Issued.Add(due)
		}
	}
	if dead && !refreshable {
		st.State = StateEnded
	}
	if p := r.Pause; dead && p != nil && remaining(p.From, p.Until, now) > 0 {
		e := p.failure(r)
		e.RetryAfter = remaining(p.From, p.Until, now)
		st.LastError = e
		if e.ended {
			st.State = StateEnded
		}
	}
	return st
}

// Forget logs the session out, as Source.Logout does, and removes what is left
// of it from the store, so that its name is gone. It closes the session's
// Source; Get makes another one. That there is no such session is no error.
//
// ErrNotRevoked tells that the session is gone and the server did not confirm
// that it has revoked the tokens. Any other error tells that its name is still
// in the store: ErrLocked, ErrStore, ErrMismatch mean what they do for Logout;
// call Forget again. If ctx ends first, it may still take effect; a login that is
// under way and does not let go is not waited for any longer than that. What is
// damaged stays, until a login sets it aside.
func (a *Sources) Forget(ctx context.Context, name string) error {
	for { // again only if somebody else has closed the Source meanwhile
		s, err := a.Get(name)
		if err != nil {
			return err
		}
		err = s.logOut(ctx, true, func(end func() error) error {
			if !a.keeps(s) {
				return ErrClosed // another Forget was faster
			}
			err := end()
			if err == nil || errors.Is(err, ErrNotRevoked) {
				a.retire(s)
			}
			return err
		})
		switch {
		case err == ErrClosed: // itself: in a cause of ctx, or under another error, it is about something else
		case err == nil, errors.Is(err, ErrNotRevoked):
			return public(errors.Join(err, unnamed(a.closing(ctx, s))))
		default:
			return public(err)
		}
	}
}

// closing waits for the end of a Source that retire closes, as long as ctx allows:
// somebody who is being asked to log in may not let go at once.
func (a *Sources) closing(ctx context.Context, s *Source) error {
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	select {
	case err := <-closed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// keeps reports whether s is the Source of its session.
func (a *Sources) keeps(s *Source) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.open[s.cfg.Session] == s
}

// retire drops and closes a Source whose session is forgotten. The turn of s is
// held, and Close waits for it.
func (a *Sources) retire(s *Source) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return // by Close
	}
	a.drop(s)
	a.retired.Go(func() { s.Close() })
}

// closes drops a Source whose Close has finished, and not before: Close of a waits
// for it, too. The caller does not hold s.mu, which Get takes while it holds a.mu.
func (a *Sources) closes(s *Source) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(s)
}

// drop forgets s, but not another one that has come in its place. a.mu is held.
func (a *Sources) drop(s *Source) {
	if a.open[s.cfg.Session] == s {
		delete(a.open, s.cfg.Session)
	}
}

// Close closes all Sources that are open, at the same time, and returns what
// Source.Close returns for each, joined. Later calls of any method return ErrClosed, those of
// Close what the first returned.
func (a *Sources) Close() error {
	a.mu.Lock()
	if a.closed {
		done := a.done
		a.mu.Unlock()
		<-done
		return a.closeErr
	}
	a.closed, a.done = true, make(chan struct{})
	names := slices.Sorted(maps.Keys(a.open))
	open := a.open
	a.open = nil
	a.mu.Unlock()

	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			if err := open[name].Close(); err != nil {
				errs[i] = fmt.Errorf("session %q: %w", name, unnamed(err))
			}
		})
	}
	all.Wait()
	a.retired.Wait()
	a.closeErr = public(errors.Join(errs...))
	close(a.done)
	return a.closeErr
}

// Format implements fmt.Formatter: no verb shows a secret.
func (a *Sources) Format(f fmt.State, _ rune) { fmt.Fprint(f, a.describe()) }

// MarshalJSON implements json.Marshaler, without a secret.
func (a *Sources) MarshalJSON() ([]byte, error) { return marshalString(a.describe()) }

// LogValue implements slog.LogValuer, without a secret.
func (a *Sources) LogValue() slog.Value { return slog.StringValue(a.describe()) }

func (a *Sources) describe() string {
	if a == nil {
		return "freshtoken.Sources(nil)"
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return fmt.Sprintf("freshtoken.Sources{ClientID: %q, TokenURL: %q, Open: %d}",
		a.cfg.OAuth2.ClientID, endpoint.WithoutQuery(a.cfg.OAuth2.Endpoint.TokenURL), len(a.open))
}
