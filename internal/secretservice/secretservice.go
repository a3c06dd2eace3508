//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

// Package secretservice is a client of the Secret Service of the session bus:
// it asks whether the service can be used, without starting a bus or hanging, and
// reads, writes and deletes items. Only Unlock prompts.
//
// It finds what github.com/zalando/go-keyring stores: at the same bus address,
// in the collection "login" before the default one, under the same attributes.
// Its build constraint is go-keyring's own for the Secret Service. Unlike that,
// it has a connection of its own for each call. So nothing is left of a call
// that was refused, and no call gets the answer of another one's prompt.
package secretservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

// What [Check] can find. Each error is matched with errors.Is; the text of the
// one returned adds what the bus said.
var (
	ErrNoBus        = errors.New("no desktop session with a D-Bus session bus was found")
	ErrDeadBus      = errors.New("the session bus does not accept connections")
	ErrNoProvider   = errors.New("no program of this desktop session is one (no Secret Service on the session bus)")
	ErrNoCollection = errors.New("the Secret Service has no login or default collection")
	ErrLocked       = errors.New("the collection is locked")
	ErrBroken       = errors.New("the Secret Service answers with an error")
	ErrTimeout      = errors.New("the Secret Service does not answer")
)

const (
	busName    = "org.freedesktop.secrets"
	service    = "org.freedesktop.Secret.Service"
	collection = "org.freedesktop.Secret.Collection"
	item       = "org.freedesktop.Secret.Item"
	prompt     = "org.freedesktop.Secret.Prompt"
	properties = "org.freedesktop.DBus.Properties"

	root            = dbus.ObjectPath("/org/freedesktop/secrets")
	loginCollection = root + "/collection/login"
	nowhere         = dbus.ObjectPath("/") // "none", where a path is asked for
)

// Check reports whether items can be read and written right now: nil, or one
// of the errors above. It returns when ctx is done at the latest, and leaves
// neither a connection nor a goroutine behind. The one exception is a bus at a
// tcp: address that does not answer: the attempt to connect, which knows no
// context, goes on unseen until the system gives it up.
func Check(ctx context.Context) error {
	return visit(ctx, func(c *client) error {
		path, err := c.collection()
		if err != nil {
			return err
		}
		return c.locked(path)
	})
}

// Unlock does what Check does, but asks the person at the screen to unlock the
// collection if it is locked, and waits for the answer until ctx is done. A
// refusal, and a prompt that cannot be shown, is ErrLocked.
func Unlock(ctx context.Context) error {
	return visit(ctx, func(c *client) error {
		path, err := c.collection()
		if err != nil {
			return err
		}
		if err := c.locked(path); !errors.Is(err, ErrLocked) {
			return err
		}
		if err := c.open(path); err != nil {
			return err
		}
		return c.locked(path)
	})
}

// Search counts the items that all collections together have for a service and
// a username: those that can be read, and those that are locked. It needs no
// unlocked collection and prompts nobody. What a locked collection does not tell
// (KeePassXC tells nothing of a locked database) it cannot count.
func Search(ctx context.Context, serviceName, username string) (unlocked, locked int, err error) {
	err = visit(ctx, func(c *client) error {
		var open, shut []dbus.ObjectPath
		if err := c.call(root, service+".SearchItems", []any{attributesOf(serviceName, username)}, &open, &shut); err != nil {
			return c.fault(ErrBroken, err)
		}
		unlocked, locked = len(open), len(shut)
		return nil
	})
	return unlocked, locked, err
}

// client is one private connection, for the length of one visit.
type client struct {
	ctx  context.Context // of the visit, which is as long as the client lives
	conn *dbus.Conn
}

// visit connects to the session bus, calls f, and disconnects. The connection
// is not shared with anybody, so that closing it, which is what ends every
// pending call, disturbs nobody.
func visit(ctx context.Context, f func(*client) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the goroutine with which the connection watches ctx
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := &client{ctx: ctx, conn: conn}
	// Auth and Hello know no context; they fail when it closes the connection.
	if err := conn.Auth(nil); err != nil {
		return c.fault(ErrDeadBus, err)
	}
	if err := conn.Hello(); err != nil {
		return c.fault(ErrDeadBus, err)
	}
	return f(c)
}

// dial connects to the session bus. The attempt knows no context; one that
// succeeds too late finds ctx done, and the connection closes itself.
func dial(ctx context.Context) (*dbus.Conn, error) {
	type answer struct {
		conn *dbus.Conn
		err  error
	}
	done := make(chan answer, 1)
	go func() {
		conn, err := dbus.SessionBusPrivateNoAutoStartup(dbus.WithContext(ctx))
		done <- answer{conn, err}
	}()
	select {
	case a := <-done:
		if a.err != nil {
			return nil, connectError(a.err)
		}
		return a.conn, nil
	case <-ctx.Done():
		return nil, because(ErrTimeout, ctx.Err())
	}
}

// connectError tells an address that does not work from the lack of one.
func connectError(err error) error {
	var timeout interface{ Timeout() bool } // any error of the net package
	if errors.As(err, &timeout) {
		return because(ErrDeadBus, err)
	}
	if os.Getenv("DBUS_SESSION_BUS_ADDRESS") == "" {
		err = errors.New("DBUS_SESSION_BUS_ADDRESS is not set")
	}
	return because(ErrNoBus, err)
}

// because adds the text of cause to kind. It leaves cause itself out of the
// chain: a missing socket would make the error match fs.ErrNotExist, which to
// a reader of a store means something else.
func because(kind, cause error) error { return fmt.Errorf("%w (%v)", kind, cause) }

// fault names the failure of a call: as the end of the visit's time, if that
// is why the connection closed, else as what the bus or the provider said.
func (c *client) fault(kind, cause error) error {
	if c.ctx.Err() != nil {
		return because(ErrTimeout, c.ctx.Err())
	}
	var reply dbus.Error
	switch {
	case !errors.As(cause, &reply):
		if !c.conn.Connected() {
			kind = ErrDeadBus
		}
	case NamesNoProvider(reply.Name):
		kind = ErrNoProvider
	case reply.Name == "org.freedesktop.Secret.Error.IsLocked":
		kind = ErrLocked
	}
	return because(kind, cause)
}

// NamesNoProvider reports whether a bus that answers with the error of this
// name has no Secret Service for us: none that could be started, none that
// answers, or none to which a sandbox lets this program speak.
func NamesNoProvider(name string) bool {
	rest, ok := strings.CutPrefix(name, "org.freedesktop.DBus.Error.")
	if !ok {
		return false
	}
	switch rest {
	case "ServiceUnknown", "NameHasNoOwner", "NoReply", "TimedOut", "AccessDenied":
		return true
	}
	return strings.HasPrefix(rest, "Spawn.")
}

// call calls method on path and stores the answer in out.
func (c *client) call(path dbus.ObjectPath, method string, args []any, out ...any) error {
	return c.conn.Object(busName, path).CallWithContext(c.ctx, method, 0, args...).Store(out...)
}

// collection finds the collection to be used.
func (c *client) collection() (dbus.ObjectPath, error) {
	bus := c.conn.BusObject()
	var running bool
	if err := bus.CallWithContext(c.ctx, "org.freedesktop.DBus.NameHasOwner", 0, busName).Store(&running); err != nil {
		return "", c.fault(ErrDeadBus, err)
	}
	if !running {
		var names []string
		if err := bus.CallWithContext(c.ctx, "org.freedesktop.DBus.ListActivatableNames", 0).Store(&names); err != nil {
			return "", c.fault(ErrDeadBus, err)
		}
		if !slices.Contains(names, busName) {
			return "", ErrNoProvider
		}
		// The first call below starts the provider, as any client's would.
	}
	// A provider without the property is not broken: it has its default
	// collection.
	var all dbus.Variant
	if err := c.call(root, properties+".Get", []any{service, "Collections"}, &all); err != nil {
		if err := c.fault(ErrBroken, err); !errors.Is(err, ErrBroken) {
			return "", err
		}
	}
	if paths, ok := all.Value().([]dbus.ObjectPath); ok && slices.Contains(paths, loginCollection) {
		return loginCollection, nil
	}
	var path dbus.ObjectPath
	if err := c.call(root, service+".ReadAlias", []any{"default"}, &path); err != nil {
		return "", c.fault(ErrBroken, err)
	}
	if path == nowhere || path == "" {
		return "", ErrNoCollection
	}
	return path, nil
}

// locked returns ErrLocked if the collection at path is locked.
func (c *client) locked(path dbus.ObjectPath) error {
	var v dbus.Variant
	if err := c.call(path, properties+".Get", []any{collection, "Locked"}, &v); err != nil {
		return c.fault(ErrBroken, err)
	}
	locked, ok := v.Value().(bool)
	switch {
	case !ok:
		return because(ErrBroken, errors.New("the property Locked is not a boolean"))
	case locked:
		return ErrLocked
	}
	return nil
}
