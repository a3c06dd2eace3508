package clientauth

import (
	"errors"
	"fmt"
)

// Errors to branch on, with errors.Is. The text of each says what to do, and
// holds nothing of a key, a secret or an assertion. All but ErrExpired, ErrSigner
// and ErrNoAudience come when a key or a certificate is read or put to use,
// before any request is made.
var (
	// ErrSecretTooShort: the secret is shorter than the hash that it is to be
	// used with (RFC 7518 section 3.2).
	ErrSecretTooShort = errors.New("the client secret is too short to sign with")

	// ErrKeyTooShort: an RSA key of fewer than 2048 bits (RFC 7518 section 3.3).
	ErrKeyTooShort = errors.New("the key is too short")

	// ErrKeyType: a key that none of the algorithms can use, such as one of
	// another curve than P-256 or Ed25519, or a symmetric one.
	ErrKeyType = errors.New("a key that assertions cannot be signed with")

	// ErrAlgorithm: the algorithm that was asked for is not one of this
	// package's, or does not go with the key.
	ErrAlgorithm = errors.New("an algorithm that does not fit")

	// ErrPublicKey: a public key, or a certificate, where a private key is
	// needed.
	ErrPublicKey = errors.New("a public key where the private one is needed")

	// ErrEncrypted: a private key that a passphrase protects.
	ErrEncrypted = errors.New("the private key is encrypted")

	// ErrFormat: what was read is neither PEM nor a JWK nor a JWKS, or is one
	// that is damaged.
	ErrFormat = errors.New("a key that cannot be read")

	// ErrNoKey: a key set has no private key for signing, or none with the key
	// ID that was asked for.
	ErrNoKey = errors.New("there is no such key")

	// ErrAmbiguous: there are several keys, and it was not said which.
	ErrAmbiguous = errors.New("there are several keys")

	// ErrMismatch: a certificate does not belong to the private key.
	ErrMismatch = errors.New("the certificate does not match the private key")

	// ErrExpired: a certificate has expired, or is not valid yet; or an
	// assertion had expired before it was signed.
	ErrExpired = errors.New("it is not valid at this time")

	// ErrLifetime: Options.Lifetime is out of bounds.
	ErrLifetime = errors.New("the lifetime of assertions is out of bounds")

	// ErrSigner: a crypto.Signer has failed. It passes as far as this package
	// knows: a *freshtoken.RefreshError that wraps it is Temporary.
	ErrSigner = errors.New("the signer failed")

	// ErrNoAudience: an assertion needs to know for whom it is, and neither
	// Config.Issuer nor the token URL is set.
	ErrNoAudience = errors.New("nobody is known for whom the assertion is")
)

// fail makes an error that leaves the package: its name once, a sentinel to
// branch on, and what to do.
func fail(sentinel error, format string, args ...any) error {
	return fmt.Errorf("clientauth: %w: %w", sentinel, fmt.Errorf(format, args...))
}
