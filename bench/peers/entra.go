package peers

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// entraAuthority is where MSAL believes its server to be.
const entraAuthority = "https://login.test/tenant/"

// entra is the HTTP client of MSAL. The server's metadata and the login it makes
// up itself, the login from the Setup's token. A refresh it sends to the Setup's
// token endpoint, without the parameters that are Microsoft's own, and adds the
// members that MSAL looks for to the answer.
type entra struct{ setup Setup }

func (e entra) CloseIdleConnections() {}

func (e entra) Do(req *http.Request) (*http.Response, error) {
	if strings.HasPrefix(req.URL.String(), entraAuthority) {
		return answer(req, map[string]any{
			"issuer":                 entraAuthority,
			"authorization_endpoint": entraAuthority + "authorize",
			"token_endpoint":         e.setup.OAuth2.Endpoint.TokenURL,
		})
	}
	form, err := readForm(req)
	if err != nil {
		return nil, err
	}
	if form.Get("grant_type") == "authorization_code" {
		tok := e.setup.Token
		return answer(req, e.members(map[string]any{
			"access_token": tok.AccessToken, "token_type": tok.TokenType, "refresh_token": tok.RefreshToken,
		}, time.Until(tok.Expiry)))
	}
	return e.refresh(req, form)
}

func (e entra) refresh(req *http.Request, form url.Values) (*http.Response, error) {
	for name := range form {
		if name != "grant_type" && name != "refresh_token" && name != "client_id" {
			form.Del(name)
		}
	}
	setForm(req, form)
	resp, err := e.setup.HTTP.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	var members map[string]any
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&members); err != nil {
		return nil, fmt.Errorf("peers: the answer of the token endpoint: %w", err)
	}
	seconds, _ := members["expires_in"].(float64)
	return answer(req, e.members(members, time.Duration(seconds)*time.Second))
}

// members adds what Microsoft's answers have beside a token. Without a scope all
// that were asked for are granted.
func (e entra) members(m map[string]any, lifetime time.Duration) map[string]any {
	if e.setup.Lead > 0 {
		lifetime += 5*time.Minute - e.setup.Lead
	}
	delete(m, "scope")
	m["expires_in"] = int(lifetime / time.Second)
	m["ext_expires_in"] = m["expires_in"]
	m["id_token"] = segment(map[string]any{"alg": "none"}) + "." + segment(map[string]any{
		"iss": entraAuthority, "aud": e.setup.OAuth2.ClientID, "sub": "alice", "oid": "alice", "tid": "tenant", "preferred_username": "alice",
	}) + "."
	m["client_info"] = segment(map[string]any{"uid": "alice", "utid": "tenant"})
	return m
}

// segment is one part of a JWT.
func segment(v map[string]any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

// answer is a good one, in JSON.
func answer(req *http.Request, members map[string]any) (*http.Response, error) {
	data, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header:        http.Header{"Content-Type": {"application/json"}},
		ContentLength: int64(len(data)), Body: io.NopCloser(bytes.NewReader(data)), Request: req,
	}, nil
}
