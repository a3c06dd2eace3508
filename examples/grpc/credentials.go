package main

import (
	"context"
	"fmt"

	"github.com/freshtoken/freshtoken"
	"golang.org/x/oauth2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
)

// sessionCredentials send the session's token with each call. They are for one
// connection, whose server is the only one to get it, and for TLS alone.
type sessionCredentials struct{ src *freshtoken.Source }

var _ credentials.PerRPCCredentials = sessionCredentials{}

// GetRequestMetadata waits for a token as long as the call's context allows.
func (c sessionCredentials) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	info, _ := credentials.RequestInfoFromContext(ctx)
	if err := credentials.CheckSecurityLevel(info.AuthInfo, credentials.PrivacyAndIntegrity); err != nil {
		return nil, fmt.Errorf("the token is for encrypted connections: %w", err)
	}
	tok, ok := ctx.Value(chosen{}).(*oauth2.Token)
	if !ok { // a stream
		var err error
		if tok, err = c.src.Token(ctx); err != nil {
			return nil, err
		}
	}
	return map[string]string{"authorization": "Bearer " + tok.AccessToken}, nil
}

// RequireTransportSecurity has grpc.NewClient refuse a connection without TLS.
func (c sessionCredentials) RequireTransportSecurity() bool { return true }

// chosen is the key under which a call's context has its token.
type chosen struct{}

// replay answers the rejection of a token as freshtoken.Transport does: one
// refresh, one replay. Credentials alone do not learn what becomes of a call. A
// stream is not for anybody but its owner to begin again: on Unauthenticated, call
// src.Refresh with the token that it had.
func replay(src *freshtoken.Source) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		tok, err := src.Token(ctx)
		if err != nil {
			return err // as it is: gRPC would make a status of its text
		}
		call := func(tok *oauth2.Token) error {
			return invoke(context.WithValue(ctx, chosen{}, tok), method, req, reply, cc, opts...)
		}
		if err = call(tok); status.Code(err) != codes.Unauthenticated {
			return err
		}
		newer, failed := src.Refresh(ctx, tok)
		if failed != nil {
			return err
		}
		return call(newer)
	}
}

// dial connects to a server with the session.
func dial(src *freshtoken.Source, target string, encrypted credentials.TransportCredentials) (*grpc.ClientConn, error) {
	return grpc.NewClient(target, grpc.WithTransportCredentials(encrypted),
		grpc.WithPerRPCCredentials(sessionCredentials{src}), grpc.WithUnaryInterceptor(replay(src)))
}
