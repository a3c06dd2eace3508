package openid

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/go-jose/go-jose/v4"
)

// Bounds on what a server can do to the one who asks it for keys.
const (
	keysTime = 10 * time.Second
	maxKeys  = 1 << 20 // bytes
)

// A keyRing has the keys of a server that are at hand.
type keyRing struct {
	mu   sync.Mutex // guards what follows
	all  []jose.JSONWebKey
	from string // their URL
}

func (k *keyRing) at(url string) []jose.JSONWebKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.from != url {
		return nil
	}
	return k.all
}

func (k *keyRing) set(url string, all []jose.JSONWebKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.from, k.all = url, all
}

// keysFor is what go-oidc asks for the signature of one ID token. go-oidc's own
// RemoteKeySet reads without a bound, has no time limit, and repeats in its
// errors what the server sent.
type keysFor struct {
	ring    *keyRing
	url     string
	cfg     *freshtoken.Config
	vouched bool  // without a key the ID token is good
	err     error // what went wrong
}

var _ oidc.KeySet = (*keysFor)(nil)

// VerifySignature implements oidc.KeySet. go-oidc has checked the algorithm.
func (k *keysFor) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	var payload []byte
	if payload, k.err = k.verify(ctx, raw); k.err != nil {
		return nil, k.err
	}
	return payload, nil
}

func (k *keysFor) verify(ctx context.Context, raw string) ([]byte, error) {
	alg := unchecked(raw)
	sig, err := jose.ParseSignedCompact(raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(alg)})
	if err != nil || len(sig.Signatures) != 1 {
		return nil, fail(ErrMalformed, "it is no signed JWT: ask the server's operator")
	}
	tried, payload := try(sig, k.ring.at(k.url), alg)
	switch {
	case payload != nil:
		return payload, nil
	case !tried && k.vouched:
		return sig.UnsafePayloadWithoutVerification(), nil
	}
	// Servers change their keys.
	keys, err := fetch(ctx, k.cfg, k.url)
	switch {
	case err != nil && tried && k.vouched: // a server may change a key and keep its name
		return nil, endpoint.Passing(fail(ErrKeys, "the key at hand has not made the signature, and newer ones could not be had: %w", err))
	case err != nil && tried:
		return nil, fail(ErrSignature, "the key at hand says so, and newer ones could not be had: %w", err)
	case err != nil:
		return nil, endpoint.Passing(fail(ErrKeys, "%w", err))
	}
	k.ring.set(k.url, keys)
	if _, payload = try(sig, keys, alg); payload == nil {
		return nil, fail(ErrSignature, "no key at Verifier.KeysURL has made it: check the URL, and that nothing else answers in the server's place")
	}
	return payload, nil
}

// try looks for the key that has made the signature. tried says that there was
// one that ought to have.
func try(sig *jose.JSONWebSignature, keys []jose.JSONWebKey, alg string) (tried bool, payload []byte) {
	id := sig.Signatures[0].Header.KeyID
	for _, key := range keys {
		if id != "" && key.KeyID != id || key.Algorithm != "" && key.Algorithm != alg {
			continue
		}
		tried = tried || id != "" // without an ID it may be a key that is not at hand
		if payload, err := sig.Verify(&key); err == nil {
			return true, payload
		}
	}
	return tried, nil
}

// fetch asks for the keys. Redirects are not followed.
func fetch(ctx context.Context, cfg *freshtoken.Config, url string) ([]jose.JSONWebKey, error) {
	if url == "" {
		return nil, errors.New("Verifier.KeysURL is empty: set it to the server's jwks_uri, which discovery.Configure returns")
	}
	if err := endpoint.CheckURL(url, cfg.InsecureHTTP); err != nil {
		return nil, fmt.Errorf("Verifier.KeysURL %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, keysTime)
	defer cancel()
	client := new(http.Client)
	if cfg.HTTPClient != nil {
		*client = *cfg.HTTPClient
	}
	endpoint.FollowNone(client)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, endpoint.Bare(err)
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	req.Close = true // there is no other request for a long while
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s could not be asked: %w: try again later", req.URL.Host, endpoint.Bare(err))
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxKeys+1))
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answered %d: try again later, or check Verifier.KeysURL", req.URL.Host, resp.StatusCode)
	case err != nil:
		return nil, fmt.Errorf("%s broke off: %w: try again later", req.URL.Host, err)
	case len(data) > maxKeys:
		return nil, fmt.Errorf("%s has sent more than %d bytes: check Verifier.KeysURL", req.URL.Host, maxKeys)
	}
	return readKeys(data)
}

// readKeys reads a JWKS, and of that the public keys for signatures.
func readKeys(data []byte) (keys []jose.JSONWebKey, err error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if json.Unmarshal(data, &set) != nil || set.Keys == nil {
		return nil, errors.New("the answer is no JWKS: check Verifier.KeysURL")
	}
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		var may struct {
			Ops []string `json:"key_ops"`
		}
		if json.Unmarshal(raw, &may) != nil || may.Ops != nil && !slices.Contains(may.Ops, "verify") {
			continue // RFC 7517 section 4.3
		}
		if json.Unmarshal(raw, &key) != nil || key.Use != "" && key.Use != "sig" || !key.IsPublic() {
			continue // keys of other kinds stand beside those (RFC 7517 section 5)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// unchecked returns the algorithm that a JWT names; "" if it names none.
func unchecked(raw string) (alg string) {
	if json.Unmarshal(header(raw)["alg"], &alg) != nil {
		return ""
	}
	return alg
}

// header returns the header of a JWT; nil if it cannot be read.
func header(raw string) (all map[string]json.RawMessage) {
	head, _, _ := strings.Cut(raw, ".")
	data, err := base64.RawURLEncoding.DecodeString(head)
	if err != nil || json.Unmarshal(data, &all) != nil {
		return nil
	}
	return all
}
