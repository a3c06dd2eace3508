package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"time"
)

// beat is how often a process reports.
const beat = 200 * time.Millisecond

// runChild is a process that another one has started. It ends after its time,
// or when its standard input ends, because the other one has ended. Its reports
// are JSON, one to a line.
func runChild(o *options, in io.Reader, out, errOut io.Writer) int {
	signal.Ignore(os.Interrupt) // the parent closes in
	ctx, cancel := context.WithTimeout(context.Background(), o.duration)
	defer cancel()
	go func() {
		io.Copy(io.Discard, in)
		cancel()
	}()
	w := &worker{o: o}
	done := make(chan error, 1)
	go func() { done <- w.work(ctx) }()
	reports := json.NewEncoder(out)
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case err := <-done:
			reports.Encode(w.counts())
			if err != nil {
				fmt.Fprintf(errOut, "quickstart: process %d: %v\n", o.child, err)
				return 1
			}
			return 0
		case <-ticker.C:
			reports.Encode(w.counts())
		}
	}
}

// A crew is a number of processes that share the session.
type crew struct {
	mu      sync.Mutex // guards tallies and err
	tallies []tally    // the last report of each
	err     error
	running sync.WaitGroup
}

// start starts n processes that run for d, or until ctx is done.
func (o *options) start(ctx context.Context, d time.Duration, errOut io.Writer) (*crew, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &crew{tallies: make([]tally, o.processes)}
	for n := range o.processes {
		cmd := exec.Command(exe, o.childArgs(n+1, d)...)
		cmd.Stderr = errOut
		if err := c.launch(ctx, n, cmd); err != nil {
			c.fail(fmt.Errorf("process %d: %w", n+1, err))
			break
		}
	}
	return c, nil
}

// launch starts one process and follows what it reports.
func (c *crew) launch(ctx context.Context, n int, cmd *exec.Cmd) error {
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { in.Close() })
	c.running.Go(func() {
		defer stop()
		reports := json.NewDecoder(out)
		for {
			var t tally
			if err := reports.Decode(&t); err != nil {
				if !errors.Is(err, io.EOF) {
					c.fail(fmt.Errorf("process %d: %w", n+1, err))
				}
				break
			}
			c.mu.Lock()
			c.tallies[n] = t
			c.mu.Unlock()
		}
		if err := cmd.Wait(); err != nil {
			c.fail(fmt.Errorf("process %d: %w", n+1, err))
		}
	})
	return nil
}

func (c *crew) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = errors.Join(c.err, err)
}

// counts adds up what all have reported.
func (c *crew) counts() (sum tally) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.tallies {
		sum = sum.plus(t)
	}
	return sum
}

// wait waits for the end of all.
func (c *crew) wait() error {
	c.running.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}
