package freshtoken

import (
	"fmt"
	"testing"
	"time"
)

// What a program takes over of a record that it meets, and what of its own it
// keeps.
func TestMet(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 0, 0, 0, time.UTC)
	token := func(name string, brought uint64) *access {
		return &access{AccessToken: name, Brought: brought, Issued: now.Add(time.Duration(brought) * time.Second), Lifetime: time.Hour}
	}
	sessionOf := func(own *access, derived map[string]*access) *record {
		return &record{ID: "id", Generation: 5, RefreshToken: "rt", access: *own, Derived: derived}
	}
	many := func(n int) map[string]*access {
		all := make(map[string]*access)
		for i := range n {
			all[fmt.Sprint(i)] = token(fmt.Sprint("at-", i), 2)
		}
		return all
	}
	began := now.Add(-time.Minute)
	known := sessionOf(token("own-3", 3), map[string]*access{"a": token("a-4", 4), "b": token("b-2", 2)})
	known.base, known.Derived["b"].base = began, began
	other := known.with(func(r *record) { r.ID = "other" })
	crowded := sessionOf(token("own-3", 3), many(maxDerived))
	for _, tt := range []struct {
		name          string
		stored, known *record
		target, want  string // empty: none
		old           bool   // whether its age counts from before
	}{
		{"nothing is known", sessionOf(token("own-3", 3), nil), nil, "", "own-3", false},
		{"the same", sessionOf(token("own-3", 3), nil), known, "", "own-3", true},
		{"a newer one", sessionOf(token("own-5", 5), nil), known, "", "own-5", false},
		{"an older one", sessionOf(token("own-2", 2), nil), known, "", "own-3", true},
		{"an older one of another session", sessionOf(token("own-2", 2), nil), other, "", "own-2", false},
		{"none, since it was rejected", sessionOf(&access{}, nil), known, "", "", false},
		{"for a target, the same", sessionOf(token("own-3", 3), map[string]*access{"b": token("b-2", 2)}), known, "b", "b-2", true},
		{"for a target, a newer one", sessionOf(token("own-3", 3), map[string]*access{"a": token("a-5", 5)}), known, "a", "a-5", false},
		{"for a target, an older one", sessionOf(token("own-3", 3), map[string]*access{"a": token("a-3", 3)}), known, "a", "a-4", false},
		{"for a target, none, since it was rejected", sessionOf(token("own-3", 3), nil), known, "a", "", false},
		{"for a target, none, since there is no room", crowded, known, "a", "a-4", false},
		{"for a target, as many, and another session", crowded, other, "a", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			met := tt.stored.met(tt.known, now)
			a := met.of(tt.target)
			switch {
			case a == nil && tt.want == "":
			case a == nil || a.AccessToken != tt.want:
				t.Errorf("got %+v, want %q", a, tt.want)
			case tt.old != a.base.Equal(began):
				t.Errorf("its age counts from %v", a.base)
			}
			if tt.stored.base != (time.Time{}) || len(tt.stored.Derived) > 0 && tt.stored.Derived["a"] != nil && !tt.stored.Derived["a"].base.IsZero() {
				t.Error("what was read has changed")
			}
			if stored := met.kept(); len(stored.Derived) > maxDerived {
				t.Errorf("%d would be stored", len(stored.Derived))
			}
		})
	}
}
