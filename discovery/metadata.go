package discovery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/freshtoken/freshtoken/internal/endpoint"
)

// Metadata is what an authorization server says of itself (RFC 8414 section 2,
// OpenID Connect Discovery section 3). Endpoints have been checked: each is
// empty, because the server names none, or an absolute URL without a fragment,
// https or as far as plain http is allowed. Lists are nil where the server
// does not say. None of it is secret. It is not to be modified while others
// use it.
type Metadata struct {
	// Issuer is the issuer identifier, exactly the one that was asked for.
	Issuer string

	AuthorizationEndpoint              string // where a user logs in
	TokenEndpoint                      string // where tokens are issued and refreshed
	DeviceAuthorizationEndpoint        string // where a login on another device begins (RFC 8628)
	PushedAuthorizationRequestEndpoint string // where a login's parameters may be left beforehand (RFC 9126)
	RevocationEndpoint                 string // where tokens are revoked (RFC 7009)
	EndSessionEndpoint                 string // where a browser logs out (OpenID Connect RP-Initiated Logout)
	UserinfoEndpoint                   string // tells who has logged in (OpenID Connect Core section 5.3)
	JWKSURI                            string // has the keys that the server signs with

	ScopesSupported        []string // some of the scopes there are; servers need not list all
	ResponseTypesSupported []string // such as "code"
	GrantTypesSupported    []string // nil: "authorization_code" and "implicit"

	// How a client may authenticate. Nil means "client_secret_basic".
	TokenEndpointAuthMethodsSupported      []string
	RevocationEndpointAuthMethodsSupported []string

	// TokenEndpointAuthSigningAlgValuesSupported are the algorithms of client
	// assertions, such as "ES256".
	TokenEndpointAuthSigningAlgValuesSupported []string

	// IDTokenSigningAlgValuesSupported are the algorithms that ID tokens may be
	// signed by, such as "RS256".
	IDTokenSigningAlgValuesSupported []string

	// MTLSEndpointAliases are where a client goes that presents a certificate
	// (RFC 8705 section 5).
	MTLSEndpointAliases Aliases

	// CodeChallengeMethodsSupported are the methods of PKCE, such as "S256".
	// Nil: the server does not have PKCE, or does not say so.
	CodeChallengeMethodsSupported []string

	// AuthorizationResponseIssParameterSupported: every answer to a login
	// names the issuer (RFC 9207 section 3).
	AuthorizationResponseIssParameterSupported bool

	// RequirePushedAuthorizationRequests: a login has to begin at the
	// PushedAuthorizationRequestEndpoint (RFC 9126 section 5).
	RequirePushedAuthorizationRequests bool

	members map[string]json.RawMessage
}

// Aliases are the endpoints for clients that present a certificate. Each is
// checked like the ordinary one, which holds where it is empty.
type Aliases struct {
	TokenEndpoint                      string
	DeviceAuthorizationEndpoint        string
	PushedAuthorizationRequestEndpoint string
	RevocationEndpoint                 string
	UserinfoEndpoint                   string
}

// Member returns a member of the document by its name, such as
// "registration_endpoint", as the server sent it: a JSON value of any type,
// unchecked. It is nil if there is none, and if the document has it twice. The
// caller may modify it.
func (m *Metadata) Member(name string) json.RawMessage { return bytes.Clone(m.members[name]) }

// parse reads a document and checks that it is the issuer's. The error is an
// absent, ErrIssuer or ErrInvalid with the reason, and repeats nothing of the
// document but its issuer.
func parse(data []byte, issuer string, insecureHTTP bool) (*Metadata, error) {
	in, err := readMembers(data)
	if err != nil {
		return nil, err
	}
	in.insecureHTTP = insecureHTTP
	m := &Metadata{Issuer: in.text("issuer"), members: in.members}
	switch {
	case in.err != nil:
		return nil, in.err
	case m.Issuer == "":
		return nil, absent("a JSON object without an issuer") // many an API answers everything like that
	case m.Issuer != issuer:
		return nil, fmt.Errorf("%w: the metadata is that of %q, not of %q: if it is the same server, use the former, to the last character; if not, somebody else answers in its place",
			ErrIssuer, endpoint.Sanitize(m.Issuer, 200), endpoint.Sanitize(issuer, 200))
	}
	m.AuthorizationEndpoint = in.endpoint("authorization_endpoint")
	m.TokenEndpoint = in.endpoint("token_endpoint")
	m.DeviceAuthorizationEndpoint = in.endpoint("device_authorization_endpoint")
	m.PushedAuthorizationRequestEndpoint = in.endpoint("pushed_authorization_request_endpoint")
	m.RevocationEndpoint = in.endpoint("revocation_endpoint")
	m.EndSessionEndpoint = in.endpoint("end_session_endpoint")
	m.UserinfoEndpoint = in.endpoint("userinfo_endpoint")
	m.JWKSURI = in.endpoint("jwks_uri")
	m.ScopesSupported = in.list("scopes_supported")
	m.ResponseTypesSupported = in.list("response_types_supported")
	m.GrantTypesSupported = in.list("grant_types_supported")
	m.TokenEndpointAuthMethodsSupported = in.list("token_endpoint_auth_methods_supported")
	m.RevocationEndpointAuthMethodsSupported = in.list("revocation_endpoint_auth_methods_supported")
	m.TokenEndpointAuthSigningAlgValuesSupported = in.list("token_endpoint_auth_signing_alg_values_supported")
	m.IDTokenSigningAlgValuesSupported = in.list("id_token_signing_alg_values_supported")
	m.MTLSEndpointAliases = in.aliases("mtls_endpoint_aliases")
	m.CodeChallengeMethodsSupported = in.list("code_challenge_methods_supported")
	m.AuthorizationResponseIssParameterSupported = in.flag("authorization_response_iss_parameter_supported")
	m.RequirePushedAuthorizationRequests = in.flag("require_pushed_authorization_requests")
	if in.err != nil {
		return nil, in.err
	}
	return m, nil
}

// document reads members by name and type, and keeps the first error. A member
// that is null counts as missing; servers write it so.
type document struct {
	members      map[string]json.RawMessage
	repeated     map[string]bool // not among members
	insecureHTTP bool
	err          error
}

// readMembers takes an object apart. encoding/json into a struct would not do:
// it takes TOKEN_ENDPOINT for token_endpoint, and the last of two.
func readMembers(data []byte) (*document, error) {
	d := &document{members: make(map[string]json.RawMessage)}
	var err error
	if d.repeated, err = endpoint.Object(data, d.members); err != nil || !utf8.Valid(data) {
		return nil, absent("not a JSON object")
	}
	for name := range d.repeated {
		delete(d.members, name)
	}
	return d, nil
}

// read decodes a member into value, a pointer. It reports whether it was there.
func (d *document) read(name string, value any, want string) bool {
	raw := d.members[name]
	switch {
	case d.repeated[name]:
		d.fail(name, errors.New("is there twice"))
		return false
	case raw == nil || string(raw) == "null":
		return false
	}
	if json.Unmarshal(raw, value) != nil {
		d.fail(name, errors.New("is not "+want))
		return false
	}
	return true
}

func (d *document) fail(name string, err error) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: %s %w: ask the server's operator to correct it, or %s", ErrInvalid, name, err, instead)
	}
}

func (d *document) text(name string) (s string) {
	d.read(name, &s, "a string")
	return s
}

func (d *document) flag(name string) (b bool) {
	d.read(name, &b, "true or false")
	return b
}

func (d *document) list(name string) []string {
	var elements []*string // null among them is no string
	if !d.read(name, &elements, "a list of strings") {
		return nil
	}
	list := make([]string, len(elements))
	for i, s := range elements {
		if s == nil {
			d.fail(name, errors.New("is not a list of strings"))
			return nil
		}
		list[i] = *s
	}
	return list
}

// aliases reads an object of endpoints.
func (d *document) aliases(name string) (a Aliases) {
	var object json.RawMessage
	if !d.read(name, &object, "an object") {
		return a
	}
	in := &document{members: make(map[string]json.RawMessage), insecureHTTP: d.insecureHTTP}
	var err error
	if in.repeated, err = endpoint.Object(object, in.members); err != nil {
		d.fail(name, errors.New("is not an object"))
		return a
	}
	a = Aliases{
		TokenEndpoint:                      in.endpoint("token_endpoint"),
		DeviceAuthorizationEndpoint:        in.endpoint("device_authorization_endpoint"),
		PushedAuthorizationRequestEndpoint: in.endpoint("pushed_authorization_request_endpoint"),
		RevocationEndpoint:                 in.endpoint("revocation_endpoint"),
		UserinfoEndpoint:                   in.endpoint("userinfo_endpoint"),
	}
	if in.err != nil && d.err == nil {
		d.err = in.err
	}
	return a
}

// endpoint reads a URL. An empty one counts as missing.
func (d *document) endpoint(name string) string {
	s := d.text(name)
	if s == "" {
		return ""
	}
	if _, err := parseURL(s, d.insecureHTTP); err != nil {
		d.fail(name, err)
		return ""
	}
	return s
}
