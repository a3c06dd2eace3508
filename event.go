package freshtoken

import (
	"encoding/json"
	"log/slog"
	"sync"
	"time"
)

// EventKind says what has happened to a session.
type EventKind string

// The kinds of events.
const (
	EventLoggedIn      EventKind = "logged_in"      // a session began here: by a login, SetToken or Import
	EventLoggedOut     EventKind = "logged_out"     // Logout ended it here, or another process did
	EventRefreshed     EventKind = "refreshed"      // the server issued new tokens to this Source
	EventAdopted       EventKind = "adopted"        // another process has stored newer tokens, now used here
	EventRejected      EventKind = "rejected"       // an API rejected the access token before its time; Err, if any, tells of a newer one for another Target
	EventOverBudget    EventKind = "over_budget"    // an API rejects new tokens too; no further refresh for now
	EventRefreshFailed EventKind = "refresh_failed" // Err tells why; tokens that are still valid stay in use
	EventSessionEnded  EventKind = "session_ended"  // only a new login helps
	EventNotPersisted  EventKind = "not_persisted"  // the newest tokens are in memory only; saving is retried
	EventPersisted     EventKind = "persisted"      // they are saved after all
	EventReplayed      EventKind = "replayed"       // a rejected request is sent again with a newer token

	// EventExpiring: by what the server has said, the session ends soon unless
	// something is done: Status tells when, as RefreshExpiry. It comes a tenth of
	// the life before that, but five minutes at least, a day at most, and no
	// earlier than half-way; once, unless the end has been put off since. It comes
	// when somebody asks for a token, or by Config.Background; what helps is a new
	// login, or, where the server ends sessions that are idle, a refresh.
	EventExpiring EventKind = "session_expiring"

	// EventLoginElsewhere: another process is having somebody log in, and this
	// Source waits for it.
	EventLoginElsewhere EventKind = "login_elsewhere"
)

// An Event is something that happened to a session. It holds no secret and may
// be logged as it is.
type Event struct {
	Kind       EventKind
	Time       time.Time
	Session    string // Config.Session
	Target     string // what the access token is for (Source.For); empty for the session's own
	Generation uint64 // counts the refreshes of the session; zero where it does not apply
	Err        error  // why, for the kinds that report a failure
}

// MarshalJSON implements json.Marshaler, with the error as its text.
func (e Event) MarshalJSON() ([]byte, error) {
	type plain Event
	shown := struct {
		plain
		Err string `json:",omitempty"`
	}{plain: plain(e)}
	if e.Err != nil {
		shown.Err = e.Err.Error()
	}
	return json.Marshal(shown)
}

// LogValue implements slog.LogValuer, with the error as its text.
func (e Event) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("kind", string(e.Kind)),
		slog.String("session", e.Session),
		slog.Uint64("generation", e.Generation),
	}
	if e.Target != "" {
		attrs = append(attrs, slog.String("target", e.Target))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("error", e.Err.Error()))
	}
	return slog.GroupValue(attrs...)
}

// events delivers events and attempts one at a time and in order, from a
// goroutine of its own, so that a receiver may take its time or call back into
// the Source.
type events struct {
	mu    sync.Mutex // guards queue and idle
	queue []func()
	idle  chan struct{} // closed when all is delivered; nil: it is, and nobody delivers
}

func (e *events) add(deliver func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, deliver)
	if e.idle == nil {
		e.idle = make(chan struct{})
		go e.deliverAll()
	}
}

func (e *events) deliverAll() {
	for {
		e.mu.Lock()
		if len(e.queue) == 0 {
			close(e.idle)
			e.idle = nil
			e.mu.Unlock()
			return
		}
		deliver := e.queue[0]
		e.queue = e.queue[1:]
		e.mu.Unlock()
		deliver()
	}
}

// wait returns when all events are delivered, or after a while: the receiver of
// one of them may be what waits.
func (e *events) wait(limit time.Duration) {
	e.mu.Lock()
	idle := e.idle
	e.mu.Unlock()
	if idle == nil {
		return
	}
	patience := time.NewTimer(limit)
	defer patience.Stop()
	select {
	case <-idle:
	case <-patience.C:
	}
}
