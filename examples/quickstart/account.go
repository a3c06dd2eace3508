package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// An account is what a person reads: on a terminal a line that changes in
// place, elsewhere a line a second.
type account struct {
	out   io.Writer
	live  bool
	start time.Time
	last  time.Time
	width int // of the line that is on the terminal and not ended
}

func newAccount(out io.Writer) *account {
	a := &account{out: out, start: time.Now()}
	if f, ok := out.(*os.File); ok {
		info, err := f.Stat()
		a.live = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return a
}

// say prints a line that stays.
func (a *account) say(format string, args ...any) {
	a.wipe()
	fmt.Fprintf(a.out, format+"\n", args...)
}

func (a *account) wipe() {
	if a.width > 0 {
		fmt.Fprintf(a.out, "\r%*s\r", a.width, "")
		a.width = 0
	}
}

// progress tells how far it is. final is the last word of a stretch.
func (a *account) progress(t tally, final bool) {
	now := time.Now()
	if !a.live && !final && now.Sub(a.last) < time.Second {
		return
	}
	a.last = now
	line := fmt.Sprintf("%5.1fs  %s requests  %s refreshes  %s adopted  %s replays  %s lost", now.Sub(a.start).Seconds(),
		column(t.requests(), 6), column(t.Refreshed, 2), column(t.Adopted, 3), column(t.Replayed, 3), column(t.lost(), 1))
	a.wipe()
	if !a.live || final {
		fmt.Fprintln(a.out, line)
		return
	}
	fmt.Fprint(a.out, line)
	a.width = len(line)
}

// summary ends the account. It reports whether anything was lost.
func (r *show) summary() (lost bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also after Ctrl-C
	defer cancel()
	generation, err := r.prove(ctx)
	t := r.sum()
	trouble := r.troubles(generation, err)

	r.account.say("\nSummary")
	row := func(n int, name, text string) { r.account.say("%s  %-10s %s", column(n, 8), name, text) }
	row(t.requests(), "requests", fmt.Sprintf("%s GET, %s POST with a body", column(t.Gets, 0), column(t.Posts, 0)))
	if r.demo != nil {
		row(r.demo.srv.Stats().Refreshes, "refreshes", "by whichever program came first; the last one proved that what is stored serves")
	} else {
		row(t.Refreshed, "refreshes", "by whichever program came first")
	}
	row(t.Adopted, "adopted", "tokens that another program had got")
	row(t.Replayed, "replays", "requests with a dead token, sent again with a new one")
	if r.demo != nil {
		row(r.demo.newest()-1, "rotations", fmt.Sprintf("of the refresh token; the store holds number %d, the server's newest is %d", generation, r.demo.newest()))
	} else if generation > 0 {
		row(int(generation)-1, "rotations", "since the login, as far as the store knows")
	}
	row(t.lost(), "lost", "requests that failed, got a 401 or arrived damaged")
	for _, line := range trouble {
		r.account.say("LOST: %s", line)
	}
	if len(trouble) == 0 {
		r.account.say("Nothing was lost, and the session is alive.")
	}
	return len(trouble) > 0
}

// troubles lists what went wrong: for the programs, for the session, for the
// server.
func (r *show) troubles(generation uint64, proof error) (list []string) {
	t := r.sum()
	if t.lost() > 0 {
		list = append(list, fmt.Sprintf("%d requests: %d failed, %d got a 401, %d arrived damaged; the first: %s",
			t.lost(), t.Failed, t.Rejected, t.Damaged, t.Trouble))
	}
	if t.requests() == 0 {
		list = append(list, "no request was answered")
	}
	if proof != nil {
		list = append(list, fmt.Sprintf("the stored session does not serve: %v", proof))
	}
	if r.demo == nil {
		return list
	}
	if newest := r.demo.newest(); generation != uint64(newest) {
		list = append(list, fmt.Sprintf("the store holds refresh token number %d, the server's newest is %d", generation, newest))
	}
	return append(list, r.demo.complaints(t.requests())...)
}

// column is a number with commas, in at least that many places.
func column(n, width int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return strings.Repeat(" ", max(width-len(s), 0)) + s
}
