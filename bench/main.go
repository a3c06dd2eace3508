// Command bench measures freshtoken and its peers side by side, in the same run
// on the same machine:
//
//	go run . -o run.json
//	go run ./report run.json
//
// The second command writes docs/performance.md and its pictures.
package main

import (
	"context"
	"flag"
	"log"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken/bench/measure"
	"github.com/freshtoken/freshtoken/bench/peers"
)

func main() {
	measure.Child()
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	out := flag.String("o", "run.json", "write the results there")
	rounds := flag.Int("rounds", 25, "how often each thing is timed")
	only := flag.String("only", "", "the measures to make, with commas between them; empty: all")
	smoke := flag.Bool("smoke", false, "as short as possible: the counts hold, the times mean nothing")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	run := describe()
	o := measure.Options{Peers: peers.All(), Rounds: *rounds, Smoke: *smoke, Logf: log.Printf}
	ballast := measure.Ballast()
	for _, m := range measure.All() {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), m.Name) {
			continue
		}
		start := time.Now()
		results, err := m.Run(ctx, o)
		if err != nil {
			log.Fatalf("%s: %v", m.Name, err)
		}
		run.Results = append(run.Results, results...)
		log.Printf("%s: %.0f s", m.Name, time.Since(start).Seconds())
	}
	runtime.KeepAlive(ballast)
	if err := run.Write(*out); err != nil {
		log.Fatal(err)
	}
}

// describe says what the run is made on and with.
func describe() measure.Run {
	run := measure.Run{
		Date:    time.Now().UTC().Format(time.DateOnly),
		Go:      runtime.Version(),
		System:  runtime.GOOS + "/" + runtime.GOARCH,
		CPU:     cpu(),
		CPUs:    runtime.NumCPU(),
		Command: strings.Join(append([]string{"go run ."}, os.Args[1:]...), " "),
		Modules: map[string]string{},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, d := range info.Deps {
			run.Modules[d.Path] = d.Version
		}
	}
	return run
}

// cpu is the processor's name, where the system tells.
func cpu() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
