package keyring

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// An item's text is ASCII, and begins with the version of its format and its
// type. Fields are separated by dots, which base64url does not contain:
//
//	ft1.v.SUM.DATA                       a value
//	ft1.w.SUM.DATA                       a value, and there may be parts
//	ft1.c.SLOT.COUNT.LENGTH.DIGEST.GEN   a value, in COUNT parts of a slot
//	ft1.x.SUM                            no value, but there may be parts
//	ft1.p.GEN.DATA                       a part
//
// All but the last are heads: a key has at most one, and it alone decides what
// is stored. SUM and DIGEST cover the account besides the value, so that an
// item moved to another account is damage there. Where there is no head, or the
// head is a plain value, there are no parts; so a value that fits one item costs no
// look at anything else.
const (
	version    = "ft1"
	typeValue  = "v"
	typeUnsure = "w"
	typeParts  = "c"
	typeGone   = "x"
	typePart   = "p"

	sumLen = 16 // hex digits of a sum or a generation
	// itemHeader is what the text of a value or of a part adds to its data.
	itemHeader = len("ft1.v.") + sumLen + len(".")
)

var encoding = base64.RawURLEncoding

// rawLimit is how many bytes fit an item whose text may have limit bytes; a
// multiple of 3, so that base64 wastes nothing.
func rawLimit(limit int) int { return (limit - itemHeader) / 4 * 3 }

// head is a parsed head.
type head struct {
	kind   string // one of the types, or "" where there is none
	value  []byte // of typeValue and typeUnsure
	slot   byte   // of typeParts, like all that follow: 'a' or 'b'
	count  int
	length int
	digest [sha256.Size]byte
	gen    string // a random name for what was written together
}

// holdsValue reports whether a value is stored.
func (h *head) holdsValue() bool { return h.kind != "" && h.kind != typeGone }

// mayHaveParts reports whether there may be parts besides the head.
func (h *head) mayHaveParts() bool { return h.kind != "" && h.kind != typeValue }

// text returns the head as the item of account.
func (h *head) text(account string) string {
	switch h.kind {
	case typeValue, typeUnsure:
		return strings.Join([]string{version, h.kind, sum(account, h.value), encoding.EncodeToString(h.value)}, ".")
	case typeParts:
		return fmt.Sprintf("%s.%s.%c.%d.%d.%x.%s", version, h.kind, h.slot, h.count, h.length, h.digest, h.gen)
	}
	return strings.Join([]string{version, h.kind, sum(account, nil)}, ".")
}

// digest identifies value as that of account. All accounts of heads have the
// same length, so nothing needs to part the two.
func digest(account string, value []byte) (d [sha256.Size]byte) {
	h := sha256.New()
	h.Write([]byte(account))
	h.Write(value)
	h.Sum(d[:0])
	return d
}

// sum tells a value that was cut short, or is another account's, from a whole
// one of account.
func sum(account string, value []byte) string {
	d := digest(account, value)
	return hex.EncodeToString(d[:sumLen/2])
}

// errForm says what is wrong with an item's text, without quoting it.
var errForm = errors.New("not in the form that this program writes")

// fields splits an item's text after its version.
func fields(text string) ([]string, error) {
	f := strings.Split(text, ".")
	if f[0] == version {
		return f[1:], nil
	}
	if v, err := strconv.Atoi(strings.TrimPrefix(f[0], "ft")); err == nil && strings.HasPrefix(f[0], "ft") && v > 1 {
		return nil, errNewer
	}
	return nil, &damaged{errForm.Error()}
}

// errSum is damage to a head.
var errSum = &damaged{"its checksum is wrong, or it belongs to another account"}

// parseHead parses the text of the head of account.
func parseHead(account, text string) (*head, error) {
	f, err := fields(text)
	if err != nil {
		return nil, err
	}
	bad := &damaged{errForm.Error()}
	switch {
	case len(f) == 3 && (f[0] == typeValue || f[0] == typeUnsure):
		value, err := encoding.Strict().DecodeString(f[2])
		if err != nil {
			return nil, bad
		}
		if sum(account, value) != f[1] {
			return nil, errSum
		}
		return &head{kind: f[0], value: value}, nil
	case len(f) == 6 && f[0] == typeParts:
		h := &head{kind: f[0], gen: f[5]}
		var errs [2]error
		h.count, errs[0] = strconv.Atoi(f[2])
		h.length, errs[1] = strconv.Atoi(f[3])
		digest, err := hex.DecodeString(f[4])
		if err != nil || errs[0] != nil || errs[1] != nil || len(digest) != len(h.digest) ||
			(f[1] != "a" && f[1] != "b") || h.count < 1 || h.count > maxParts || h.length < 0 || h.length > maxValue {
			return nil, bad
		}
		h.slot = f[1][0]
		copy(h.digest[:], digest)
		return h, nil
	case len(f) == 2 && f[0] == typeGone:
		if sum(account, nil) != f[1] {
			return nil, errSum
		}
		return &head{kind: f[0]}, nil
	}
	return nil, bad
}

// partText is the text of a part.
func partText(gen string, data []byte) string {
	return strings.Join([]string{version, typePart, gen, encoding.EncodeToString(data)}, ".")
}

// parsePart returns the data of a part written together with gen.
func parsePart(text, gen string) ([]byte, bool) {
	f, err := fields(text)
	if err != nil || len(f) != 3 || f[0] != typePart || f[1] != gen {
		return nil, false
	}
	data, err := encoding.Strict().DecodeString(f[2])
	return data, err == nil
}

// accountOf derives the account of an item: 40 lowercase hex digits that tell
// nothing, and that no keyring folds, splits or escapes. The service is part
// of what is hashed because Windows does not tell "App" from "app".
func accountOf(purpose, service, name string) string {
	var b []byte
	for _, s := range []string{"freshtoken keyring 1", purpose, service, name} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	d := sha256.Sum256(b)
	return hex.EncodeToString(d[:20])
}

// partAccount names part i of a slot. It is hex, too.
func partAccount(account string, slot byte, i int) string {
	return fmt.Sprintf("%s%c%04x", account, slot, i)
}

// items reads and writes the items of one service through the gate.
type items struct {
	gate    *gate
	service string
	opts    Options
}

// get reads an item. The error is errAbsent where there is none.
func (s *items) get(ctx context.Context, account string) (string, error) {
	return s.call(ctx, "reading", "", account, func(b backend) (string, error) { return b.Get(s.service, account) })
}

// put writes an item and reads it back, because a keyring may report success
// and store nothing. The write belongs to owner.
func (s *items) put(ctx context.Context, owner, account, text string) error {
	_, err := s.call(ctx, "writing", owner, account, func(b backend) (string, error) { return "", b.Set(s.service, account, text) })
	if err == errAbsent {
		err = during("writing", fail(nil, err)) // that is no answer to a write
	}
	if err != nil {
		return err
	}
	switch got, err := s.get(ctx, account); {
	case err == errAbsent:
		return s.refused("writing", errNotStored)
	case err != nil:
		return err
	case got != text:
		// Perhaps what it had before: that, too, is a success that was none.
		err := fail(nil, errAltered)
		s.gate.refused(err)
		return during("writing", err)
	}
	s.gate.allowed()
	return nil
}

// remove deletes an item, and looks whether it has gone. That there is none is
// no error.
func (s *items) remove(ctx context.Context, owner, account string) error {
	_, err := s.call(ctx, "deleting", owner, account, func(b backend) (string, error) { return "", b.Delete(s.service, account) })
	if err == errAbsent {
		return nil
	}
	if err != nil {
		return err
	}
	switch _, err := s.get(ctx, account); {
	case err == errAbsent:
		s.gate.allowed()
		return nil
	case err != nil:
		return err
	}
	return s.refused("deleting", errStillHere)
}

// refused takes a success that was none for a refusal.
func (s *items) refused(doing string, why error) error {
	err := fail(ErrLocked, why)
	s.gate.refused(err)
	return during(doing, err)
}

// call makes one call about account, and names what it does in the failures.
func (s *items) call(ctx context.Context, doing, owner, account string, do func(backend) (string, error)) (string, error) {
	text, err := s.gate.enter(ctx, &call{
		do: do, writes: owner, service: s.service, account: account, timeout: s.opts.Timeout, prompt: s.opts.Prompt,
	})
	if kind := kindOf(err); kind == ErrLocked || kind == ErrUnavailable {
		return text, err // as it is for any call
	}
	return text, during(doing, err)
}
