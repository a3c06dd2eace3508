package oauthtest

import (
	"net/http"
	"slices"
	"strings"
)

// Where metadata is: RFC 8414, section 3, and OpenID Connect Discovery, section
// 4.
const (
	oauthMetadata  = "/.well-known/oauth-authorization-server"
	openIDMetadata = "/.well-known/openid-configuration"
)

// metadata answers with the description of the server.
func (c *call) metadata() Answer {
	s, place := c.s, c.s.opt.Metadata
	s.mu.Lock()
	defer s.mu.Unlock()
	switch here := c.r.URL.Path; {
	case place == MetadataNowhere, place == MetadataOAuth && here != oauthMetadata, place == MetadataOpenID && here != openIDMetadata:
		c.decide(NotFound)
		return newAnswer(http.StatusNotFound, nil)
	case c.r.Method != http.MethodGet && c.r.Method != http.MethodHead:
		a := c.badRequest("the method must be GET")
		a.Status = http.StatusMethodNotAllowed
		a.Header.Set("Allow", "GET, HEAD")
		return a
	}
	c.decide(Served)
	grants, methods := []string{"authorization_code", "refresh_token", deviceGrant}, s.opt.authMethods()
	if s.opt.confidential(s.opt.ClientID) || slices.Contains(methods, "client_secret_basic") {
		grants = append(grants, "client_credentials")
	}
	grants = append(grants, s.opt.Grants.grantTypes()...)
	var m Members
	m.Add("issuer", s.base)
	m.Add("authorization_endpoint", s.base+"/authorize")
	m.Add("token_endpoint", s.base+"/token")
	m.Add("revocation_endpoint", s.base+"/revoke")
	m.Add("device_authorization_endpoint", s.base+"/device")
	m.Add("pushed_authorization_request_endpoint", s.base+"/par")
	if s.opt.RequirePushed {
		m.Add("require_pushed_authorization_requests", true)
	}
	if scopes := s.opt.supported(); len(scopes) > 0 {
		m.Add("scopes_supported", scopes)
	}
	m.Add("response_types_supported", []string{"code"})
	m.Add("response_modes_supported", []string{"query"})
	m.Add("grant_types_supported", grants)
	m.Add("token_endpoint_auth_methods_supported", methods)
	m.Add("revocation_endpoint_auth_methods_supported", methods)
	if strings.HasSuffix(s.opt.ClientAuth.Method, "_jwt") {
		m.Add("token_endpoint_auth_signing_alg_values_supported", s.opt.signingAlgorithms())
	}
	if s.opt.IDTokens != "" {
		m.Add("jwks_uri", s.base+"/jwks")
		m.Add("id_token_signing_alg_values_supported", []string{s.opt.IDTokens})
		m.Add("subject_types_supported", []string{"public"})
	}
	if alias := s.opt.ClientAuth.AliasHost; alias != "" {
		at := "https://" + alias
		m.Add("mtls_endpoint_aliases", map[string]string{"token_endpoint": at + "/token", "revocation_endpoint": at + "/revoke",
			"device_authorization_endpoint": at + "/device", "pushed_authorization_request_endpoint": at + "/par"})
	}
	if s.opt.ClientAuth.BindTokens {
		m.Add("tls_client_certificate_bound_access_tokens", true)
	}
	m.Add("code_challenge_methods_supported", []string{"S256"})
	m.Add("authorization_response_iss_parameter_supported", !s.opt.OmitIss)
	return newAnswer(http.StatusOK, m)
}

// authMethods returns the ways in which the clients authenticate.
func (o *Options) authMethods() []string {
	var methods, secrets []string
	if o.ClientAuth.Method != "" {
		methods = append(methods, o.ClientAuth.Method)
	} else {
		secrets = append(secrets, o.ClientSecret)
	}
	for _, secret := range o.OtherClients {
		secrets = append(secrets, secret)
	}
	if slices.ContainsFunc(secrets, func(s string) bool { return s != "" }) {
		methods = append(methods, "client_secret_basic", "client_secret_post")
	}
	if slices.Contains(secrets, "") {
		methods = append(methods, "none")
	}
	return methods
}

// signingAlgorithms returns those of the client's assertions.
func (o *Options) signingAlgorithms() []string {
	if o.ClientAuth.Method == "client_secret_jwt" {
		return []string{"HS256"}
	}
	var all []string
	for _, key := range o.ClientAuth.Keys {
		for _, alg := range algorithms(key) {
			all = append(all, string(alg))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
