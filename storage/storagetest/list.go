package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A lister is a Store that is a freshtoken.Lister, too.
type lister interface {
	List(ctx context.Context) ([]string, error)
}

// canList returns s as a lister, or nil: to list is optional. The test is then
// not marked as skipped, since there is nothing that ought to be done about it.
// A store over another one may know only when it is called that it cannot.
func canList(t *testing.T, s Store) lister {
	t.Helper()
	l, ok := s.(lister)
	if !ok {
		t.Log("not checked, since the store has no List method, which is optional")
		return nil
	}
	if _, err := l.List(context.Background()); errors.Is(err, errors.ErrUnsupported) {
		t.Logf("not checked, since the store says that it cannot list, which is optional: %v", err)
		return nil
	}
	return l
}

// wantsListed fails the test unless l lists these keys, each once.
func wantsListed(t *testing.T, l lister, when string, want []string) {
	t.Helper()
	got, err := l.List(context.Background())
	if err != nil {
		t.Fatalf("List %s: %v", when, err)
	}
	if missing, excess := compare(got, want); len(missing)+len(excess) > 0 {
		t.Fatalf("List %s: missing are %s, in excess are %s", when, quoted(missing), quoted(excess))
	}
	clear(got) // the caller's to modify
}

// compare returns which of want are missing in got, and what else is there,
// that which is there twice included.
func compare(got, want []string) (missing, excess []string) {
	excess = slices.Clone(got)
	for _, k := range want {
		if i := slices.Index(excess, k); i >= 0 {
			excess = slices.Delete(excess, i, i+1)
		} else {
			missing = append(missing, k)
		}
	}
	return missing, excess
}

// quoted shows keys, some of which are long.
func quoted(keys []string) string {
	if len(keys) == 0 {
		return "none"
	}
	shown := make([]string, len(keys))
	for i, k := range keys {
		shown[i] = fmt.Sprintf("%.40q (%d bytes)", k, len(k))
	}
	return strings.Join(shown, ", ")
}

func testList(t *testing.T, s Store) {
	l := canList(t, s)
	if l == nil {
		return
	}
	ctx := context.Background()
	wantsListed(t, l, "of an empty store", nil)
	defer lock(t, s, "locked")() // a lock is no value
	wantsAbsent(t, s, "absent")  // nor is a look
	wantsListed(t, l, "of a store with nothing but a lock", nil)

	keys := []string{
		"", "a", "A", "a\x00b", "\x00", "a/../b", "..", "a%2fb", "a b\n", "ä", "a\u0308", "日本", "\xff",
		"freshtoken.seal/key", string(bytes.Repeat([]byte("k"), 600)), string(bytes.Repeat([]byte("k"), 601)),
	}
	for i, k := range keys {
		save(t, s, k, pattern(i, 40))
		wantsListed(t, l, fmt.Sprintf("after Save of %.40q", k), keys[:i+1])
	}
	save(t, s, "a", nil) // zero bytes are a value
	wantsListed(t, l, "after a second Save", keys)
	for i, k := range keys {
		if err := s.Delete(ctx, k); err != nil {
			t.Fatalf("Delete(%q): %v", k, err)
		}
		wantsListed(t, l, fmt.Sprintf("after Delete of %.40q", k), keys[i+1:])
	}
	save(t, s, "", nil)
	wantsListed(t, l, "after all was deleted and one key saved again", []string{""})

	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := l.List(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("List with a cancelled context: got %v, want an error that is context.Canceled", err)
	}
}

// testListWhile lists while others save and delete: what nobody touches is
// there, and nothing that was never saved is.
func testListWhile(t *testing.T, s Store) {
	l := canList(t, s)
	if l == nil {
		return
	}
	const writers, readers, rounds = 3, 2, 15
	still := []string{"still", "still ä", ""}
	for i, k := range still {
		save(t, s, k, pattern(i, 100))
	}
	var busy []string
	for w := range writers {
		busy = append(busy, fmt.Sprint("again", w), fmt.Sprint("come and gone", w))
	}
	ctx := context.Background()
	var ready, writing, reading sync.WaitGroup
	stop := make(chan struct{})
	for range readers {
		ready.Add(1)
		reading.Go(func() {
			for n := 0; ; n++ {
				err := listOnce(ctx, l, still, busy)
				if n == 0 {
					ready.Done()
				}
				if err != nil {
					t.Errorf("List while others save and delete: %v", err)
					return
				}
				select {
				case <-stop:
					return
				default:
					runtime.Gosched()
				}
			}
		})
	}
	ready.Wait()
	for w := range writers {
		writing.Go(func() {
			for i := range rounds {
				err := errors.Join(s.Save(ctx, busy[2*w], framed(i)), s.Save(ctx, busy[2*w+1], framed(i)), s.Delete(ctx, busy[2*w+1]))
				if err != nil {
					t.Errorf("Save and Delete while others list: %v", err)
					return
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	reading.Wait()
	for w := range writers {
		still = append(still, busy[2*w])
	}
	wantsListed(t, l, "after others saved and deleted", still)
}

// listOnce returns an error unless l lists what is there, and perhaps some of
// what may be there.
func listOnce(ctx context.Context, l lister, there, perhaps []string) error {
	got, err := l.List(ctx)
	if err != nil {
		return err
	}
	missing, excess := compare(got, there)
	if _, excess = compare(excess, perhaps); len(missing)+len(excess) > 0 {
		return fmt.Errorf("missing are %s, in excess are %s", quoted(missing), quoted(excess))
	}
	return nil
}
