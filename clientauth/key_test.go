package clientauth_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/freshtoken/freshtoken/clientauth"
	"github.com/go-jose/go-jose/v4"
)

// The keys of all tests. RSA keys take long to make.
var (
	rsaKey  = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	weakRSA = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 1024)) })
	ecKey   = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)) })
	p384Key = sync.OnceValue(func() *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)) })
	edKey   = sync.OnceValue(func() ed25519.PrivateKey { _, k, err := ed25519.GenerateKey(rand.Reader); return must(k, err) })
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func pkcs8(key any) string { return block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key))) }

func jwk(key any, edit ...func(*jose.JSONWebKey)) string {
	j := jose.JSONWebKey{Key: key}
	for _, e := range edit {
		e(&j)
	}
	return string(must(json.Marshal(j)))
}

func kid(id string) func(*jose.JSONWebKey)    { return func(j *jose.JSONWebKey) { j.KeyID = id } }
func use(s string) func(*jose.JSONWebKey)     { return func(j *jose.JSONWebKey) { j.Use = s } }
func alg(name string) func(*jose.JSONWebKey)  { return func(j *jose.JSONWebKey) { j.Algorithm = name } }
func set(keys ...string) string               { return `{"keys": [` + strings.Join(keys, ",") + `]}` }
func publicOf(key crypto.Signer) (public any) { return key.Public() }

func TestParseKey(t *testing.T) {
	certificate := block("CERTIFICATE", newCert(t, certOptions{}).Certificate[0])
	for name, test := range map[string]struct {
		data, id string
		key      crypto.Signer
	}{
		"PKCS #8, RSA":                       {pkcs8(rsaKey()), "", rsaKey()},
		"PKCS #8, EC":                        {pkcs8(ecKey()), "", ecKey()},
		"PKCS #8, Ed25519":                   {pkcs8(edKey()), "", edKey()},
		"PKCS #1":                            {block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey())), "", rsaKey()},
		"SEC 1":                              {block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(ecKey()))), "", ecKey()},
		"EC with parameters":                 {block("EC PARAMETERS", []byte{6, 0}) + block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(ecKey()))), "", ecKey()},
		"PEM beside a certificate, and text": {"subject=x\n" + certificate + "key:\n" + pkcs8(ecKey()), "", ecKey()},
		"PEM with a byte order mark":         {"\ufeff" + pkcs8(ecKey()), "", ecKey()},
		"a JWK, RSA":                         {jwk(rsaKey()), "", rsaKey()},
		"a JWK, EC":                          {"\n " + jwk(ecKey()) + "\n", "", ecKey()},
		"a JWK, Ed25519":                     {"\ufeff" + jwk(edKey()), "", edKey()},
		"a JWK by its kid":                   {jwk(edKey(), kid("a")), "a", edKey()},
		"a JWK without a kid, by one":        {jwk(edKey()), "a", edKey()},
		"a JWKS of one":                      {set(jwk(ecKey())), "", ecKey()},
		"a JWKS by kid":                      {set(jwk(ecKey(), kid("a")), jwk(edKey(), kid("b"))), "b", edKey()},
		"a JWKS, by what is for signing":     {set(jwk(rsaKey(), use("enc")), jwk(ecKey(), use("sig")), jwk([]byte("symmetric"))), "", ecKey()},
		"a JWKS, by what is private":         {set(jwk(publicOf(rsaKey())), jwk(ecKey())), "", ecKey()},
		"a JWKS with a key of another kind":  {set(`{"kty":"new","x":"y"}`, jwk(ecKey())), "", ecKey()},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := clientauth.ParseKey([]byte(test.data), test.id)
			if err != nil {
				t.Fatal(err)
			}
			if !test.key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
				t.Error("it is another key")
			}
			if _, err := clientauth.PrivateKeyJWT(key, clientauth.Options{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// What is no key to sign with has an error of its own, which says what to do, and
// nothing of the key.
func TestBadKeys(t *testing.T) {
	x25519 := must(ecdh.X25519().GenerateKey(rand.Reader))
	swapped := strings.Replace(jwk(ecKey()), `"d":"`+member(jwk(ecKey()), "d")+`"`, `"d":"`+member(jwk(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))), "d")+`"`, 1)
	for name, test := range map[string]struct {
		data, id string
		want     error
		says     string
	}{
		"RSA below 2048 bits":                {pkcs8(weakRSA()), "", clientauth.ErrKeyTooShort, "2048 bits"},
		"and as a JWK":                       {jwk(weakRSA()), "", clientauth.ErrKeyTooShort, "2048 bits"},
		"another curve":                      {pkcs8(p384Key()), "", clientauth.ErrKeyType, "P-256"},
		"another curve, as a JWK":            {jwk(p384Key()), "", clientauth.ErrKeyType, "P-256"},
		"a key that signs nothing":           {pkcs8(x25519), "", clientauth.ErrKeyType, "signs nothing"},
		"a secret, as a JWK":                 {jwk([]byte("0123456789abcdef0123456789abcdef")), "", clientauth.ErrKeyType, "SecretJWT"},
		"a JWK for encryption":               {jwk(ecKey(), use("enc")), "", clientauth.ErrKeyType, "for signing"},
		"a JWK for something else":           {strings.Replace(jwk(ecKey()), "{", `{"key_ops":["verify"],`, 1), "", clientauth.ErrKeyType, "key_ops"},
		"a JWK for another algorithm":        {jwk(ecKey(), alg("RS256")), "", clientauth.ErrAlgorithm, "ES256"},
		"a JWK whose parts do not fit":       {swapped, "", clientauth.ErrFormat, "does not belong"},
		"a public key":                       {block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(ecKey().Public()))), "", clientauth.ErrPublicKey, "BEGIN PRIVATE KEY"},
		"a certificate":                      {block("CERTIFICATE", newCert(t, certOptions{}).Certificate[0]), "", clientauth.ErrPublicKey, "BEGIN PRIVATE KEY"},
		"a public JWK":                       {jwk(publicOf(ecKey())), "", clientauth.ErrPublicKey, "private key"},
		"a public JWKS":                      {set(jwk(publicOf(ecKey()))), "", clientauth.ErrPublicKey, "private key"},
		"an encrypted key":                   {block("ENCRYPTED PRIVATE KEY", []byte("x")), "", clientauth.ErrEncrypted, "openssl pkey"},
		"a key encrypted in the old way":     {"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n", "", clientauth.ErrEncrypted, "openssl pkey"},
		"a key of OpenSSH":                   {block("OPENSSH PRIVATE KEY", []byte("x")), "", clientauth.ErrFormat, "ssh-keygen"},
		"a block that is no key":             {block("X509 CRL", []byte("x")), "", clientauth.ErrFormat, "BEGIN PRIVATE KEY"},
		"a damaged block":                    {block("PRIVATE KEY", []byte("canary")), "", clientauth.ErrFormat, "damaged"},
		"DER":                                {string(must(x509.MarshalPKCS8PrivateKey(ecKey()))), "", clientauth.ErrFormat, "-inform DER"},
		"nothing":                            {"", "", clientauth.ErrFormat, "BEGIN PRIVATE KEY"},
		"a damaged JWK":                      {`{"kty":"EC","crv":"P-256","d":"canary"}`, "", clientauth.ErrFormat, "damaged"},
		"JSON that breaks off":               {`{"keys": [`, "", clientauth.ErrFormat, "JSON"},
		"JSON with a member twice":           {`{"kty":"EC","kty":"RSA"}`, "", clientauth.ErrFormat, "twice"},
		"keys that are no list":              {`{"keys": "canary"}`, "", clientauth.ErrFormat, "list"},
		"too much":                           {strings.Repeat("canary\n", 1<<18), "", clientauth.ErrFormat, "larger"},
		"two keys in a file":                 {pkcs8(ecKey()) + pkcs8(edKey()), "", clientauth.ErrAmbiguous, "leave one"},
		"two keys in a set":                  {set(jwk(ecKey()), jwk(edKey())), "", clientauth.ErrAmbiguous, "key ID"},
		"an empty set":                       {set(), "", clientauth.ErrNoKey, "no private key"},
		"a set without the key":              {set(jwk(ecKey(), kid("a"))), "b", clientauth.ErrNoKey, `"b"`},
		"a JWK with another kid":             {jwk(ecKey(), kid("a")), "b", clientauth.ErrNoKey, `"a"`},
		"a set whose key is not good enough": {set(jwk(weakRSA(), kid("a"))), "a", clientauth.ErrKeyTooShort, "2048"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := clientauth.ParseKey([]byte(test.data), test.id)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.says) || !strings.HasPrefix(err.Error(), "clientauth: ") {
				t.Fatalf("got %v, want %v with %q", err, test.want, test.says)
			}
			for _, piece := range []string{"canary", member(test.data, "d"), member(test.data, "k")} {
				if piece != "" && strings.Contains(err.Error(), piece) {
					t.Errorf("it shows the key: %v", err)
				}
			}
		})
	}
}

// member is a member of a JWK, or "".
func member(data, name string) string {
	var all map[string]any
	json.Unmarshal([]byte(data), &all)
	s, _ := all[name].(string)
	return s
}

func TestLoadKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "client.pem")
	if err := os.WriteFile(path, []byte(pkcs8(ecKey())), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := clientauth.LoadKey(path, "id")
	if err != nil || !ecKey().PublicKey.Equal(key.Public()) {
		t.Error(err)
	}
	if _, err := clientauth.LoadKey(filepath.Join(dir, "none"), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	if _, err := clientauth.LoadKey(dir, ""); err == nil {
		t.Error("a directory is no key")
	}
	os.WriteFile(path, nil, 0o600)
	if _, err := clientauth.LoadKey(path, ""); !errors.Is(err, clientauth.ErrFormat) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want ErrFormat with the path", err)
	}
}

func TestNewKey(t *testing.T) {
	var none *rsa.PrivateKey
	mixed := *ecKey()
	mixed.PublicKey = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)).PublicKey
	for name, test := range map[string]struct {
		signer crypto.Signer
		want   error
	}{
		"nil":                          {nil, clientauth.ErrNoKey},
		"a nil pointer":                {none, clientauth.ErrNoKey},
		"RSA below 2048 bits":          {weakRSA(), clientauth.ErrKeyTooShort},
		"another curve":                {p384Key(), clientauth.ErrKeyType},
		"a public key of its own kind": {signerFunc{public: "x"}, clientauth.ErrKeyType},
		"Ed25519 of no bytes":          {ed25519.PrivateKey(nil), clientauth.ErrFormat},
		"the seed of an Ed25519 key":   {ed25519.PrivateKey(edKey().Seed()), clientauth.ErrFormat},
		"RSA of nothing":               {&rsa.PrivateKey{}, clientauth.ErrKeyTooShort},
		"RSA without a private part":   {&rsa.PrivateKey{PublicKey: rsaKey().PublicKey}, clientauth.ErrFormat},
		"EC of nothing":                {&ecdsa.PrivateKey{}, clientauth.ErrKeyType},
		"EC without a private part":    {&ecdsa.PrivateKey{PublicKey: ecKey().PublicKey}, clientauth.ErrFormat},
		"EC with another public key":   {&mixed, clientauth.ErrFormat},
		"RSA":                          {rsaKey(), nil},
		"EC":                           {ecKey(), nil},
		"Ed25519":                      {edKey(), nil},
		"one kept elsewhere":           {signerFunc{public: ecKey().Public()}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := clientauth.NewKey(test.signer); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// The JWKS to be registered has the public key, and nothing else of it.
func TestPublicJWKS(t *testing.T) {
	for _, signer := range []crypto.Signer{rsaKey(), ecKey(), edKey()} {
		key := must(clientauth.ParseKey([]byte(jwk(signer, kid("own"))), ""))
		for id, want := range map[string]string{"": "own", "other": "other"} {
			data, err := key.PublicJWKS(id)
			if err != nil {
				t.Fatal(err)
			}
			var all jose.JSONWebKeySet
			if err := json.Unmarshal(data, &all); err != nil || len(all.Keys) != 1 || all.Keys[0].KeyID != want || all.Keys[0].Use != "sig" || !all.Keys[0].IsPublic() {
				t.Errorf("got %s, %v", data, err)
			}
			if d := member(jwk(signer), "d"); bytes.Contains(data, []byte(d)) {
				t.Error("the private part is in it")
			}
		}
	}
}

// ST-redact: nothing that this package makes shows what is secret in it.
func TestNothingShowsAKey(t *testing.T) {
	const secret = "hush-hush-hush-hush-hush-hush-hush"
	key := must(clientauth.ParseKey([]byte(jwk(ecKey())), ""))
	jwt := must(clientauth.PrivateKeyJWT(key, clientauth.Options{}))
	cert := must(clientauth.NewCertificate(newCert(t, certOptions{key: ecKey()})))
	var b bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&b, nil))
	for _, v := range []any{key, *key, jwt, must(clientauth.SecretJWT(secret, clientauth.Options{})), cert, cert.With(jwt), cert.Client(),
		(*clientauth.Key)(nil), (*clientauth.JWT)(nil), (*clientauth.Certificate)(nil)} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&b, verb+"\n", v)
		}
		data, _ := json.Marshal(v)
		b.Write(data)
		log.Info("x", "v", v)
	}
	d := must(base64.RawURLEncoding.DecodeString(member(jwk(ecKey()), "d")))
	for _, piece := range []string{secret, fmt.Sprintf("%x", secret), member(jwk(ecKey()), "d"), fmt.Sprintf("%x", d), fmt.Sprint(d[:8])[1:], new(big.Int).SetBytes(d).String()} {
		if strings.Contains(b.String(), strings.TrimSuffix(piece, "]")) {
			t.Errorf("it shows a key, as %s", piece)
		}
	}
}

// FuzzParseKey reads whatever a file may hold: it makes a key that signs, or an
// error of this package that shows nothing of it.
func FuzzParseKey(f *testing.F) {
	for _, data := range []string{pkcs8(ecKey()), pkcs8(edKey()), jwk(ecKey(), kid("a")), jwk(edKey()), set(jwk(ecKey(), kid("a")), jwk(edKey())),
		jwk([]byte("0123456789abcdef")), `{"keys":[{}]}`, "-----BEGIN X-----\n-----END X-----\n", block("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(ecKey().Public())))} {
		f.Add([]byte(data), "")
		f.Add([]byte(data), "a")
	}
	kinds := []error{clientauth.ErrFormat, clientauth.ErrKeyType, clientauth.ErrKeyTooShort, clientauth.ErrPublicKey, clientauth.ErrEncrypted,
		clientauth.ErrAlgorithm, clientauth.ErrNoKey, clientauth.ErrAmbiguous}
	f.Fuzz(func(t *testing.T, data []byte, id string) {
		key, err := clientauth.ParseKey(data, id)
		if err == nil {
			jwt, err := clientauth.PrivateKeyJWT(key, clientauth.Options{})
			if err == nil {
				_, err = jwt.AuthenticateClient(t.Context(), to)
			}
			if err != nil {
				t.Fatalf("a key that does not sign: %v", err)
			}
			return
		}
		known := 0
		for _, kind := range kinds {
			if errors.Is(err, kind) {
				known++
			}
		}
		if known != 1 || len(err.Error()) > 400 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			t.Fatalf("the error %q", err)
		}
	})
}
