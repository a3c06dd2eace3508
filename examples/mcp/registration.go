package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"strings"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"
)

// A registration is which client this program is (RFC 7591 section 3.2.1), and
// where. It lies in the Store beside the session, sealed like it: one that was lost
// would take the session with it, which is bound to the client.
type registration struct {
	Resource     string // what tokens are for: the MCP server, as its metadata names it
	Issuer       string // the authorization server
	ClientID     string
	ClientSecret string           `json:",omitempty"`
	AuthStyle    oauth2.AuthStyle // how the secret is sent
	Expiry       time.Time        // of the secret; zero: never
	RedirectURI  string
	Scopes       []string
}

// key is where in the Store it is. Sessions are under other keys.
func (h *handler) key() string { return "examples/mcp: client at " + h.server }

// load returns the stored registration, or nil if there is none that serves.
func (h *handler) load(ctx context.Context) (*registration, error) {
	value, err := h.store.Load(ctx, h.key())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err // a keyring that is locked is no reason to register again
	}
	reg := new(registration)
	if json.Unmarshal(value, reg) != nil { // whose error may repeat a secret
		return nil, errors.New("the stored registration cannot be read: was it written by a newer program?")
	}
	if !reg.Expiry.IsZero() && !time.Now().Before(reg.Expiry) {
		return nil, nil
	}
	return reg, nil
}

// register makes this program a client of the authorization server that the MCP
// server names, unless another goroutine or process has done so since. reg is the
// registration that did not serve, or nil.
func (h *handler) register(ctx context.Context, reg *registration, challenges []oauthex.Challenge) (*freshtoken.Source, error) {
	h.opening.Lock()
	defer h.opening.Unlock()
	if src, now := h.current(); src != nil && now != reg {
		return src, nil
	}
	unlock, err := h.store.Lock(ctx, h.key())
	if err != nil {
		return nil, err
	}
	defer unlock() // at the latest the kernel does
	stored, err := h.load(ctx)
	if err != nil {
		return nil, err
	}
	if stored == nil || reg != nil && stored.ClientID == reg.ClientID {
		if stored, err = h.registerAnew(ctx, challenges); err != nil {
			return nil, err
		}
		value, err := json.Marshal(stored)
		if err != nil {
			return nil, err
		}
		if err := h.store.Save(ctx, h.key(), value); err != nil {
			return nil, err
		}
	}
	return h.use(ctx, stored)
}

// registerAnew asks the MCP server who its authorization server is, and that one
// for an identifier.
func (h *handler) registerAnew(ctx context.Context, challenges []oauthex.Challenge) (*registration, error) {
	resource, err := h.resource(ctx, challenges)
	if err != nil {
		return nil, err
	}
	reg := &registration{Resource: resource.Resource, Issuer: resource.AuthorizationServers[0],
		RedirectURI: h.redirect, Scopes: scopes(resource, challenges)}
	server, err := discovery.Fetch(ctx, h.client, reg.Issuer)
	if err != nil {
		return nil, err
	}
	var endpoint string
	if json.Unmarshal(server.Member("registration_endpoint"), &endpoint) != nil || endpoint == "" {
		return nil, fmt.Errorf("%s has no registration endpoint: it wants clients that its administrator has made", reg.Issuer)
	}
	if u, err := url.Parse(endpoint); err != nil || u.Scheme != "https" && !local(u.Hostname()) {
		return nil, fmt.Errorf("%s has a registration endpoint that is not https", reg.Issuer)
	}
	answer, err := oauthex.RegisterClient(ctx, endpoint, &oauthex.ClientRegistrationMetadata{
		ClientName:              "freshtoken-mcp",
		ApplicationType:         "native",
		RedirectURIs:            []string{h.redirect},
		GrantTypes:              []string{"authorization_code", "refresh_token"},
		ResponseTypes:           []string{"code"},
		TokenEndpointAuthMethod: "none",
		Scope:                   strings.Join(reg.Scopes, " "),
	}, h.client)
	if err != nil {
		return nil, refused(reg.Issuer, err)
	}
	return reg, reg.take(answer)
}

// take adds what the server has made of the client, which may differ from what was
// asked for (RFC 7591 section 3.2.1).
func (r *registration) take(answer *oauthex.ClientRegistrationResponse) error {
	r.ClientID, r.ClientSecret, r.Expiry = answer.ClientID, answer.ClientSecret, answer.ClientSecretExpiresAt
	switch method := answer.TokenEndpointAuthMethod; {
	case method == "none" || r.ClientSecret == "":
		r.ClientSecret, r.AuthStyle, r.Expiry = "", oauth2.AuthStyleInParams, time.Time{}
	case method == "client_secret_post":
		r.AuthStyle = oauth2.AuthStyleInParams
	case method == "client_secret_basic" || method == "": // the default, section 2
		r.AuthStyle = oauth2.AuthStyleInHeader
	default:
		return fmt.Errorf("%s wants the client to authenticate by %q, which this program does not do", r.Issuer, method)
	}
	return nil
}

// refused is the error of a registration, without the server's answer: it may hold
// the secret that could not be read.
func refused(issuer string, err error) error {
	var said *oauthex.ClientRegistrationError
	var sending *url.Error
	switch {
	case errors.As(err, &said):
		return fmt.Errorf("%s did not register this program: %q", issuer, said.ErrorCode)
	case errors.As(err, &sending):
		return fmt.Errorf("%s cannot be reached to register: %w", issuer, sending)
	}
	return fmt.Errorf("%s did not register this program: its answer makes no sense", issuer)
}

// resource finds the metadata of the MCP server (RFC 9728): where the challenge says
// it is, or at the places of section 3.1. Each answer must name what was asked for.
func (h *handler) resource(ctx context.Context, challenges []oauthex.Challenge) (*oauthex.ProtectedResourceMetadata, error) {
	u, err := url.Parse(h.server)
	if err != nil {
		return nil, err
	}
	origin := u.Scheme + "://" + u.Host
	type place struct{ metadata, resource string }
	places := []place{{origin + "/.well-known/oauth-protected-resource" + strings.TrimSuffix(u.EscapedPath(), "/"), h.server},
		{origin + "/.well-known/oauth-protected-resource", origin}}
	for _, c := range challenges {
		if said := c.Params["resource_metadata"]; c.Scheme == "bearer" && said != "" {
			places = append([]place{{said, h.server}}, places...)
			break
		}
	}
	var all []error
	for _, p := range places {
		found, err := oauthex.GetProtectedResourceMetadata(ctx, p.metadata, p.resource, h.client)
		switch {
		case err != nil:
			all = append(all, err)
		case len(found.AuthorizationServers) == 0:
			all = append(all, fmt.Errorf("%s names no authorization server", p.metadata))
		default:
			return found, nil
		}
	}
	return nil, fmt.Errorf("%s wants a token, and does not say from where: %w", h.server, errors.Join(all...))
}

// scopes are those that the challenge asks for, or else all that the server has.
func scopes(resource *oauthex.ProtectedResourceMetadata, challenges []oauthex.Challenge) []string {
	for _, c := range challenges {
		if c.Scheme == "bearer" && c.Params["scope"] != "" {
			return strings.Fields(c.Params["scope"])
		}
	}
	return resource.ScopesSupported
}
