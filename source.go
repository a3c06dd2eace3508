package freshtoken

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"
)

// A Source keeps one session alive: it has a valid access token for whoever
// asks, and replaces and stores it as needed. Make one with New, and others of
// the same session with For. It is safe for concurrent use, and is shared by
// everything in a program that uses the session; it does not print its tokens.
type Source struct {
	*shared
	target string     // what its access tokens are for (Target.String); empty: the session's own
	params url.Values // that a request for one has for that

	// current is what callers see. Token reads it and nothing else, on every
	// processor at once. What is written often must not lie in its cache line,
	// nor in the one that some processors fetch along with it: no field of this
	// Source, and none of another one, wherever the allocator puts them. So
	// there is room on either side.
	_       [cacheLines]byte
	current atomic.Pointer[view]
	_       [cacheLines]byte

	flights singleflight.Group
	refusal targetRefusal // of its target, since the last success; the turn guards it
	yielded bool          // whether the session's own refresh has gone before that of the target since it failed; the turn guards it
	beyond  bool          // Target.BeyondLogin; guarded by mu
	status  Status        // guarded by mu
}

// shared is what all Sources of one session have in common.
type shared struct {
	cfg       Config
	key       string
	store     Store
	refresher Refresher
	server    *tokenEndpoint // for revocation, too
	begins    bool           // Config.Refresher has the first token as well: there are no logins
	jitter    float64        // in [0, 1), fixed
	random    func() float64
	events    events
	owner     *Sources // which is told of Close; nil: New has made it

	// turn is held by the one goroutine that may lock and use the store, and
	// change the fields of inTurn.
	turn   chan struct{} // of one element
	inTurn inTurn

	// loginTurn is held by the one goroutine that has a person log in.
	loginTurn chan struct{} // of one element

	mu          sync.Mutex // guards what follows
	sources     []*Source  // all of the session, New's first; never changed in place
	closed      bool
	done        chan struct{}  // closed when Close has finished; nil before Close
	closeErr    error          // set before done is closed
	running     sync.WaitGroup // what uses the store or the server
	logins      sync.WaitGroup
	stopWaiting context.CancelFunc // ends what Close need not wait for; nil: there is nothing
	timer       *time.Timer        // the next flight of Config.Background
	saveTimer   *time.Timer        // the next attempt to save what could not be saved
	login       *login             // the one under way; nil: none is

	// Why Config.Reauthenticate has failed, until when it is left alone, and how
	// often in a row a server was asked in vain.
	loginErr      error
	loginPause    time.Time
	loginFailures int

	stepUps []stepUp // the last ones
}

// cacheLines is the size of two cache lines of most processors, one of some.
const cacheLines = 128

// New checks the Config and returns a Source for its session. It does not wait
// for the store or the network.
func New(cfg Config) (*Source, error) { return newSource(cfg, rand.Float64) }

// newSource is New with the randomness of its delays: numbers in [0, 1).
func newSource(cfg Config, random func() float64) (*Source, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	s := &Source{shared: &shared{
		cfg:       cfg,
		key:       cfg.binding().key(),
		store:     cfg.Store,
		refresher: cfg.Refresher,
		server:    newTokenEndpoint(&cfg),
		random:    random,
		jitter:    random(),
		turn:      make(chan struct{}, 1),
	}}
	s.loginTurn = make(chan struct{}, 1)
	s.sources = []*Source{s}
	s.status = Status{State: StateUnknown, Session: cfg.Session}
	if s.store == nil {
		s.store = newEphemeral()
	}
	if c, ok := cfg.Refresher.(ConfigRefresher); ok {
		r, err := c.ForConfig(cfg)
		if err != nil {
			return nil, err
		}
		s.refresher = r
		if a, ok := c.(Authenticator); ok && cfg.Reauthenticate == nil {
			s.cfg.Reauthenticate, s.begins = a, true
		}
	}
	if s.refresher == nil {
		s.refresher = s.server
	}
	if s.cfg.Background {
		s.fly(reasonNeed)
	}
	return s, nil
}

// Token returns a token that can be used now. It is shared: do not modify it.
// It has no refresh token. While it is valid, the call costs two atomic loads
// and a look at the clock.
//
// When a refresh is due, one of the callers waits for it, for two seconds at
// most; when the token has expired, all do, until ctx is done; ctx ends the wait
// and not the refresh. Errors: ErrNoSession, ErrSessionEnded, ErrLocked,
// ErrStore, ErrMismatch, ErrClosed, a *RefreshError, or the context's.
func (s *Source) Token(ctx context.Context) (*oauth2.Token, error) {
	v, err := s.view(ctx)
	if err != nil {
		return nil, err
	}
	return v.token, nil
}

// view is Token for those who need more than the token.
func (s *Source) view(ctx context.Context) (*view, error) {
	if v := s.current.Load(); v != nil && v.fresh() {
		return v, nil
	}
	v, err := s.wait(ctx)
	if err != nil {
		v, err = s.reauthenticate(ctx, err)
	}
	return v, public(err)
}

// Refresh returns a token other than rejected, which an API has refused though
// it seemed valid. If the session's token is another one already, that one is
// returned; otherwise a refresh is started, or joined: one for all who ask.
// With a nil rejected, the token in use counts as rejected. Errors are those of
// Token. Refreshes that only a rejection asks for are limited to a few a minute
// over all processes; beyond that the error is a *RefreshError that says so.
func (s *Source) Refresh(ctx context.Context, rejected *oauth2.Token) (*oauth2.Token, error) {
	if rejected == nil {
		v, err := s.wait(ctx)
		if err != nil {
			if v, err = s.reauthenticate(ctx, err); err != nil {
				return nil, public(err)
			}
			return v.token, nil // of a login just now: nothing is newer
		}
		rejected = v.token
	}
	v, err := s.renew(ctx, rejected.AccessToken)
	if err != nil {
		v, err = s.reauthenticate(ctx, err)
	}
	if err != nil {
		return nil, public(err)
	}
	return v.token, nil
}

// TokenSource returns an oauth2.TokenSource for libraries that want one. ctx
// bounds what its Token method waits for. Do not pass it to oauth2.NewClient or
// oauth2.ReuseTokenSource, which keep a token until it expires, whatever happens
// to it before: use Source.Client, or an oauth2.Transport.
func (s *Source) TokenSource(ctx context.Context) oauth2.TokenSource {
	return tokenSource{ctx, s}
}

type tokenSource struct {
	ctx context.Context // the interface's method has none to pass
	s   *Source
}

func (t tokenSource) Token() (*oauth2.Token, error) { return t.s.Token(t.ctx) }

// Client returns an http.Client that sends the session's token to the given
// origins, such as "https://api.example.com", and to no other. It is short for
// a Client over a Transport.
func (s *Source) Client(origins ...string) *http.Client {
	return &http.Client{Transport: &Transport{Source: s, Origins: origins}}
}

// State says whether there is a session.
type State string

// The states of a session.
const (
	StateUnknown State = "unknown" // nobody has asked for a token yet
	StateAbsent  State = "absent"  // nobody is logged in
	StateAlive   State = "alive"   // there are tokens, or a refresh token to get some with
	StateEnded   State = "ended"   // only a new login helps
)

// Status tells how the session is, as far as this Source knows. It holds no
// secret.
type Status struct {
	State      State
	Session    string    // Config.Session
	Target     string    // what the access token is for; empty: whatever the login was granted
	Generation uint64    // counts the refreshes since the login, which is 1
	Issued     time.Time // of the access token
	Expiry     time.Time // of the access token; zero if unknown
	RefreshAt  time.Time // when a refresh is due; zero if it never is
	Persisted  bool      // whether what is in use is in the store
	LastError  error     // of the last refresh, save or look into the store; nil once it has succeeded

	// RefreshExpiry is when the session ends if nobody does anything, by what
	// the server has said of the refresh token (refresh_token_expires_in,
	// refresh_expires_in, refresh_token_timeout) and of the whole grant
	// (authorization_expires_in), whichever comes first; zero if it has not. It
	// is a hint: what the server says later counts.
	RefreshExpiry time.Time
}

// MarshalJSON implements json.Marshaler, with the error as its text.
func (s Status) MarshalJSON() ([]byte, error) {
	type plain Status
	shown := struct {
		plain
		LastError string
	}{plain: plain(s)}
	if s.LastError != nil {
		shown.LastError = s.LastError.Error()
	}
	return json.Marshal(shown)
}

// LogValue implements slog.LogValuer, with the error as its text.
func (s Status) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("state", string(s.State)), slog.String("session", s.Session),
		slog.Uint64("generation", s.Generation), slog.Time("expiry", s.Expiry), slog.Bool("persisted", s.Persisted)}
	if s.Target != "" {
		attrs = append(attrs, slog.String("target", s.Target))
	}
	if !s.RefreshExpiry.IsZero() {
		attrs = append(attrs, slog.Time("refresh_expiry", s.RefreshExpiry))
	}
	if s.LastError != nil {
		attrs = append(attrs, slog.String("error", s.LastError.Error()))
	}
	return slog.GroupValue(attrs...)
}

// Status returns what the Source knows, without looking into the store.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

// SetToken starts a session with the token of a login, and stores it. A refresh
// token alone is enough. It replaces whatever session there is under this name,
// with one exception: the token that the stored session began with changes
// nothing, since the stored one is newer. So a program may hand in the same
// token whenever it starts.
//
// If the store fails, the session lives in memory, the error is
// ErrNotPersisted, and saving is tried again until Close; if the session in use
// began with the same token it goes on, and the error is ErrStore or ErrLocked.
// A stored value that is damaged is set aside. If ctx ends first, SetToken may
// still take effect.
func (s *Source) SetToken(ctx context.Context, tok *oauth2.Token) error {
	if tok == nil || tok.AccessToken == "" && tok.RefreshToken == "" {
		return public(wrap(ErrBadToken, "SetToken needs an access token or a refresh token"))
	}
	g, issued, err := s.takeLogin(tok)
	if err != nil {
		return public(err)
	}
	return public(s.detached(ctx, func() error { return s.root().setToken(g, issued) }))
}

// Logout ends the session: it stops handing out the token, revokes the tokens,
// if Config.RevocationURL is set, within ten seconds, and replaces the stored
// session with a note that it is over, whether or not the server could be
// reached. Nothing brings the session back but a new login. Other processes
// notice when their access token is due or rejected.
//
// ErrNotRevoked tells that the server did not confirm the revocation. ErrLocked
// tells that nothing has happened. ErrStore tells that the session is over here,
// and still stored, for other processes to use; if the Source knew it, it goes
// on trying to write the note until Close. Without a session, Logout does
// nothing. If ctx ends first, it may still take effect.
//
// If Config.EndSession is set, it is called when the rest is done; that it fails
// is ErrNotRevoked, too.
func (s *Source) Logout(ctx context.Context) error {
	return public(s.root().logOut(ctx, false, nil))
}

// Close ends the Source, and all others of the session (For). It waits, for a
// minute and a half at most, for a refresh that is under way and its save, and
// tries once more to save what could not be saved; if that fails, the error is
// ErrNotPersisted. A login that is under way is ended, and waited for three
// seconds; for Config.OnEvent and Config.OnAttempt to return from what they have
// been told, it waits one. The session lives on in the store. Later calls of any
// method return ErrClosed, those of Close what the first returned.
func (s *Source) Close() error {
	s.mu.Lock()
	if s.closed {
		done := s.done
		s.mu.Unlock()
		<-done
		return s.closeErr
	}
	s.closed, s.done = true, make(chan struct{})
	stop(&s.timer)
	stop(&s.saveTimer)
	if s.stopWaiting != nil {
		s.stopWaiting()
	}
	if s.login != nil {
		s.login.cancel()
	}
	for _, each := range s.sources {
		each.current.Store(closedView())
	}
	s.mu.Unlock()

	s.closeErr = public(s.finish())
	left := make(chan struct{})
	go func() { s.logins.Wait(); close(left) }()
	returned(left, leaveTime)
	s.events.wait(eventTime)
	if s.owner != nil {
		s.owner.closes(s.root())
	}
	close(s.done)
	return s.closeErr
}

// begin registers a goroutine of the Source, which calls end; not after Close.
func (s *Source) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Add(1)
	return true
}

func (s *Source) end() { s.running.Done() }

func (s *Source) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// stopWith registers what Close calls to end what it need not wait for: the wait for
// the session lock, a look into the store, a check of an ID token; not after Close.
// Nil: there is no such thing any more.
func (s *Source) stopWith(cancel context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopWaiting = cancel
	return !s.closed
}

// note records the outcome of the last thing that was tried.
func (s *Source) note(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.LastError = public(err)
}

func (s *Source) emit(kind EventKind, err error) {
	if s.cfg.OnEvent == nil {
		return
	}
	ev := Event{Kind: kind, Time: time.Now(), Session: s.cfg.Session, Target: s.target, Generation: s.Status().Generation, Err: public(err)}
	s.events.add(func() { s.cfg.OnEvent(ev) })
}

// Format implements fmt.Formatter: no verb shows a token.
func (s *Source) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.describe()) }

// MarshalJSON implements json.Marshaler, without a token.
func (s *Source) MarshalJSON() ([]byte, error) { return marshalString(s.describe()) }

// LogValue implements slog.LogValuer, without a token.
func (s *Source) LogValue() slog.Value { return slog.StringValue(s.describe()) }

func (s *Source) describe() string {
	if s == nil {
		return "freshtoken.Source(nil)"
	}
	st := s.Status()
	about := ""
	if st.Target != "" {
		about = fmt.Sprintf("Target: %q, ", st.Target)
	}
	return fmt.Sprintf("freshtoken.Source{Session: %q, %sState: %s, Generation: %d}", st.Session, about, st.State, st.Generation)
}

func marshalString(s string) ([]byte, error) { return json.Marshal(s) }

// contextError is what a caller gets whose context ends while it waits.
func contextError(ctx context.Context) error {
	err := ctx.Err()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(err, cause) {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return fmt.Errorf("gave up waiting for a token: %w", err)
}
