// Picture draws a trace of one refresh as an SVG. It makes the refresh for it: a
// server with a delay, sealed files, and another program that holds the session
// lock for a moment. The spans are those that the adapter exports.
//
//	go -C otel run ./internal/picture -o ../docs/trace.svg
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"github.com/freshtoken/freshtoken/otel"
	"github.com/freshtoken/freshtoken/storage"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// What the world around the refresh costs.
const (
	answerTime = 35 * time.Millisecond // of the server
	holdTime   = 15 * time.Millisecond // of the other program
)

func main() {
	out := flag.String("o", "trace.svg", "`file` to write")
	flag.Parse()
	spans, err := refresh(context.Background(), answerTime, holdTime)
	if err == nil {
		err = os.WriteFile(*out, draw(spans), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// refresh makes one, and returns its spans. The server takes a while to answer,
// and another program keeps the lock for another.
func refresh(ctx context.Context, answer, hold time.Duration) (spans []tracetest.SpanStub, err error) {
	srv := oauthtest.New(oauthtest.Options{})
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(answer)
		srv.ServeHTTP(w, r)
	}))
	defer web.Close()
	dir, err := os.MkdirTemp("", "freshtoken-picture")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	files, err := storage.NewFile(filepath.Join(dir, "sessions"), storage.KeyFile(filepath.Join(dir, "key")))
	if err != nil {
		return nil, err
	}
	exporter := tracetest.NewInMemoryExporter()
	cfg := freshtoken.Config{OAuth2: srv.OAuth2(), Store: files}
	cfg.OAuth2.Endpoint.TokenURL = web.URL + "/token"
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	if err := otel.Instrument(&cfg, otel.Options{TracerProvider: provider}); err != nil {
		return nil, err
	}
	src, err := freshtoken.New(cfg)
	if err != nil {
		return nil, err
	}
	if err := once(ctx, src, files, srv, hold); err != nil {
		return nil, errors.Join(err, src.Close())
	}
	if err := src.Close(); err != nil { // delivers what is to be told
		return nil, err
	}
	if spans = exporter.GetSpans(); len(spans) == 0 {
		return nil, errors.New("there is no trace")
	}
	return spans, nil
}

// once logs in and has the token replaced, while another program has the lock.
func once(ctx context.Context, src *freshtoken.Source, files *storage.File, srv *oauthtest.Server, hold time.Duration) error {
	if err := src.SetToken(ctx, srv.Login("alice")); err != nil {
		return err
	}
	keys, err := files.List(ctx)
	if err != nil || len(keys) != 1 {
		return fmt.Errorf("%d sessions are stored: %w", len(keys), err)
	}
	unlock, err := files.Lock(ctx, keys[0])
	if err != nil {
		return err
	}
	freed := make(chan error, 1)
	time.AfterFunc(hold, func() { freed <- unlock() })
	_, err = src.Refresh(ctx, nil)
	return errors.Join(err, <-freed)
}
