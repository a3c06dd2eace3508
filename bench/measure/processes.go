package measure

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/freshtoken/freshtoken/bench/peers"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// Processes measures what becomes of one stored session that eight processes
// share, with a server that ends it when a spent refresh token is shown.
var Processes = Measure{
	Name: "processes",
	Doc:  "eight processes on one stored session",
	Run:  processes,
}

const (
	processCount = 8

	// answerTime is how long the token endpoint takes.
	answerTime = 100 * time.Millisecond

	// childPatience bounds how much longer than its work a process may take,
	// from its start to its report.
	childPatience = time.Minute
)

func processes(ctx context.Context, o Options) ([]Result, error) {
	// A refresh is due every two seconds: by a lead of two, where the library
	// knows leads.
	j := job{Lifetime: 4 * time.Second, Lead: 2 * time.Second, Work: 8 * time.Second, Callers: 10, Pace: 50 * time.Millisecond}
	if o.Smoke {
		j.Lifetime, j.Lead, j.Work, j.Callers = 2*time.Second, time.Second, 2*time.Second, 3
	}
	var results []Result
	for _, p := range o.Peers {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !p.Stores {
			results = append(results, Result{Measure: "processes", Peer: p.Name, Note: "It stores nothing."})
			continue
		}
		r, err := share(ctx, p, j, o.Logf)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// share has eight processes share one session of a peer. All find an access
// token that has expired, and begin at once.
func share(ctx context.Context, p peers.Peer, j job, logf func(string, ...any)) (Result, error) {
	d, remove, err := newDisk()
	if err != nil {
		return Result{}, err
	}
	defer remove()
	server := oauthtest.New(oauthtest.Options{AccessLifetime: j.Lifetime})
	defer server.Start()()
	server.Token.Always(oauthtest.Fault{Name: "slow", Delay: answerTime})
	j.Peer, j.Dir = p.Name, d.path
	j.TokenURL, j.Origin = server.TokenURL(), server.BaseURL()
	if err := logIn(p, j, server); err != nil {
		return Result{}, err
	}

	ctx, cancel := context.WithTimeout(ctx, j.Work+childPatience)
	defer cancel()
	var children []*child
	defer func() {
		for _, c := range children {
			c.end()
		}
	}()
	for range processCount {
		c, err := startChild(ctx, j)
		if err != nil {
			return Result{}, err
		}
		children = append(children, c)
	}
	reports, err := work(children)
	if err != nil {
		return Result{}, err
	}
	if i := slices.IndexFunc(reports, func(r report) bool { return r.Trouble != "" }); i >= 0 {
		logf("processes: %s: process %d met first: %s", p.Name, i+1, reports[i].Trouble)
	}
	return fate(p.Name, server.Stats(), reports), nil
}

// logIn stores the session, as a program does that has just logged in.
func logIn(p peers.Peer, j job, server *oauthtest.Server) error {
	setup := j.setup()
	setup.Token = server.Login("alice")
	setup.Token.Expiry = time.Now()
	setup.Token.ExpiresIn = 0
	s, err := p.Open(setup)
	if err != nil {
		return err
	}
	if s.Close == nil {
		return nil
	}
	return s.Close()
}

// work lets all children begin once all are ready, and returns what they report.
func work(children []*child) ([]report, error) {
	for _, c := range children {
		if _, err := c.hear(); err != nil {
			return nil, err
		}
	}
	for _, c := range children {
		if _, err := io.WriteString(c.stdin, "\n"); err != nil {
			return nil, c.failed(err)
		}
	}
	var reports []report
	for _, c := range children {
		line, err := c.hear()
		if err != nil {
			return nil, err
		}
		var r report
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, c.failed(err)
		}
		reports = append(reports, r)
	}
	return reports, nil
}

// fate sums up.
func fate(peer string, s oauthtest.Stats, reports []report) Result {
	r := Result{Measure: "processes", Peer: peer, Words: map[string]string{"family": "yes"}, Series: map[string][]Point{}}
	served, failed := 0, 0
	for i, rep := range reports {
		var points []Point
		for slot, n := range rep.Served {
			served += n
			points = append(points, Point{float64(slot) * slotTime.Seconds(), float64(n)})
		}
		for _, n := range rep.Failed {
			failed += n
		}
		r.Series[fmt.Sprint("process ", i+1)] = points
	}
	if s.FamilyKills > 0 {
		r.Words["family"] = "no"
	}
	r.Values = map[string]float64{
		"rotations.count":     float64(s.Refreshes),
		"reuses.count":        float64(s.Reuses),
		"invalid_grant.count": float64(s.InvalidGrants),
		"failed.count":        float64(failed),
		"calls.count":         float64(served + failed),
	}
	return r
}

// A child is a process that works on the session, seen from outside.
type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr bytes.Buffer // complete once the process has been waited for
}

// startChild starts this program again, as a child. It dies with ctx.
func startChild(ctx context.Context, j job) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	order, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	c := &child{cmd: exec.CommandContext(ctx, self)}
	c.cmd.Env = append(os.Environ(), childEnv+"="+string(order))
	c.cmd.Stderr = &c.stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.stdout = bufio.NewReader(stdout)
	return c, c.cmd.Start()
}

// hear returns the next line that the child says.
func (c *child) hear() ([]byte, error) {
	line, err := c.stdout.ReadBytes('\n')
	if err != nil {
		return nil, c.failed(err)
	}
	return line, nil
}

// failed ends the child, and says why.
func (c *child) failed(err error) error {
	c.end()
	return fmt.Errorf("a process: %w: %s", err, bytes.TrimSpace(c.stderr.Bytes()))
}

// end ends the child, which has nothing left to do. It may be called twice.
func (c *child) end() {
	c.stdin.Close()
	var exit *exec.ExitError
	if err := c.cmd.Wait(); errors.As(err, &exit) {
		c.stderr.WriteString(exit.String())
	}
}
