package measure

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/freshtoken/freshtoken/bench/peers"
	"golang.org/x/oauth2"
)

// childEnv, in the environment of this program, holds the job of a child.
const childEnv = "FRESHTOKEN_BENCH_CHILD"

// A job is what a child is to do: open a session that is stored, and ask for a
// token again and again.
type job struct {
	Peer             string
	Dir              string // where the session is
	TokenURL, Origin string

	Lifetime time.Duration // of access tokens
	Lead     time.Duration

	Work    time.Duration // how long it goes on
	Callers int           // how many goroutines ask
	Pace    time.Duration // how often each of them does
}

func (j job) setup() peers.Setup {
	// As many connections as there are callers.
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = max(j.Callers, 1)
	return peers.Setup{
		OAuth2: &oauth2.Config{ClientID: "client", Endpoint: oauth2.Endpoint{TokenURL: j.TokenURL, AuthStyle: oauth2.AuthStyleInParams}},
		HTTP:   &http.Client{Transport: t, Timeout: callTime},
		Base:   t, Origin: j.Origin, Lead: j.Lead, Dir: j.Dir,
	}
}

const (
	// slotTime is what calls are counted by.
	slotTime = 500 * time.Millisecond

	// callTime bounds each call. Who has not returned some time later counts as
	// failed.
	callTime = 20 * time.Second
	lateTime = 2 * time.Second
)

// A report is what came of a job: how many calls began in each slot and were
// served, or failed.
type report struct {
	Served, Failed []int
	Trouble        string // the first error
}

// Child is to be called first by a program that makes measures. If the program
// has been started to be one of the processes of a measure, Child is all that
// it does, and does not return.
func Child() {
	order := os.Getenv(childEnv)
	if order == "" {
		return
	}
	log.SetFlags(0)
	var j job
	if err := json.Unmarshal([]byte(order), &j); err != nil {
		log.Fatal(err)
	}
	if err := j.obey(); err != nil {
		log.Fatal(err)
	}
	os.Exit(0)
}

// obey says that it is ready, begins when it is told to, and reports.
func (j job) obey() error {
	var token func(context.Context) (string, error)
	for _, p := range peers.All() {
		if p.Name == j.Peer {
			s, err := p.Open(j.setup())
			if err != nil {
				return err
			}
			if s.Close != nil {
				defer s.Close()
			}
			token = s.Token
		}
	}
	if token == nil {
		return errors.New("no such peer, or none with a token: " + j.Peer)
	}
	os.Stdout.WriteString("ready\n")
	stdin := bufio.NewReader(os.Stdin)
	if _, err := stdin.ReadString('\n'); err != nil {
		return err
	}
	go func() { // it does not outlive its parent
		io.Copy(io.Discard, stdin)
		os.Exit(1)
	}()
	return json.NewEncoder(os.Stdout).Encode(j.call(token))
}

// call has all callers ask for tokens.
func (j job) call(token func(context.Context) (string, error)) report {
	var mu sync.Mutex // guards r and waiting
	slots := int((j.Work + slotTime - 1) / slotTime)
	r := report{Served: make([]int, slots), Failed: make([]int, slots)}
	waiting := make([]int, slots)
	start := time.Now()
	ask := func(slot int) {
		mu.Lock()
		waiting[slot]++
		mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), callTime)
		defer cancel()
		_, err := token(ctx)
		mu.Lock()
		defer mu.Unlock()
		waiting[slot]--
		if err == nil {
			r.Served[slot]++
			return
		}
		r.Failed[slot]++
		if r.Trouble == "" {
			r.Trouble = err.Error()
		}
	}
	var all sync.WaitGroup
	for range j.Callers {
		all.Go(func() {
			tick := time.NewTicker(j.Pace)
			defer tick.Stop()
			for at := time.Since(start); at < j.Work; at = time.Since(start) {
				ask(int(at / slotTime))
				<-tick.C
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(j.Work + callTime + lateTime):
	}
	mu.Lock()
	defer mu.Unlock()
	// What has not returned by now goes on with a report that nobody reads.
	out := report{append([]int{}, r.Served...), append([]int{}, r.Failed...), r.Trouble}
	for slot, n := range waiting {
		out.Failed[slot] += n
	}
	return out
}
