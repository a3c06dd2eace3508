package clientauth

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"strings"

	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/go-jose/go-jose/v4"
)

// What is read here is the program's own, and secret. So no error of a decoder
// is passed on: some of them quote their input.

func trim(data []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
}

// short makes a text of a file or a program fit to be shown.
func short(s string) string { return endpoint.Sanitize(s, 60) }

func quote(s string) ([]byte, error) { return json.Marshal(s) }

const kinds = "give a private key as PEM (BEGIN PRIVATE KEY), as a JWK or as a JWKS"

// parsePEM finds the one private key among the blocks of a file.
func parsePEM(data []byte, keyID string) (*Key, error) {
	var found *Key
	public := false
	for blocks := 0; ; blocks++ {
		var block *pem.Block
		block, data = pem.Decode(data)
		switch {
		case block == nil && found != nil:
			return found, nil
		case block == nil && public:
			return nil, fail(ErrPublicKey, "%s; the public one is for the server", kinds)
		case block == nil && blocks == 0:
			return nil, fail(ErrFormat, "it is neither PEM nor JSON: %s (openssl pkey -in FILE -inform DER turns DER into PEM)", kinds)
		case block == nil:
			return nil, fail(ErrFormat, "no block of it is a private key: %s", kinds)
		}
		signer, err := parseBlock(block)
		switch {
		case err != nil:
			return nil, err
		case signer == nil:
			public = public || strings.Contains(block.Type, "PUBLIC KEY") || block.Type == "CERTIFICATE"
			continue
		case found != nil:
			return nil, fail(ErrAmbiguous, "the file has more than one private key: leave one")
		}
		if found, err = newKey(signer, keyID, ""); err != nil {
			return nil, err
		}
	}
}

// parseBlock reads one block. Without an error and without a signer, it is
// something else than a private key.
func parseBlock(block *pem.Block) (crypto.Signer, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
		return nil, fail(ErrEncrypted, "decrypt it where only this program can read it (openssl pkey -in FILE -out NEWFILE), or keep it in a KMS or TPM, and use NewKey")
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "OPENSSH PRIVATE KEY":
		return nil, fail(ErrFormat, "it is a key of OpenSSH: convert a copy of it (ssh-keygen -p -m PKCS8 -f COPY)")
	default:
		return nil, nil
	}
	if err != nil {
		return nil, fail(ErrFormat, "the block %q of it cannot be read: it is damaged, or of a kind that this program does not know; use RSA, EC of the curve P-256, or Ed25519", short(block.Type))
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fail(ErrKeyType, "it is a %T, which signs nothing: use RSA, EC of the curve P-256, or Ed25519", key)
	}
	return signer, nil
}

// parseJSON reads a JWK or a JWKS.
func parseJSON(data []byte, keyID string) (*Key, error) {
	all := make(map[string]json.RawMessage)
	repeated, err := endpoint.Object(data, all)
	if err != nil || len(repeated) > 0 {
		return nil, fail(ErrFormat, "it is not a JSON object, or has a member twice: %s", kinds)
	}
	raw, isSet := all["keys"]
	if !isSet {
		k, err := parseJWK(data)
		switch {
		case err != nil:
			return nil, err
		case keyID != "" && k.id != "" && k.id != keyID:
			return nil, fail(ErrNoKey, "the JWK has the kid %q, not %q: give its own, or none", short(k.id), short(keyID))
		case keyID != "":
			k.id = keyID
		}
		return k, nil
	}
	var keys []json.RawMessage
	if json.Unmarshal(raw, &keys) != nil {
		return nil, fail(ErrFormat, "its member keys is not a list: %s", kinds)
	}
	return choose(keys, keyID)
}

// choose finds the key of a set that is meant. Those that are not for signing,
// and those of unknown kinds, do not count, as RFC 7517 section 5 says; why the
// last of them does not is told if there is no other.
func choose(keys []json.RawMessage, keyID string) (*Key, error) {
	var found *Key
	var why error
	for _, raw := range keys {
		var about struct {
			Kid string `json:"kid"`
			Kty string `json:"kty"`
			Use string `json:"use"`
		}
		if json.Unmarshal(raw, &about) != nil || keyID != "" && about.Kid != keyID {
			continue
		}
		if about.Use != "" && about.Use != "sig" {
			continue
		}
		k, err := parseJWK(raw)
		switch {
		case err != nil:
			why = err
		case found != nil:
			return nil, fail(ErrAmbiguous, "the set has more than one private key for signing: say which by its key ID")
		default:
			found = k
		}
	}
	switch {
	case found != nil:
		return found, nil
	case why != nil:
		return nil, why
	case keyID != "":
		return nil, fail(ErrNoKey, "the set has no key for signing with the kid %q: compare the key IDs", short(keyID))
	}
	return nil, fail(ErrNoKey, "the set has no private key for signing: give one that has")
}

func parseJWK(data []byte) (*Key, error) {
	var j jose.JSONWebKey
	var ops struct {
		Ops []string `json:"key_ops"`
	}
	if json.Unmarshal(data, &j) != nil || json.Unmarshal(data, &ops) != nil {
		return nil, fail(ErrFormat, "the JWK is damaged, or of a kind that this program does not know: use RSA, EC of the curve P-256, or Ed25519")
	}
	signs := ops.Ops == nil
	for _, op := range ops.Ops {
		signs = signs || op == "sign"
	}
	switch {
	case j.Use != "" && j.Use != "sig", !signs && !j.IsPublic():
		return nil, fail(ErrKeyType, "the JWK is not for signing (use, key_ops): give one that is")
	case j.IsPublic():
		return nil, fail(ErrPublicKey, "the JWK has no private part: give the private key; the public one is for the server")
	}
	signer, ok := j.Key.(crypto.Signer)
	if !ok {
		return nil, fail(ErrKeyType, "the JWK is symmetric: use SecretJWT for a secret; here RSA, EC of the curve P-256, or Ed25519")
	}
	k, err := newKey(signer, j.KeyID, j.Algorithm)
	if err == nil && !k.agrees() {
		return nil, fail(ErrFormat, "the private part of the JWK does not belong to the public one: write it down anew from the original key")
	}
	return k, err
}

// agrees reports whether what a key signs fits its public part, which a JWK
// spells out beside the private one, and a program may have put together.
func (k *Key) agrees() (yes bool) {
	defer func() {
		if recover() != nil { // package ecdsa does without a private part
			yes = false
		}
	}()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(k.algorithms[0]), Key: k.signer}, nil)
	if err != nil {
		return false
	}
	jws, err := signer.Sign([]byte("{}"))
	if err != nil {
		return false
	}
	_, err = jws.Verify(k.public)
	return err == nil
}
