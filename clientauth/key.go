package clientauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"

	"github.com/go-jose/go-jose/v4"
)

// The algorithms by which PrivateKeyJWT signs (RFC 7518 section 3.1, RFC 8037),
// and the one of SecretJWT.
const (
	RS256 = string(jose.RS256) // RSA keys, unless Options or the JWK says otherwise
	PS256 = string(jose.PS256) // RSA keys, for servers that demand it, as FAPI does
	ES256 = string(jose.ES256) // EC keys of the curve P-256
	EdDSA = string(jose.EdDSA) // Ed25519 keys
	HS256 = string(jose.HS256) // SecretJWT
)

const (
	minRSA  = 2048    // bits
	maxFile = 1 << 20 // bytes; key sets are of a few thousand
)

// A Key is a private key that assertions are signed with. Make one with
// LoadKey, ParseKey or NewKey. It is immutable, and prints without anything
// that is secret.
type Key struct {
	signer     crypto.Signer
	public     crypto.PublicKey
	id         string   // the kid of a JWK
	algorithms []string // that it can be used with; the first is the default
}

// LoadKey reads a private key from a file: see ParseKey for what it may hold.
func LoadKey(path, keyID string) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("clientauth: cannot read the key: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("clientauth: cannot read the key: %w", err)
	}
	k, err := ParseKey(data, keyID)
	if err != nil {
		return nil, fmt.Errorf("%w (the file is %s)", err, path)
	}
	return k, nil
}

// ParseKey reads a private key from
//
//   - PEM: PKCS #8 ("PRIVATE KEY"), PKCS #1 ("RSA PRIVATE KEY") or SEC 1 ("EC
//     PRIVATE KEY"). Certificates beside it are skipped;
//   - a JWK (RFC 7517);
//   - a JWKS: its key with the key ID keyID, or, if that is empty, the only one
//     that is private and for signing.
//
// keyID is the key's name at the server, and goes into the assertions' header.
// If it is empty, it is the JWK's kid; PEM has none. A JWK with another kid is
// ErrNoKey.
func ParseKey(data []byte, keyID string) (*Key, error) {
	if len(data) > maxFile {
		return nil, fail(ErrFormat, "it is larger than %d bytes: give a private key, as PEM, JWK or JWKS", maxFile)
	}
	switch trimmed := trim(data); {
	case len(trimmed) > 0 && trimmed[0] == '{':
		return parseJSON(trimmed, keyID)
	default:
		return parsePEM(trimmed, keyID)
	}
}

// NewKey makes a Key of a signer: a private key of the standard library, or one
// that is kept in a KMS, an HSM or a TPM, and asked for each assertion. Its
// Public method is called once. If the key has an ID at the server, that is
// Options.KeyID. The errors are ErrNoKey, ErrKeyTooShort, ErrKeyType, and ErrFormat
// for a private key of the standard library that cannot sign.
//
// A signer that does not return in time is left behind, and asked anew by the
// next request.
func NewKey(signer crypto.Signer) (*Key, error) {
	if signer == nil || reflect.ValueOf(signer).Kind() == reflect.Pointer && reflect.ValueOf(signer).IsNil() {
		return nil, fail(ErrNoKey, "the signer is nil: give a private key")
	}
	if key, ok := signer.(ed25519.PrivateKey); ok && len(key) != ed25519.PrivateKeySize {
		return nil, fail(ErrFormat, "an Ed25519 key has %d bytes, and this one %d: make one of a seed by ed25519.NewKeyFromSeed", ed25519.PrivateKeySize, len(key))
	}
	k, err := newKey(signer, "", "")
	if err != nil {
		return nil, err
	}
	switch signer.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey: // others may have to be asked over a network
		if !k.agrees() {
			return nil, fail(ErrFormat, "its private part is missing, or does not belong to the public one: read it anew from where it is kept")
		}
	}
	return k, nil
}

// newKey checks what a key can be used with. algorithm is the JWK's; "" if there
// is none.
func newKey(signer crypto.Signer, id, algorithm string) (*Key, error) {
	k := &Key{signer: signer, public: signer.Public(), id: id}
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		if public == nil || public.N == nil || public.N.BitLen() < minRSA {
			return nil, fail(ErrKeyTooShort, "RSA needs %d bits or more (RFC 7518 section 3.3): make another key, and register it at the server", minRSA)
		}
		k.algorithms = []string{RS256, PS256}
	case *ecdsa.PublicKey:
		if public == nil || public.Curve != elliptic.P256() {
			return nil, fail(ErrKeyType, "the curve of an EC key must be P-256 (ES256): make another key, and register it at the server")
		}
		k.algorithms = []string{ES256}
	case ed25519.PublicKey:
		k.algorithms = []string{EdDSA}
	default:
		return nil, fail(ErrKeyType, "it is a %T: use RSA of %d bits, EC of the curve P-256, or Ed25519", public, minRSA)
	}
	if algorithm != "" {
		alg, err := k.algorithm(algorithm)
		if err != nil {
			return nil, err
		}
		k.algorithms = []string{alg}
	}
	return k, nil
}

// algorithm checks an algorithm that was asked for; "" chooses. It is what
// everybody calls first who has a Key from outside.
func (k *Key) algorithm(asked string) (string, error) {
	if k == nil || k.signer == nil {
		return "", fail(ErrNoKey, "the Key is nil: make one with LoadKey, ParseKey or NewKey")
	}
	if asked == "" {
		return k.algorithms[0], nil
	}
	for _, alg := range k.algorithms {
		if alg == asked {
			return alg, nil
		}
	}
	return "", fail(ErrAlgorithm, "%q does not go with this key, which is for %q", short(asked), k.algorithms)
}

// Public returns the public key, to be registered at the server.
func (k *Key) Public() crypto.PublicKey { return k.public }

// PublicJWKS returns the public key as a JWKS (RFC 7517 section 5), as servers
// take it for the registration of a client, or fetch it from a jwks_uri. keyID
// names the key; empty means the JWK's kid.
func (k *Key) PublicJWKS(keyID string) ([]byte, error) {
	if keyID == "" {
		keyID = k.id
	}
	alg := ""
	if len(k.algorithms) == 1 { // otherwise it is not settled yet
		alg = k.algorithms[0]
	}
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: k.public, KeyID: keyID, Use: "sig", Algorithm: alg}}}
	data, err := json.MarshalIndent(set, "", "  ")
	if err != nil {
		return nil, fail(ErrKeyType, "its public key cannot be written down: use RSA, EC of the curve P-256, or Ed25519")
	}
	return data, nil
}

func (k *Key) describe() string {
	if k == nil || k.signer == nil {
		return "clientauth.Key{}"
	}
	return fmt.Sprintf("clientauth.Key{KeyID: %q, Algorithms: %q}", k.id, k.algorithms)
}

// Format implements fmt.Formatter: no verb shows the key.
func (k *Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.describe()) }

// MarshalJSON implements json.Marshaler, without the key.
func (k *Key) MarshalJSON() ([]byte, error) { return quote(k.describe()) }

// LogValue implements slog.LogValuer, without the key.
func (k *Key) LogValue() slog.Value { return slog.StringValue(k.describe()) }
