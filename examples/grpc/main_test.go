package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	pb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// world is a gRPC server that trusts an authorization server.
type world struct {
	as     *oauthtest.Server
	src    *freshtoken.Source
	target string
	creds  credentials.TransportCredentials
	calls  atomic.Int32
	deaf   atomic.Bool // takes no token for good
}

func start(t *testing.T) *world {
	t.Helper()
	w := &world{as: oauthtest.New(oauthtest.Options{})}
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	w.creds = credentials.NewTLS(&tls.Config{RootCAs: roots})

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.target = l.Addr().String()
	server := grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&web.TLS.Certificates[0])),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			if err := w.admit(ctx); err != nil {
				return nil, err
			}
			return h(ctx, req)
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			if err := w.admit(ss.Context()); err != nil {
				return err
			}
			return h(srv, ss)
		}))
	pb.RegisterHealthServer(server, health.NewServer())
	served := make(chan struct{})
	go func() { defer close(served); server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-served })

	w.src, err = freshtoken.New(freshtoken.Config{OAuth2: w.as.OAuth2(), HTTPClient: w.as.Client()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.src.Close() })
	return w
}

// admit wants one live token.
func (w *world) admit(ctx context.Context) error {
	w.calls.Add(1)
	md, _ := metadata.FromIncomingContext(ctx)
	all := md.Get("authorization")
	if len(all) != 1 {
		return status.Errorf(codes.InvalidArgument, "%d credentials", len(all))
	}
	if tok, ok := strings.CutPrefix(all[0], "Bearer "); !ok || w.deaf.Load() || !w.as.AccessAlive(tok) {
		return status.Error(codes.Unauthenticated, "the token is not valid")
	}
	return nil
}

func (w *world) login(t *testing.T) {
	t.Helper()
	if err := w.src.SetToken(t.Context(), w.as.Login("alice")); err != nil {
		t.Fatal(err)
	}
}

// want compares the calls and the requests at the token endpoint.
func (w *world) want(t *testing.T, calls, posts int) {
	t.Helper()
	if c, p := int(w.calls.Load()), w.as.Stats().TokenRequests; c != calls || p != posts {
		t.Errorf("%d calls and %d refreshes, want %d and %d", c, p, calls, posts)
	}
}

func TestCall(t *testing.T) {
	w := start(t)
	w.login(t)
	var out bytes.Buffer
	if err := ask(t.Context(), w.src, w.target, w.creds, &out); err != nil || out.String() != "SERVING\n" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	w.want(t, 1, 0)
}

func TestRejectedTokenIsReplacedAndTheCallReplayed(t *testing.T) {
	w := start(t)
	w.login(t)
	tok, err := w.src.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.as.RevokeAccess(tok.AccessToken)
	if err := ask(t.Context(), w.src, w.target, w.creds, new(bytes.Buffer)); err != nil {
		t.Error(err)
	}
	w.want(t, 2, 1)
}

func TestServerThatTakesNoTokenIsAskedTwice(t *testing.T) {
	w := start(t)
	w.login(t)
	w.deaf.Store(true)
	if err := ask(t.Context(), w.src, w.target, w.creds, new(bytes.Buffer)); status.Code(err) != codes.Unauthenticated {
		t.Errorf("got %v, want what the server says", err)
	}
	w.want(t, 2, 1)
}

func TestNobodyLoggedIn(t *testing.T) {
	w := start(t)
	if err := ask(t.Context(), w.src, w.target, w.creds, new(bytes.Buffer)); !errors.Is(err, freshtoken.ErrNoSession) {
		t.Errorf("got %v, want ErrNoSession", err)
	}
	w.want(t, 0, 0)
}

func TestStreamsHaveTheToken(t *testing.T) {
	w := start(t)
	w.login(t)
	conn, err := dial(w.src, w.target, w.creds)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := pb.NewHealthClient(conn).Watch(t.Context(), &pb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if first, err := stream.Recv(); err != nil || first.Status != pb.HealthCheckResponse_SERVING {
		t.Errorf("got %v, %v", first, err)
	}
	w.want(t, 1, 0)
}

func TestNoTokenWithoutTLS(t *testing.T) {
	w := start(t)
	w.login(t)
	if err := ask(t.Context(), w.src, w.target, insecure.NewCredentials(), new(bytes.Buffer)); err == nil {
		t.Error("a connection without TLS was used")
	}
	w.want(t, 0, 0)
}
