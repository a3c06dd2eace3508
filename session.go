package freshtoken

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// recordVersion is the version of the stored record. A program never spends or
// overwrites a record of a higher one. Members that it does not know, it keeps.
const recordVersion = 1

// A record is a session as it is stored: one JSON object. Its zero members are
// left out. It is immutable once it is shared: every change makes a new one.
type record struct {
	Version int     `json:"version"`
	Binding binding `json:"binding"`

	// ID tells one login from the next. Generation counts the refreshes since
	// the login, whose own tokens are generation 1. Started is when that was.
	// Origin is the digest of the refresh token that the login yielded, or else
	// of the access token, and OriginAccess that of the latter.
	ID           string    `json:"id"`
	Generation   uint64    `json:"generation"`
	Started      time.Time `json:"started,omitzero"`
	Origin       string    `json:"origin,omitempty"`
	OriginAccess string    `json:"origin_access,omitempty"`

	// Ended makes the record a tombstone, which has no tokens.
	Ended *ending `json:"ended,omitempty"`

	access              // the session's own access token
	RefreshToken string `json:"refresh_token,omitempty"`

	// Derived are further access tokens of the session, by what they are for
	// (Target.String).
	Derived map[string]*access `json:"derived,omitempty"`

	// LoginIDToken is the ID token that the session began with, if Extra has a
	// newer one.
	LoginIDToken string `json:"login_id_token,omitempty"`

	// RefreshLife is the refresh token's own, and GrantLife that of what the
	// person has allowed, across all refreshes; nil: nothing is known of it.
	RefreshLife *span `json:"refresh_life,omitempty"`
	GrantLife   *span `json:"grant_life,omitempty"`

	Mark   *mark   `json:"mark,omitempty"`
	Pause  *pause  `json:"pause,omitempty"`
	Forced *forced `json:"forced,omitempty"`

	// TargetPauses are what attempts for targets alone have failed of, by what those
	// are for.
	TargetPauses map[string]*pause `json:"target_pauses,omitempty"`

	// Overtaken is when a refresh was interrupted whose refresh token the last
	// one then spent. Its request may still be under way: a server that gets to
	// it sees a token twice.
	Overtaken time.Time `json:"overtaken,omitzero"`

	// Padding makes a record with a mark at least as large as the one that
	// will replace it.
	Padding string `json:"padding,omitempty"`

	unknown map[string]json.RawMessage // members of a newer program
}

// A binding says to whom the tokens were issued, by whom, and under what name
// the program knows the session. It is part of the store key and repeated in
// the record.
type binding struct {
	Issuer   string `json:"issuer"` // Config.Issuer, else the token URL
	ClientID string `json:"client_id"`
	Session  string `json:"session"`
}

// key is the name of the session in the store. Each part is preceded by its
// length, so that different bindings never share a key.
func (b binding) key() string {
	return fmt.Sprintf(keyPrefix+"%d:%s/%d:%s/%d:%s",
		len(b.Issuer), b.Issuer, len(b.ClientID), b.ClientID, len(b.Session), b.Session)
}

const keyPrefix = "freshtoken/1/"

// parseKey is the inverse of key: it returns the binding of which s is the key.
// Any other string is not ours, and neither is the key of a session that no
// Config can have.
func parseKey(s string) (b binding, ok bool) {
	rest, ok := strings.CutPrefix(s, keyPrefix)
	for i, part := range []*string{&b.Issuer, &b.ClientID, &b.Session} {
		if i > 0 && ok {
			rest, ok = strings.CutPrefix(rest, "/")
		}
		length, tail, found := strings.Cut(rest, ":")
		n, err := strconv.Atoi(length)
		if !ok || !found || err != nil || n < 0 || n > len(tail) {
			return binding{}, false
		}
		*part, rest = tail[:n], tail[n:]
	}
	if b.key() != s || b.Session == "" || !utf8.ValidString(s) { // a length may have been written in another way
		return binding{}, false
	}
	return b, true
}

// An ending tells how a session came to its end.
type ending struct {
	At          time.Time `json:"at"`
	LoggedOut   bool      `json:"logged_out,omitempty"` // by Logout, and not because the server refused
	Never       bool      `json:"never,omitempty"`      // there was no session: somebody is about to log in
	Status      int       `json:"status,omitempty"`
	Code        string    `json:"code,omitempty"`
	Description string    `json:"description,omitempty"`
	Interrupted time.Time `json:"interrupted,omitzero"`
	Lapsed      time.Time `json:"lapsed,omitzero"` // see RefreshError.Lapsed
}

// absent reports whether e leaves nobody logged in, rather than somebody whose
// session was refused. A nil e does not.
func (e *ending) absent() bool { return e != nil && (e.LoggedOut || e.Never) }

// A mark is written before a refresh token is sent and goes with the answer.
// It means something only to the holder of the lock: that an earlier holder
// may have spent the token.
type mark struct {
	Digest string    `json:"digest"` // of the refresh token
	Nonce  string    `json:"nonce"`
	At     time.Time `json:"at"` // when it may have been spent first
}

// A pause keeps all processes from asking the server again too soon. It tells
// what the last answer was, so that each can say why.
type pause struct {
	From        time.Time `json:"from"`
	Until       time.Time `json:"until"`
	Failures    int       `json:"failures"` // in a row
	Class       class     `json:"class"`
	Status      int       `json:"status,omitempty"`
	Code        string    `json:"code,omitempty"`
	Description string    `json:"description,omitempty"`
}

// forced is what is left of the budget for refreshes that only a rejection by
// the API asked for.
type forced struct {
	Left int       `json:"left"`
	At   time.Time `json:"at"`
}

// members returns where the members go that are record's own, by name; any other
// is kept as it is.
func (r *record) members() map[string]any {
	return map[string]any{
		"version": &r.Version, "binding": &r.Binding, "id": &r.ID, "generation": &r.Generation, "started": &r.Started,
		"origin": &r.Origin, "origin_access": &r.OriginAccess, "ended": &r.Ended,
		"access_token": &r.AccessToken, "access_generation": &r.Brought, "refresh_token": &r.RefreshToken, "login_id_token": &r.LoginIDToken, "thumbprint": &r.Thumbprint,
		"issued": &r.Issued, "lifetime_ns": &r.Lifetime, "refresh_in_ns": &r.RefreshIn,
		"refresh_life": &r.RefreshLife, "grant_life": &r.GrantLife, "extra": &r.Extra, "derived": &r.Derived, "target_pauses": &r.TargetPauses,
		"mark": &r.Mark, "pause": &r.Pause, "forced": &r.Forced, "overtaken": &r.Overtaken, "padding": &r.Padding,
	}
}

var (
	errNewerRecord = errors.New("the stored session was written by a newer version of this program: update the program; nothing was changed")
	errBadRecord   = errors.New("the stored session is damaged: log in again, which sets it aside")
)

// encode returns the record as bytes for a Store.
func (r *record) encode() ([]byte, error) {
	known, err := json.Marshal((*plain)(r.kept()))
	if err != nil || len(r.unknown) == 0 {
		return known, err
	}
	all := maps.Clone(r.unknown)
	if err := json.Unmarshal(known, &all); err != nil {
		return nil, err
	}
	return json.Marshal(all)
}

// plain is a record without methods, for encoding/json.
type plain record

// decodeRecord reads what encode wrote. Errors hold nothing of the input, which
// may be a token.
func decodeRecord(data []byte) (*record, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil || all == nil {
		return nil, errBadRecord
	}
	var version int
	if err := json.Unmarshal(all["version"], &version); err != nil || version < 1 {
		return nil, errBadRecord
	}
	if version > recordVersion {
		return nil, errNewerRecord
	}
	// One by one: encoding/json ignores case where it fills in a struct, and only
	// the exact names are ours. What a struct costs when it is first met, a
	// program that starts would wait for.
	r := new(record)
	for name, member := range r.members() {
		if value, ok := all[name]; ok {
			if err := json.Unmarshal(value, member); err != nil {
				return nil, errBadRecord
			}
			delete(all, name)
		}
	}
	if r.ID == "" || r.Generation == 0 || (r.Ended == nil && r.AccessToken == "" && r.RefreshToken == "") {
		return nil, errBadRecord
	}
	if !r.clean() {
		return nil, errBadRecord
	}
	maps.DeleteFunc(r.TargetPauses, func(_ string, p *pause) bool { return p == nil })
	maps.DeleteFunc(r.Derived, func(_ string, a *access) bool { return a == nil || a.AccessToken == "" || !a.clean() })
	r.Padding = ""
	if len(all) > 0 {
		r.unknown = all
	}
	return r, nil
}

// with returns a copy of r that edit has changed.
func (r *record) with(edit func(*record)) *record {
	c := *r
	edit(&c)
	return &c
}

// loggedOut reports whether r, which may be nil, is the note that Logout left.
func (r *record) loggedOut() bool { return r != nil && r.Ended != nil && r.Ended.LoggedOut }

// tombstone returns the record that stays when the session is over. It has no
// tokens, but knows those of the login if it sees them, and none of the members of
// a newer program, which may be secrets.
func (r *record) tombstone(e ending) *record {
	return &record{Version: recordVersion, Binding: r.Binding, ID: r.ID, Generation: r.Generation, Started: r.Started,
		Origin: r.Origin, OriginAccess: r.OriginAccess, Ended: &e}
}

// loggedOutAt is the tombstone of a session that Logout ends at a time.
func (r *record) loggedOutAt(now time.Time) *record {
	return r.tombstone(ending{At: now.UTC().Truncate(time.Second), LoggedOut: true})
}

// newAccess is the room for an access token of a kind that the session has had none
// of yet.
const newAccess = 4 << 10

// marked returns r with a mark for its refresh token, padded so that what a refresh
// for the target brings has room. The time of an earlier mark for the same token is
// kept: that is when it may have been spent.
func (r *record) marked(now time.Time, target string) *record {
	m := &mark{Digest: digest(r.RefreshToken), Nonce: rand.Text(), At: now.UTC().Truncate(time.Second)}
	if at := r.interrupted(); !at.IsZero() {
		m.At = at
	}
	room := 1024 + len(r.RefreshToken) + len(r.Extra["id_token"])
	if a := r.of(target); a != nil {
		room += len(a.AccessToken)
	} else if target != "" {
		room += newAccess
	}
	return r.with(func(c *record) { c.Mark, c.Padding = m, strings.Repeat(".", room) })
}

// interrupted returns when a refresh with r's refresh token began of which
// nobody knows how it went; zero if there is none.
func (r *record) interrupted() time.Time {
	if r.Mark == nil || r.RefreshToken == "" || r.Mark.Digest != digest(r.RefreshToken) {
		return time.Time{}
	}
	return r.Mark.At
}

// suspect returns when a refresh was interrupted to which the server may owe a
// refusal of r's refresh token; zero if there is none.
func (r *record) suspect() time.Time {
	if at := r.interrupted(); !at.IsZero() {
		return at
	}
	return r.Overtaken
}

// isFrom reports whether r goes back to the login whose record is handed in. A
// server that does not rotate may answer a new login with the refresh token that
// r has, but hardly with the same access token.
func (r *record) isFrom(login *record) bool {
	renewed := r.RefreshToken == login.RefreshToken && login.OriginAccess != "" && login.OriginAccess != r.OriginAccess
	return r.Ended == nil && login.Ended == nil && r.Origin != "" && r.Origin == login.Origin && !renewed
}

// under returns r as the session of a login that goes back to the same tokens: a
// Logout of the one before is not about that.
func (r *record) under(login *record) *record {
	return r.with(func(c *record) { c.ID, c.Started = login.ID, login.Started })
}

// credential returns what the session's next refresh rests on.
func (r *record) credential() string {
	if r.RefreshToken != "" {
		return r.RefreshToken
	}
	return r.AccessToken
}

// sameTokens reports whether two records, either of which may be nil, hold the
// same state of the same session, as far as that is stored.
func (r *record) sameTokens(o *record) bool {
	if r == nil || o == nil {
		return r == o
	}
	return r.ID == o.ID && r.Generation == o.Generation && r.AccessToken == o.AccessToken &&
		r.RefreshToken == o.RefreshToken && maps.EqualFunc(r.kept().Derived, o.kept().Derived, (*access).same) && (r.Ended == nil) == (o.Ended == nil) &&
		(r.Ended == nil || r.Ended.LoggedOut == o.Ended.LoggedOut)
}

func digest(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// What to do with what the store holds, seen from what the program has.
type verdict int

const (
	believe verdict = iota // the store is right
	keep                   // ours goes on
	gone                   // nobody is logged in any more
)

// reconcile decides between ours, which may be nil, and stored, which is nil if
// there is none. saved says whether ours has ever been in the store.
func reconcile(ours *record, saved bool, stored *record) verdict {
	switch {
	case ours == nil && stored == nil:
		return gone
	case ours == nil:
		return believe
	case stored == nil:
		if saved {
			return gone // logged out by somebody who left no tombstone
		}
		return keep
	case stored.ID != ours.ID:
		if saved {
			return believe // logged out and in again elsewhere
		}
		if stored.isFrom(ours) && stored.Generation >= ours.Generation {
			return believe // no new login: this one was handed in again while the store could not be read
		}
		if stored.Started.After(ours.Started) {
			return believe // a later login elsewhere, or one that has ended
		}
		return keep // a login that has not been saved yet
	case stored.Ended != nil:
		return believe
	case ours.loggedOut():
		return keep // a restored backup, perhaps refreshed since: only a login, whose ID is another one, undoes a Logout
	case stored.Generation > ours.Generation:
		return believe
	case stored.Generation < ours.Generation:
		return keep // a restored backup, or ours is not saved yet
	case !saved:
		return keep
	default:
		return believe // the same, or a fork: one of the two must win for all
	}
}
