//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package secretservice_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/secretservice"
)

// onBus makes address that of the session bus for a test.
func onBus(t *testing.T, address string) { t.Setenv("DBUS_SESSION_BUS_ADDRESS", address) }

var all = []error{
	secretservice.ErrNoBus, secretservice.ErrDeadBus, secretservice.ErrNoProvider, secretservice.ErrNoCollection,
	secretservice.ErrLocked, secretservice.ErrBroken, secretservice.ErrTimeout, fs.ErrNotExist,
}

// wants fails the test unless err is the one error wanted; nil: none.
func wants(t *testing.T, err, want error) {
	t.Helper()
	if (err == nil) != (want == nil) {
		t.Errorf("%v, want %v", err, want)
	}
	for _, e := range all {
		if got := errors.Is(err, e); got != (e == want) {
			t.Errorf("%q matches %q: %v", err, e, got)
		}
	}
}

// wantsNoGrowth fails the test if goroutines stay.
func wantsNoGrowth(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		runtime.Gosched()
	}
	if after := runtime.NumGoroutine(); after > before {
		buf := make([]byte, 1<<16)
		t.Errorf("%d goroutines, there were %d:\n%s", after, before, buf[:runtime.Stack(buf, true)])
	}
}

func TestBusThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	closed := filepath.Join(dir, "closed")
	l, err := net.Listen("unix", closed)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	for address, want := range map[string]error{
		"unix:path=" + filepath.Join(dir, "missing"): secretservice.ErrDeadBus,
		"unix:path=" + closed:                        secretservice.ErrDeadBus,
		"tcp:host=127.0.0.1,port=1":                  secretservice.ErrDeadBus,
		"nonsense":                                   secretservice.ErrNoBus,
		"autolaunch:scope=none":                      secretservice.ErrNoBus,
	} {
		t.Run(address, func(t *testing.T) {
			onBus(t, address)
			before := runtime.NumGoroutine()
			for range 100 {
				wants(t, secretservice.Check(t.Context()), want)
				wants(t, secretservice.Unlock(t.Context()), want)
			}
			wantsNoGrowth(t, before)
		})
	}
}

// serve listens on a socket, and hands each connection to talk.
func serve(t *testing.T, talk func(net.Conn)) (address string) {
	path := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			talk(c)
			c.Close()
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return "unix:path=" + path
}

func TestBusThatHangsUp(t *testing.T) {
	onBus(t, serve(t, func(net.Conn) {}))
	wants(t, secretservice.Check(t.Context()), secretservice.ErrDeadBus)
}

func TestBusThatTalksNonsense(t *testing.T) {
	onBus(t, serve(t, func(c net.Conn) { c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) }))
	wants(t, secretservice.Check(t.Context()), secretservice.ErrDeadBus)
}

// A bus that accepts and says nothing costs the time of the context, no more.
func TestBusThatSaysNothing(t *testing.T) {
	onBus(t, serve(t, func(c net.Conn) {
		for b := make([]byte, 512); ; { // until the other side gives up
			if _, err := c.Read(b); err != nil {
				return
			}
		}
	}))
	before := runtime.NumGoroutine()
	for range 5 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		wants(t, secretservice.Check(ctx), secretservice.ErrTimeout)
		cancel()
	}
	wantsNoGrowth(t, before)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wants(t, secretservice.Check(ctx), secretservice.ErrTimeout)
}

// A connection that is not made costs the time of the context, no more. What
// holds it up here, after the connection itself, is a pipe that nobody writes.
func TestBusThatCannotBeReached(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	pipe := filepath.Join(t.TempDir(), "nonce")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	onBus(t, "nonce-tcp:host=127.0.0.1,port="+port+",noncefile="+pipe)
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	returned := make(chan error, 1)
	go func() { returned <- secretservice.Check(ctx) }()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	select {
	case err := <-returned:
		wants(t, err, secretservice.ErrTimeout)
	case <-time.After(10 * time.Second):
		t.Error("Check still waits for its connection long after its context is done")
	}
	w, err := os.OpenFile(pipe, os.O_WRONLY, 0) // now the attempt goes on
	if err != nil {
		t.Fatal(err)
	}
	w.Close()
	wantsNoGrowth(t, before) // and comes to nothing
}

func TestErrorsOfABusWithoutAProvider(t *testing.T) {
	for name, want := range map[string]bool{
		"org.freedesktop.DBus.Error.ServiceUnknown":               true,
		"org.freedesktop.DBus.Error.AccessDenied":                 true, // a sandbox
		"org.freedesktop.DBus.Error.Spawn.ServiceNotFound":        true,
		"org.freedesktop.DBus.Error.Spawn.PermissionsInvalid":     true,
		"org.freedesktop.DBus.Error.Spawn.ChildSignaled":          true,
		"org.freedesktop.DBus.Error.Failed":                       false,
		"org.freedesktop.Secret.Error.NoSuchObject":               false,
		"com.example.org.freedesktop.DBus.Error.Spawn.ForkFailed": false,
	} {
		if got := secretservice.NamesNoProvider(name); got != want {
			t.Errorf("%s says that there is no provider: %v, want %v", name, got, want)
		}
	}
}

// real says what Check and Unlock must find with each of the scripts in
// internal/keyringtest.
var real = map[string]struct{ check, unlock error }{
	"gnome-keyring":         {nil, nil},
	"keepassxc":             {nil, nil},
	"keepassxc-autosave":    {nil, nil},
	"bus-dies":              {nil, nil},
	"ok":                    {nil, nil},
	"changing":              {nil, nil},
	"slow":                  {nil, nil},
	"item-prompt-dismiss":   {nil, nil},
	"item-prompt-never":     {nil, nil},
	"delete-prompt-dismiss": {nil, nil},
	"is-locked":             {nil, nil},
	"drop-items":            {nil, nil},
	"quit":                  {nil, nil},
	"wrong-value":           {nil, nil},
	"none":                  {secretservice.ErrNoProvider, secretservice.ErrNoProvider},
	"no-bus":                {secretservice.ErrNoBus, secretservice.ErrNoBus},
	"no-login":              {secretservice.ErrNoCollection, secretservice.ErrNoCollection},
	"locked":                {secretservice.ErrLocked, secretservice.ErrLocked},
	"locked-unlocks":        {secretservice.ErrLocked, nil},
	"prompt-never":          {secretservice.ErrLocked, secretservice.ErrTimeout},
	"two-collections":       {nil, nil},
	"drop":                  {secretservice.ErrTimeout, secretservice.ErrTimeout},
}

func TestReal(t *testing.T) {
	mode := os.Getenv("FRESHTOKEN_KEYRING_TEST")
	if mode == "" {
		t.Skip("uses a real session bus: run it with internal/keyringtest/run")
	}
	want, ok := real[mode]
	if !ok {
		t.Fatalf("FRESHTOKEN_KEYRING_TEST=%q is not known", mode)
	}
	if _, err := os.Stat("/run/user/" + strconv.Itoa(os.Getuid()) + "/bus"); mode == "no-bus" && err == nil {
		t.Skip("the user of this test has a session bus at its well-known place: run it as a user without one")
	}
	before := runtime.NumGoroutine()
	patience := time.Minute // for what is to answer, however slow the machine
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if want.check == secretservice.ErrTimeout {
			ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
		}
		wants(t, secretservice.Check(ctx), want.check)
		cancel()
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if want.unlock == secretservice.ErrTimeout {
		ctx, cancel = context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
	}
	wants(t, secretservice.Unlock(ctx), want.unlock)
	if want.unlock == nil && mode != "drop-items" {
		unlocked, locked, err := secretservice.Search(ctx, "freshtoken-test", "nobody")
		wants(t, err, nil)
		if unlocked != 0 || locked != 0 {
			t.Errorf("of an item that nobody wrote there are %d, and %d locked", unlocked, locked)
		}
	}
	if want.unlock == nil {
		wants(t, secretservice.Check(ctx), nil) // unlocked it stays
	}
	cancel()
	wantsNoGrowth(t, before)
}
