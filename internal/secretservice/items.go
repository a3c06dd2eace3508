//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package secretservice

import (
	"context"
	"errors"
	"fmt"

	"github.com/godbus/dbus/v5"
)

// ErrNotFound says that the collection in use has no such item.
var ErrNotFound = errors.New("there is no such item in the collection")

// Why a call has come to nothing.
var (
	errDismissed = dismissed{}
	errOtherItem = errors.New("it has found another item than it was asked for")
	errPrompt    = errors.New("the end of a prompt makes no sense")
	errEnded     = errors.New("it ended while its prompt waited for an answer")
)

// dismissed is an ErrLocked of which nothing but the prompt is known.
type dismissed struct{}

func (dismissed) Error() string        { return "the prompt was dismissed, or could not be shown" }
func (dismissed) Is(target error) bool { return target == ErrLocked }

// itemSecret is the structure Secret of the API.
type itemSecret struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

// Get returns the text of the item that the collection has for a service and a
// username, or [ErrNotFound]. Like [Set] and [Delete] it may wait for a person,
// for as long as that takes; it returns when the service does, or ends.
//
// The names of the attributes are those of github.com/zalando/go-keyring.
func Get(serviceName, username string) (text string, err error) {
	err = visit(context.Background(), func(c *client) error {
		_, path, err := c.find(serviceName, username)
		if err != nil {
			return err
		}
		if err := c.open(path); err != nil {
			return err
		}
		session, err := c.session()
		if err != nil {
			return err
		}
		var s itemSecret
		if err := c.call(path, item+".GetSecret", []any{session}, &s); err != nil {
			return c.fault(ErrBroken, err)
		}
		text = string(s.Value)
		return nil
	})
	return text, err
}

// Set stores text as the item that the collection has for a service and a
// username. An item that is there gets another secret. It is not created anew
// over the old one: KeePassXC asks a person before a program replaces what
// another process has created, whatever its settings say.
func Set(serviceName, username, text string) error {
	return visit(context.Background(), func(c *client) error {
		in, path, err := c.find(serviceName, username)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		session, serr := c.session()
		if serr != nil {
			return serr
		}
		secret := itemSecret{session, []byte{}, []byte(text), "text/plain; charset=utf8"}
		if err != nil {
			return c.create(in, serviceName, username, secret)
		}
		if err := c.open(path); err != nil {
			return err
		}
		if err := c.call(path, item+".SetSecret", []any{secret}); err != nil {
			return c.fault(ErrBroken, err)
		}
		return nil
	})
}

// Delete removes the item that the collection has for a service and a username,
// or returns [ErrNotFound].
func Delete(serviceName, username string) error {
	return visit(context.Background(), func(c *client) error {
		_, path, err := c.find(serviceName, username)
		if err != nil {
			return err
		}
		var ask dbus.ObjectPath
		if err := c.call(path, item+".Delete", nil, &ask); err != nil {
			return c.fault(ErrBroken, err)
		}
		return c.ask(ask)
	})
}

func attributesOf(serviceName, username string) map[string]string {
	return map[string]string{"service": serviceName, "username": username}
}

// find returns the collection in use, and the item that it has.
func (c *client) find(serviceName, username string) (in, path dbus.ObjectPath, err error) {
	in, err = c.collection()
	if err != nil {
		return "", "", err
	}
	if err := c.locked(in); err != nil { // or a write would prompt
		return "", "", err
	}
	var found []dbus.ObjectPath
	if err := c.call(in, collection+".SearchItems", []any{attributesOf(serviceName, username)}, &found); err != nil {
		return "", "", c.fault(ErrBroken, err)
	}
	if len(found) == 0 {
		return in, "", ErrNotFound
	}
	return in, found[0], c.own(found[0], serviceName, username)
}

// own makes sure that an item is the one that was asked for: another one's text
// would look like damage, and a deletion would be another one's loss.
func (c *client) own(path dbus.ObjectPath, serviceName, username string) error {
	var v dbus.Variant
	if err := c.call(path, properties+".Get", []any{item, "Attributes"}, &v); err != nil {
		return c.fault(ErrBroken, err)
	}
	attributes, ok := v.Value().(map[string]string)
	if !ok || attributes["service"] != serviceName || attributes["username"] != username {
		return because(ErrBroken, errOtherItem)
	}
	return nil
}

// open has the service unlock a collection, or an item, which some lock one by
// one. Before it does, it may prompt.
func (c *client) open(path dbus.ObjectPath) error {
	var unlocked []dbus.ObjectPath
	var ask dbus.ObjectPath
	if err := c.call(root, service+".Unlock", []any{[]dbus.ObjectPath{path}}, &unlocked, &ask); err != nil {
		return c.fault(ErrBroken, err)
	}
	return c.ask(ask)
}

// session is what secrets are handed over in, as they are: the bus belongs to
// the user, like the service. It ends with the connection.
func (c *client) session() (path dbus.ObjectPath, err error) {
	var ignored dbus.Variant
	if err := c.call(root, service+".OpenSession", []any{"plain", dbus.MakeVariant("")}, &ignored, &path); err != nil {
		return "", c.fault(ErrBroken, err)
	}
	return path, nil
}

// create makes an item in a collection.
func (c *client) create(in dbus.ObjectPath, serviceName, username string, secret itemSecret) error {
	about := map[string]dbus.Variant{
		item + ".Label":      dbus.MakeVariant(fmt.Sprintf("Password for '%s' on '%s'", username, serviceName)),
		item + ".Attributes": dbus.MakeVariant(attributesOf(serviceName, username)),
	}
	var made, ask dbus.ObjectPath
	if err := c.call(in, collection+".CreateItem", []any{about, secret, true}, &made, &ask); err != nil {
		return c.fault(ErrBroken, err)
	}
	return c.ask(ask)
}

// ask has the service put a prompt before somebody, unless it has none, and
// waits for the answer. A prompt that is dismissed is ErrLocked.
func (c *client) ask(path dbus.ObjectPath) error {
	if path == nowhere {
		return nil
	}
	signals := make(chan *dbus.Signal, 8)
	c.conn.Signal(signals)
	defer c.conn.RemoveSignal(signals)
	// A service that ends takes its prompt along, and nothing says so but this.
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchObjectPath(path), dbus.WithMatchInterface(prompt), dbus.WithMatchMember("Completed")},
		{dbus.WithMatchSender("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, busName)},
	} {
		if err := c.conn.AddMatchSignalContext(c.ctx, match...); err != nil {
			return c.fault(ErrDeadBus, err)
		}
	}
	if err := c.call(path, prompt+".Prompt", []any{""}); err != nil {
		return c.fault(ErrBroken, err)
	}
	for {
		select {
		case s, open := <-signals:
			switch {
			case !open:
				return c.fault(ErrDeadBus, dbus.ErrClosed)
			case s.Name == "org.freedesktop.DBus.NameOwnerChanged":
				return because(ErrNoProvider, errEnded)
			case s.Path == path && s.Name == prompt+".Completed":
				return answered(s.Body)
			}
		case <-c.ctx.Done():
			return because(ErrTimeout, c.ctx.Err())
		}
	}
}

// answered is what the end of a prompt means.
func answered(body []any) error {
	if len(body) > 0 {
		switch body[0] {
		case false:
			return nil
		case true:
			return errDismissed
		}
	}
	return because(ErrBroken, errPrompt)
}
