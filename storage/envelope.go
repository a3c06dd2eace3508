package storage

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
)

// A sealed value is a header followed by what AES-256-GCM makes of the name
// under which the value is stored and the value itself. Numbers are big-endian;
// P is the length of the key's parameters.
//
//	offset  size  field
//	0       8     magic: 8d 66 74 73 65 61 6c 0a
//	8       1     version of the format: 1
//	9       2     length of the header, up to and with the checksum: 69 + P
//	11      1     P, 0 to 255
//	12      P     parameters of the key, see Key and Passphrase
//	12+P    16    key check: HKDF-SHA-256(key, no salt, "freshtoken storage v1 check")
//	28+P    32    salt, random for each Save
//	60+P    9     checksum: the first 9 bytes of SHA-256 over all of the above
//	69+P          ciphertext, as long as the plaintext
//	              authentication tag, 16 bytes
//
// The plaintext:
//
//	offset  size  field
//	0       2     N, the length of the name, 0 to 65535
//	2       N     the name
//	2+N           the value
//
// Key and nonce of AES-256-GCM are the first 32 and the last 12 bytes of
// HKDF-SHA-256(key, salt, "freshtoken storage v1 value"). No two values share
// them, since their salts differ: there is no nonce to run out of. The additional
// data are the header.
//
// The name is inside so that values can be listed by who has the key, and by
// nobody else. Whoever opens a value compares the name with that of the place
// where it lay: a value that was moved to another name is damaged.
//
// The marker that Seal keeps is sealed likewise, with an empty plaintext, and
// the key derivation says "freshtoken storage v1 marker". So it opens under no
// name, were it moved to one.
//
// The checksum is no protection against an attacker: the additional data are.
// It tells damage from a wrong key before any key is derived, and damage from a
// newer version: every version begins with magic, version and header length,
// and ends its header with that checksum.
const (
	magic        = "\x8dftseal\n"
	version1     = 1
	prefixSize   = len(magic) + 1 + 2
	checkSize    = 16
	saltSize     = 32
	sumSize      = 9
	tagSize      = 16
	fixedSize    = prefixSize + 1 + checkSize + saltSize + sumSize // a header without parameters
	maxParams    = 255
	lengthSize   = 2 // of what says how long the name is
	maxName      = 1<<(8*lengthSize) - 1
	overheadSize = fixedSize + maxParams + lengthSize + maxName + tagSize // at most
)

// material is a key with what a header says of it.
type material struct {
	key    []byte
	params []byte
	check  [checkSize]byte
}

// newMaterial checks what a Key returned.
func newMaterial(key, params []byte) (*material, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("storage: the Key returned %d bytes, not %d", len(key), KeySize)
	}
	if len(params) > maxParams {
		return nil, fmt.Errorf("storage: the Key returned %d bytes of parameters, more than %d", len(params), maxParams)
	}
	m := &material{key: key, params: bytes.Clone(params)}
	check, err := hkdf.Key(sha256.New, key, nil, "freshtoken storage v1 check", checkSize)
	if err != nil {
		return nil, fmt.Errorf("storage: derive the key check: %w", err)
	}
	copy(m.check[:], check)
	return m, nil
}

// fits reports whether m is the key that h was made with.
func (m *material) fits(h header) bool {
	return bytes.Equal(m.params, h.params) && subtle.ConstantTimeCompare(m.check[:], h.check) == 1
}

// What is derived for a value is of no use for a marker.
const (
	infoValue  = "freshtoken storage v1 value"
	infoMarker = "freshtoken storage v1 marker"
)

// aead returns the cipher and the nonce of the one value that has this salt.
func (m *material) aead(salt []byte, info string) (cipher.AEAD, []byte, error) {
	okm, err := hkdf.Key(sha256.New, m.key, salt, info, KeySize+12)
	if err != nil {
		return nil, nil, err
	}
	block, err := aes.NewCipher(okm[:KeySize])
	if err != nil {
		return nil, nil, err
	}
	gcm, err := cipher.NewGCM(block)
	return gcm, okm[KeySize:], err
}

// seal returns the sealed value for the store's key name, which has at most
// maxName bytes. The salt has been used for no other value.
func (m *material) seal(name string, value []byte, salt *[saltSize]byte) ([]byte, error) {
	b := m.header(salt, lengthSize+len(name)+len(value))
	size := len(b)
	b = binary.BigEndian.AppendUint16(b, uint16(len(name)))
	b = append(b, name...)
	b = append(b, value...)
	return m.encrypt(b, size, salt, infoValue)
}

// mark returns a marker: it tells the key, as any sealed value does, and is no
// value itself.
func (m *material) mark(salt *[saltSize]byte) ([]byte, error) {
	b := m.header(salt, 0)
	return m.encrypt(b, len(b), salt, infoMarker)
}

// encrypt encrypts in place what follows the header, of this size, in b.
func (m *material) encrypt(b []byte, size int, salt *[saltSize]byte, info string) ([]byte, error) {
	gcm, nonce, err := m.aead(salt[:], info)
	if err != nil {
		return nil, fmt.Errorf("storage: seal: %w", err)
	}
	return gcm.Seal(b[:size], nonce, b[size:], b[:size]), nil
}

// header returns a header, with room for a plaintext of this size to follow.
func (m *material) header(salt *[saltSize]byte, room int) []byte {
	size := fixedSize + len(m.params)
	b := make([]byte, 0, size+room+tagSize)
	b = append(b, magic...)
	b = append(b, version1)
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	b = append(b, byte(len(m.params)))
	b = append(b, m.params...)
	b = append(b, m.check[:]...)
	b = append(b, salt[:]...)
	sum := sha256.Sum256(b)
	return append(b, sum[:sumSize]...)
}

// open returns the value that h heads, and the name under which it was sealed.
// The caller has seen that m fits, and sees whether the name is the right one.
func (m *material) open(h header) (name, value []byte, err error) {
	gcm, nonce, err := m.aead(h.salt, infoValue)
	if err != nil {
		return nil, nil, fmt.Errorf("storage: open: %w", err)
	}
	plain, err := gcm.Open(nil, nonce, h.body, h.raw)
	if err != nil {
		return nil, nil, damaged("it was altered or cut short")
	}
	if len(plain) < lengthSize {
		return nil, nil, damaged("it has no name")
	}
	n := lengthSize + int(binary.BigEndian.Uint16(plain))
	if len(plain) < n {
		return nil, nil, damaged("its name is cut short")
	}
	return plain[lengthSize:n:n], plain[n:], nil
}

// moved is the error of a value that opens but lies under another name.
func moved() error { return damaged("it belongs to another session") }

// A header is a sealed value taken apart; its fields are parts of that value.
type header struct {
	raw    []byte // all of the header
	params []byte // never nil
	check  []byte
	salt   []byte
	body   []byte // ciphertext and tag
}

// parse takes a sealed value apart. The error is ErrCorrupt or ErrNewerVersion.
func parse(sealed []byte) (header, error) {
	if len(sealed) < prefixSize || string(sealed[:len(magic)]) != magic {
		return header{}, fmt.Errorf("storage: %w: it does not begin as a sealed value does; "+
			"restore it from a backup, or log in again", ErrCorrupt)
	}
	size := int(binary.BigEndian.Uint16(sealed[prefixSize-2:]))
	if size < prefixSize+sumSize || size > len(sealed) {
		return header{}, damaged("its header is cut short")
	}
	raw := sealed[:size:size]
	sum := sha256.Sum256(raw[:size-sumSize])
	if !bytes.Equal(sum[:sumSize], raw[size-sumSize:]) {
		return header{}, damaged("its header was altered")
	}
	if v := raw[len(magic)]; v != version1 {
		return header{}, fmt.Errorf("storage: %w: format %d, where this one knows %d; update this program, or log in again elsewhere",
			ErrNewerVersion, v, version1)
	}
	if size < fixedSize || size != fixedSize+int(raw[prefixSize]) || len(sealed)-size < tagSize {
		return header{}, damaged("its lengths do not add up")
	}
	rest := raw[prefixSize+1:]
	n := int(raw[prefixSize])
	return header{
		raw:    raw,
		params: rest[:n:n],
		check:  rest[n : n+checkSize],
		salt:   rest[n+checkSize : n+checkSize+saltSize],
		body:   sealed[size:],
	}, nil
}

func damaged(how string) error {
	return fmt.Errorf("storage: %w: %s; restore it from a backup, or log in again", ErrCorrupt, how)
}
