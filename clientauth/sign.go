package clientauth

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"io"

	"github.com/freshtoken/freshtoken/internal/endpoint"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/cryptosigner"
)

// A signer makes JWTs of claims.
type signer struct {
	algorithm string
	key       any // what jose signs with
	verifier  any // that tells whether a signer has signed; nil: it need not be told
	id        string
	typ       string
}

// signing returns the signer of a key, without a typ.
func (k *Key) signing(algorithm string, o Options) signer {
	s := signer{algorithm: algorithm, id: cmp.Or(o.KeyID, k.id)}
	switch k.signer.(type) {
	case *rsa.PrivateKey, *ecdsa.PrivateKey, ed25519.PrivateKey:
		s.key = k.signer
	default:
		s.key, s.verifier = cryptosigner.Opaque(pss{k.signer, k.public}), k.public
	}
	return s
}

// Supports reports whether the key can sign by an algorithm; "" is the key's own.
// The errors are ErrNoKey and ErrAlgorithm.
func (k *Key) Supports(algorithm string) error {
	_, err := k.algorithm(algorithm)
	return err
}

// Sign signs a JWT with the claims that a JSON object has, for other purposes
// than to authenticate a client: see grant.JWTBearer. Of the Options it takes
// Algorithm, KeyID and Type; an empty Type is "JWT". The errors are ErrNoKey,
// ErrAlgorithm and ErrSigner; ctx bounds the wait for a signer outside this
// program.
func (k *Key) Sign(ctx context.Context, claims []byte, o Options) (string, error) {
	alg, err := k.algorithm(o.Algorithm)
	if err != nil {
		return "", err
	}
	s := k.signing(alg, o)
	s.typ = cmp.Or(o.Type, "JWT")
	return s.sign(ctx, claims)
}

// sign signs claims. A signer that is no more than a key in memory is not waited
// for in vain; another one may hang, and is left behind.
func (s *signer) sign(ctx context.Context, claims []byte) (string, error) {
	if s.verifier == nil {
		return s.signNow(claims)
	}
	type result struct {
		signed string
		err    error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if recover() != nil { // the length of a signature may be anything
				r = result{err: endpoint.Passing(fail(ErrSigner, "its signature cannot be read: check that it is a crypto.Signer of the kind that its public key says"))}
			}
			done <- r
		}()
		r.signed, r.err = s.signNow(claims)
	}()
	select {
	case r := <-done:
		return r.signed, r.err
	case <-ctx.Done():
		return "", endpoint.Passing(fail(ErrSigner, "it has not answered in time: %w", ctx.Err()))
	}
}

func (s *signer) signNow(claims []byte) (string, error) {
	o := new(jose.SignerOptions).WithType(jose.ContentType(s.typ))
	if s.id != "" {
		o = o.WithHeader("kid", s.id)
	}
	var told error
	key := s.key
	if opaque, ok := key.(jose.OpaqueSigner); ok {
		key = telling{opaque, &told}
	}
	with, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(s.algorithm), Key: key}, o)
	if err != nil {
		return "", fail(ErrAlgorithm, "%s does not go with this key", s.algorithm)
	}
	jws, err := with.Sign(claims)
	if told != nil {
		return "", endpoint.Passing(fail(ErrSigner, "check that it can be reached, and may be used: %w", told))
	}
	var signed string
	if err == nil {
		signed, err = jws.CompactSerialize()
	}
	if err == nil && s.verifier != nil {
		// A server would only say that it does not accept the client.
		if _, bad := jws.Verify(s.verifier); bad != nil {
			err = errors.New("its signature does not fit its public key: check which key it signs with")
		}
	}
	if err != nil {
		return "", endpoint.Passing(fail(ErrSigner, "%w", err))
	}
	return signed, nil
}

// telling remembers what a signer fails with, which jose does not always wrap.
type telling struct {
	jose.OpaqueSigner
	err *error
}

func (t telling) SignPayload(payload []byte, alg jose.SignatureAlgorithm) ([]byte, error) {
	signed, err := t.OpaqueSigner.SignPayload(payload, alg)
	*t.err = err
	return signed, err
}

// pss has a signer use a salt as long as the hash (RFC 7518 section 3.5), where
// cryptosigner leaves the choice to it; and its public key, which may have to
// come over a network, only once.
type pss struct {
	crypto.Signer
	public crypto.PublicKey
}

func (p pss) Public() crypto.PublicKey { return p.public }

func (p pss) Sign(random io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if asked, ok := o.(*rsa.PSSOptions); ok {
		o = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: asked.Hash}
	}
	return p.Signer.Sign(random, digest, o)
}
