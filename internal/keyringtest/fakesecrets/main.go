//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

// Command fakesecrets is a Secret Service that misbehaves on demand, for tests
// of what package keyring makes of it. It keeps its items in memory.
//
//	fakesecrets MODE
//
// takes the name org.freedesktop.secrets on the bus of
// DBUS_SESSION_BUS_ADDRESS, prints "ready", and serves until the bus goes away.
// The modes:
//
//	ok                     everything works
//	no-login               there is no collection
//	locked                 the collection is locked, the prompt is dismissed
//	locked-unlocks         the collection is locked, the prompt unlocks it
//	prompt-never           the collection is locked, the prompt stays unanswered
//	locked-midway          the collection says that it is not locked, and is; the prompt is dismissed
//	locked-midway-never    likewise, and the prompt stays unanswered
//	item-prompt-dismiss    each access to an item prompts, and the prompt is dismissed
//	item-prompt-never      each access to an item prompts, and the prompt stays unanswered
//	delete-prompt-dismiss  a deletion prompts, and the prompt is dismissed
//	delete-prompt-never    a deletion prompts, and the prompt stays unanswered
//	prompt-nonsense        each access to an item prompts, and the prompt's end is no sense
//	is-locked              a write fails with IsLocked, though nothing says so before
//	read-is-locked         so does a read
//	fails                  what reads or writes items fails
//	write-lost             a write succeeds and stores nothing
//	write-fails            a write fails, as with a full disk
//	slow                   each call takes 30 ms
//	late                   each call that reads or writes items takes two seconds
//	drop                   no call is answered
//	drop-items             no call is answered that reads or writes items
//	quit                   the program ends at the first write
//	vanish                 the connection to the bus ends at the first call about items
//	bus-dies               the bus ends at the first write
//	wrong-value            reads return another secret than was written
//	empty-value            reads return an empty secret
//	cut-value              reads return the first half of the secret
//	other-value            reads return the secret of another item
//	wrong-item             a search finds another item
//	forgets                a search finds nothing
//	forgets-collection     a search in one collection finds nothing
//	nonsense               the collections are no list, and one is locked "perhaps"
//	two-collections        there is the collection "other" besides "login"
//
// The mode can be changed: the method test.FakeSecrets.Mode of the name and the
// object of the same name takes another one. It returns once what the old mode
// has held up is on its way: calls that were not answered take effect now and
// are answered, prompts are dismissed, and the connection is there again.
package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

var modes = strings.Fields(`ok no-login locked locked-unlocks prompt-never locked-midway locked-midway-never
	item-prompt-dismiss item-prompt-never delete-prompt-dismiss delete-prompt-never prompt-nonsense is-locked read-is-locked
	fails write-lost write-fails slow late drop drop-items quit vanish bus-dies wrong-value empty-value cut-value other-value
	wrong-item forgets forgets-collection nonsense two-collections`)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "fakesecrets:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 || !slices.Contains(modes, args[0]) {
		return fmt.Errorf("give one mode of: %s", strings.Join(modes, " "))
	}
	address := os.Getenv("DBUS_SESSION_BUS_ADDRESS")
	if address == "" {
		return errors.New("DBUS_SESSION_BUS_ADDRESS names no bus")
	}
	p := &provider{address: address, items: map[dbus.ObjectPath]*entry{}}
	p.enter(args[0])
	if err := p.appear(); err != nil {
		return err
	}
	conn, err := dbus.Connect(address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.Export(control{p}, controlPath, controlName); err != nil {
		return err
	}
	if err := own(conn, controlName); err != nil {
		return err
	}
	fmt.Println("ready")
	<-conn.Context().Done()
	return nil
}

// own takes a name on the bus.
func own(conn *dbus.Conn, name string) error {
	reply, err := conn.RequestName(name, dbus.NameFlagDoNotQueue)
	if err == nil && reply != dbus.RequestNameReplyPrimaryOwner {
		err = fmt.Errorf("the name %s is taken", name)
	}
	return err
}

const (
	controlName = "test.FakeSecrets"
	controlPath = dbus.ObjectPath("/test/FakeSecrets")
)

// control is how a test changes the mode.
type control struct{ *provider }

func (c control) Mode(mode string) *dbus.Error {
	if !slices.Contains(modes, mode) {
		return failed("org.freedesktop.DBus.Error.InvalidArgs")
	}
	c.enter(mode)
	if err := c.appear(); err != nil {
		return dbus.MakeFailedError(err)
	}
	return nil
}
