package main

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/dexidp/dex/storage"
)

// counts are what the server has seen, as ../harness.mjs counts it. Of the
// refresh tokens that Dex refuses it does not say which were spent.
type counts struct {
	TokenRequests  int `json:"tokenRequests"`
	Refreshes      int `json:"refreshes"`
	InvalidGrants  int `json:"invalidGrants"` // refused refresh tokens, whatever the code
	InvalidClients int `json:"invalidClients"`
	API            int `json:"api"` // requests to userinfo,
	APIRejected    int `json:"apiRejected"`
}

// doors are Dex and its back doors.
type doors struct {
	dex     http.Handler
	storage storage.Storage
	clock   *clock

	mu     sync.Mutex // guards counts
	counts counts
}

func (d *doors) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if door, ok := strings.CutPrefix(r.URL.Path, "/control/"); ok {
		d.control(w, r, door)
		return
	}
	r.ParseForm() // for what is counted; Dex does it again, and says what is wrong
	a := &answer{ResponseWriter: w, status: http.StatusOK}
	d.dex.ServeHTTP(a, r)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch r.URL.Path {
	case "/token":
		d.counts.TokenRequests++
		switch refresh := r.PostForm.Get("grant_type") == "refresh_token"; {
		case a.status == http.StatusUnauthorized:
			d.counts.InvalidClients++
		case refresh && a.status == http.StatusOK:
			d.counts.Refreshes++
		case refresh:
			d.counts.InvalidGrants++
		}
	case "/userinfo":
		d.counts.API++
		if a.status != http.StatusOK {
			d.counts.APIRejected++
		}
	}
}

func (d *doors) control(w http.ResponseWriter, r *http.Request, door string) {
	var said any = struct{}{}
	var err error
	switch door {
	case "counts":
		d.mu.Lock()
		said = d.counts
		d.mu.Unlock()
	case "end": // as an administrator does
		err = d.end(r)
	case "pass":
		var n int
		if n, err = strconv.Atoi(r.FormValue("seconds")); err == nil {
			d.clock.pass(seconds(n))
		}
	default:
		http.NotFound(w, r)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(said)
}

// end revokes all refresh tokens, which are those of alice.
func (d *doors) end(r *http.Request) error {
	all, err := d.storage.ListRefreshTokens(r.Context())
	if err != nil {
		return err
	}
	for _, t := range all {
		err := d.storage.UpdateOfflineSessions(r.Context(), t.Claims.UserID, t.ConnectorID,
			func(s storage.OfflineSessions) (storage.OfflineSessions, error) {
				delete(s.Refresh, t.ClientID)
				return s, nil
			})
		if err != nil {
			return err
		}
		if err := d.storage.DeleteRefresh(r.Context(), t.ID); err != nil {
			return err
		}
	}
	return nil
}

// An answer remembers its status.
type answer struct {
	http.ResponseWriter
	status int
}

func (a *answer) WriteHeader(status int) {
	a.status = status
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
