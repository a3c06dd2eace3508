package freshtoken

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func sample() *record {
	return &record{Version: 1, Binding: binding{"https://as.test", "client", "alice"}, ID: "id", Generation: 3,
		Origin: "origin", RefreshToken: "rt",
		access: access{AccessToken: "at", Issued: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC),
			Lifetime: time.Hour, Extra: map[string]json.RawMessage{"scope": json.RawMessage(`"a b"`)}}}
}

func TestRecordRoundTrip(t *testing.T) {
	full := sample().marked(time.Now(), "")
	full.Pause = &pause{From: full.Issued, Until: full.Issued, Failures: 2, Class: classUnknown, Status: 500, Code: "c", Description: "d"}
	full.Forced = &forced{Left: 2, At: full.Issued}
	full.Derived = map[string]*access{"scope=a": {AccessToken: "at-a", Issued: full.Issued, Lifetime: time.Minute}}
	for _, r := range []*record{sample(), full, sample().tombstone(ending{At: full.Issued, Code: "invalid_grant", Status: 400})} {
		data, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeRecord(data)
		if err != nil {
			t.Fatal(err)
		}
		want := *r
		want.Padding = ""
		if !reflect.DeepEqual(*got, want) {
			t.Errorf("got  %#v\nwant %#v", *got, want)
		}
	}
}

// Every field of a record is among the members, each under its own name: it would
// be taken for one of a newer program otherwise, and survive its own removal.
func TestMembersAreComplete(t *testing.T) {
	r := new(record)
	members, fields := r.members(), reflect.ValueOf(r).Elem()
	count := 0
	for _, f := range reflect.VisibleFields(fields.Type()) {
		if !f.IsExported() {
			continue
		}
		count++
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if members[name] != fields.FieldByIndex(f.Index).Addr().Interface() {
			t.Errorf("members has another thing for %q than %s", name, f.Name)
		}
	}
	if len(members) != count {
		t.Errorf("there are %d members for %d fields", len(members), count)
	}
}

func TestRecordOfANewerProgram(t *testing.T) {
	data, _ := sample().encode()
	t.Run("unknown members survive", func(t *testing.T) {
		newer := strings.Replace(string(data), "{", `{"dpop_key":{"kty":"EC"},"Access_Token":"evil",`, 1)
		r, err := decodeRecord([]byte(newer))
		if err != nil {
			t.Fatal(err)
		}
		if r.AccessToken != "at" {
			t.Errorf("the access token is %q: names were compared without case", r.AccessToken)
		}
		for _, rewritten := range []*record{r.marked(time.Now(), ""), r.next(grant{access: "new"}, time.Now(), "")} {
			again, _ := rewritten.encode()
			if !strings.Contains(string(again), `"dpop_key":{"kty":"EC"}`) {
				t.Errorf("lost in %s", again)
			}
		}
	})
	t.Run("none survives the session", func(t *testing.T) {
		r, err := decodeRecord([]byte(strings.Replace(string(data), "{", `{"dpop_key":{"kty":"EC"},`, 1)))
		if err != nil {
			t.Fatal(err)
		}
		if tomb, _ := r.tombstone(ending{}).encode(); strings.Contains(string(tomb), "dpop_key") {
			t.Errorf("left: %s", tomb)
		}
	})
	t.Run("a newer version is refused", func(t *testing.T) {
		newer := strings.Replace(string(data), `"version":1`, `"version":2`, 1)
		if _, err := decodeRecord([]byte(newer)); !errors.Is(err, errNewerRecord) {
			t.Errorf("got %v", err)
		}
	})
}

func TestDamagedRecords(t *testing.T) {
	data, _ := sample().encode()
	for _, bad := range []string{"", "{", "null", "[]", "12", `{"version":0}`, `{"version":"1"}`, `{"version":1}`,
		string(data[:len(data)/2]),
		strings.Replace(string(data), `"generation":3`, `"generation":0`, 1),
		strings.Replace(string(data), `"generation":3`, `"generation":-1`, 1),
		strings.Replace(string(data), `"at"`, `"a\r\nt"`, 1),
		strings.Replace(string(data), `"id":"id"`, `"id":""`, 1),
	} {
		_, err := decodeRecord([]byte(bad))
		if !isDamaged(err) {
			t.Errorf("%s: got %v, want a damaged record", bad, err)
		} else if strings.Contains(err.Error(), "at") && strings.Contains(err.Error(), bad) && bad != "" {
			t.Errorf("the error shows the record: %v", err)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	data, _ := sample().marked(time.Now(), "").encode()
	f.Add(data)
	f.Add([]byte(`{"version":1,"id":"x","generation":1,"access_token":"a","lifetime_ns":-5,"issued":"9999-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRecord(data)
		if err != nil {
			return
		}
		again, err := r.encode()
		if err != nil {
			t.Fatalf("a record that was read cannot be written: %v", err)
		}
		r2, err := decodeRecord(again)
		if err != nil || !r.sameTokens(r2) {
			t.Fatalf("a rewrite changed the record: %v", err)
		}
		if r.Lifetime < 0 {
			t.Errorf("lifetime %v", r.Lifetime)
		}
	})
}

// ST-key: accounts of the same client at two servers never share a key, nor do
// names that run into each other.
func TestStoreKeys(t *testing.T) {
	t.Run("ST-key bindings never share a key", func(t *testing.T) {
		seen := make(map[string]binding)
		parts := []string{"", "a", "b", "ab", "a/1:b", "1:a", "a/", "/", "A", "a\x00"}
		for _, issuer := range parts {
			for _, client := range parts {
				for _, session := range parts {
					b := binding{issuer, client, session}
					if other, ok := seen[b.key()]; ok {
						t.Errorf("%q and %q share %q", b, other, b.key())
					}
					seen[b.key()] = b
				}
			}
		}
	})
}

func TestParseKey(t *testing.T) {
	good := binding{"https://as.test", "client", "alice@example.com/ü:1"}
	if b, ok := parseKey(good.key()); !ok || b != good {
		t.Errorf("got %q, %v", b, ok)
	}
	for _, bad := range []string{"", "x", keyPrefix, "freshtoken/1/1:a/1:b", "freshtoken/2/1:a/1:b/1:c", "freshtoken/1/1:a/1:b/1:c/",
		"freshtoken/1/1:a/1:b/01:c", "freshtoken/1/1:a/1:b/+1:c", "freshtoken/1/1:a/1:b/-1:c", "freshtoken/1/1:a/1:b/2:c", "freshtoken/1/1:a/1:b/1:cc",
		"freshtoken/1/1:a1:b/1:c", "freshtoken/1/1:a//1:b/1:c", "freshtoken/1/1:a/1:b/0:", "freshtoken/1/1:a/1:b/1:\xff", "Freshtoken/1/1:a/1:b/1:c",
		" freshtoken/1/1:a/1:b/1:c", "freshtoken/1/99999999999999999999:a/1:b/1:c", "freshtoken/1/1 :a/1:b/1:c"} {
		if b, ok := parseKey(bad); ok {
			t.Errorf("%q is taken for the key of %q", bad, b)
		}
	}
}

// parseKey is the inverse of key, and of nothing else.
func FuzzParseKey(f *testing.F) {
	f.Add("https://as.test/token", "client", "default", "freshtoken/1/1:a/1:b/1:c")
	f.Add("", "", "a/1:b", "freshtoken/1/0:/0:/3:a/1")
	f.Add("1:", "/", "\x00", "freshtoken/1/2:1:/1:x/01:y")
	f.Fuzz(func(t *testing.T, issuer, client, session, other string) {
		b := binding{issuer, client, session}
		if got, ok := parseKey(b.key()); ok && got != b {
			t.Errorf("%q became %q", b, got)
		} else if valid := session != "" && utf8.ValidString(issuer) && utf8.ValidString(client) && utf8.ValidString(session); valid != ok {
			t.Errorf("%q: taken for ours: %v", b, ok)
		}
		if got, ok := parseKey(other); ok && got.key() != other {
			t.Errorf("%q was read as the key %q", other, got.key())
		}
	})
}

func TestReconcile(t *testing.T) {
	ours := sample()
	newer := ours.next(grant{access: "at2", refresh: "rt2"}, time.Now(), "")
	fork := ours.with(func(r *record) { r.RefreshToken = "other" })
	other := ours.with(func(r *record) { r.ID, r.Origin = "other login", "other" })
	again := ours.with(func(r *record) { r.ID = "the same login, handed in again" })
	tomb := ours.tombstone(ending{LoggedOut: true})
	for _, tt := range []struct {
		name         string
		ours, stored *record
		saved        bool
		want         verdict
	}{
		{"nothing anywhere", nil, nil, true, gone},
		{"first look", nil, ours, true, believe},
		{"first look at a tombstone", nil, tomb, true, believe},
		{"logged out elsewhere without a trace", ours, nil, true, gone},
		{"a login that was never saved", ours, nil, false, keep},
		{"logged out elsewhere", ours, tomb, true, believe},
		{"logged out elsewhere while ours was not saved", newer, tomb, false, believe},
		{"logged in again elsewhere", ours, other, true, believe},
		{"an older login, ours was never saved", ours, other, false, keep},
		{"a tombstone of an older login, ours was never saved", ours, other.tombstone(ending{}), false, keep},
		{"the stored login handed in again, and never saved", again, newer, false, believe},
		{"a login handed in again after it was over", again, tomb, false, keep},
		{"the same", ours, ours, true, believe},
		{"refreshed elsewhere", ours, newer, true, believe},
		{"refreshed elsewhere, ours not saved", ours, newer, false, believe},
		{"a restored backup", newer, ours, true, keep},
		{"the parent of what was not saved", newer, ours, false, keep},
		{"a fork: the stored one wins", ours, fork, true, believe},
		{"a fork, ours not saved", ours, fork, false, keep},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := reconcile(tt.ours, tt.saved, tt.stored); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// What an answer leaves out stays, but for lifetimes.
func TestNext(t *testing.T) {
	old := sample()
	old.Extra = map[string]json.RawMessage{"scope": json.RawMessage(`"a b"`), "id_token": json.RawMessage(`"x"`),
		"refresh_token_expires_in": json.RawMessage(`60`)}
	start := time.Now()
	t.Run("R6749-6-keep omitted members stay", func(t *testing.T) {
		n := old.next(grant{access: "new"}, start, "")
		if n.RefreshToken != "rt" || string(n.Extra["scope"]) != `"a b"` || string(n.Extra["refresh_token_expires_in"]) != "60" {
			t.Errorf("got %+v", n)
		}
		if n.Lifetime != 0 || n.Generation != 4 || n.Mark != nil {
			t.Errorf("lifetime %v, generation %d", n.Lifetime, n.Generation)
		}
	})
	t.Run("the refresh token's lifetime goes with it", func(t *testing.T) {
		n := old.next(grant{access: "new", refresh: "rt2"}, start, "")
		if _, ok := n.Extra["refresh_token_expires_in"]; ok || n.RefreshToken != "rt2" {
			t.Errorf("got %+v", n)
		}
	})
	t.Run("R6749-5.1-scope a narrower scope replaces the old", func(t *testing.T) {
		n := old.next(grant{access: "new", extra: map[string]json.RawMessage{"scope": json.RawMessage(`"a"`)}}, start, "")
		if string(n.Extra["scope"]) != `"a"` || string(old.Extra["scope"]) != `"a b"` {
			t.Errorf("got %s, and the old record has %s", n.Extra["scope"], old.Extra["scope"])
		}
	})
}

func TestMark(t *testing.T) {
	first := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	r := sample()
	if !r.interrupted().IsZero() {
		t.Error("interrupted without a mark")
	}
	m := r.marked(first, "").marked(first.Add(time.Hour), "")
	if m.interrupted() != first {
		t.Errorf("interrupted at %v, want the first time", m.interrupted())
	}
	m.RefreshToken = "another"
	if !m.interrupted().IsZero() {
		t.Error("the mark of another refresh token counts")
	}
	small, _ := r.next(grant{access: strings.Repeat("a", 3), refresh: "bb"}, first, "").encode()
	big, _ := r.marked(first, "").encode()
	if len(big) < len(small)+512 {
		t.Errorf("a marked record has %d bytes, the next one %d: a full disk may show too late", len(big), len(small))
	}
}
