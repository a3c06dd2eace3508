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
//	item-prompt-dismiss    a write prompts, and the prompt is dismissed
//	item-prompt-never      a write prompts, and the prompt stays unanswered
//	delete-prompt-dismiss  a deletion prompts, and the prompt is dismissed
//	is-locked              a write fails with IsLocked, though nothing says so before
//	slow                   each call takes 30 ms
//	drop                   no call is answered
//	drop-items             no call is answered that reads or writes items
//	quit                   the program ends at the first write
//	wrong-value            reads return another secret than was written
//	two-collections        there is the collection "other" besides "login"
package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	busName = "org.freedesktop.secrets"

	servicePath = dbus.ObjectPath("/org/freedesktop/secrets")
	loginPath   = servicePath + "/collection/login"
	otherPath   = servicePath + "/collection/other"
	aliasPath   = servicePath + "/aliases/default"
	sessionPath = servicePath + "/session/only"
	promptPath  = servicePath + "/prompt/only"
	nowhere     = dbus.ObjectPath("/")

	secretIface     = "org.freedesktop.Secret."
	propertiesIface = "org.freedesktop.DBus.Properties"
)

var modes = strings.Fields(`ok no-login locked locked-unlocks prompt-never item-prompt-dismiss item-prompt-never
	delete-prompt-dismiss is-locked slow drop drop-items quit wrong-value two-collections`)

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
	conn, err := dbus.Connect(address)
	if err != nil {
		return err
	}
	defer conn.Close()
	p := &provider{conn: conn, mode: args[0], items: map[dbus.ObjectPath]*entry{}}
	p.locked = strings.HasPrefix(p.mode, "locked") || p.mode == "prompt-never"
	if err := p.export(); err != nil {
		return err
	}
	reply, err := conn.RequestName(busName, dbus.NameFlagDoNotQueue)
	if err != nil {
		return err
	}
	if reply != dbus.RequestNameReplyPrimaryOwner {
		return errors.New("the bus has a Secret Service already")
	}
	fmt.Println("ready")
	<-conn.Context().Done()
	return nil
}

// secret is the structure of that name in the Secret Service API.
type secret struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

type entry struct {
	attributes map[string]string
	secret     secret
}

// provider is the whole service.
type provider struct {
	conn *dbus.Conn
	mode string

	mu     sync.Mutex // guards what follows
	locked bool
	shut   bool // whether the other collection is locked
	made   int  // items, ever
	items  map[dbus.ObjectPath]*entry
}

func (p *provider) export() error {
	for _, e := range []struct {
		object any
		path   dbus.ObjectPath
		iface  string
	}{
		{serviceObject{p}, servicePath, secretIface + "Service"},
		{propertiesObject{p}, servicePath, propertiesIface},
		{collectionObject{p, loginPath}, loginPath, secretIface + "Collection"},
		{propertiesObject{p}, loginPath, propertiesIface},
		{collectionObject{p, loginPath}, aliasPath, secretIface + "Collection"},
		{propertiesObject{p}, aliasPath, propertiesIface},
		{sessionObject{}, sessionPath, secretIface + "Session"},
		{promptObject{p}, promptPath, secretIface + "Prompt"},
	} {
		if err := p.conn.Export(e.object, e.path, e.iface); err != nil {
			return err
		}
	}
	if p.mode == "two-collections" {
		return p.conn.Export(collectionObject{p, otherPath}, otherPath, secretIface+"Collection")
	}
	return nil
}

// think delays the answer to a call, or withholds it for good. A goroutine of
// the connection serves each call, so this holds up nobody else.
func (p *provider) think(aboutItems bool) {
	switch {
	case p.mode == "slow":
		time.Sleep(30 * time.Millisecond)
	case p.mode == "drop", p.mode == "drop-items" && aboutItems:
		<-p.conn.Context().Done()
	}
}

func failed(name string) *dbus.Error { return dbus.NewError(name, nil) }

type propertiesObject struct{ *provider }

func (p propertiesObject) Get(iface, property string) (dbus.Variant, *dbus.Error) {
	p.think(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch iface + "." + property {
	case secretIface + "Service.Collections":
		if p.mode == "no-login" {
			return dbus.MakeVariant([]dbus.ObjectPath{}), nil
		}
		if p.mode == "two-collections" {
			return dbus.MakeVariant([]dbus.ObjectPath{loginPath, otherPath}), nil
		}
		return dbus.MakeVariant([]dbus.ObjectPath{loginPath}), nil
	case secretIface + "Collection.Locked":
		return dbus.MakeVariant(p.locked), nil
	}
	return dbus.Variant{}, failed("org.freedesktop.DBus.Error.UnknownProperty")
}

type serviceObject struct{ *provider }

func (s serviceObject) OpenSession(string, dbus.Variant) (dbus.Variant, dbus.ObjectPath, *dbus.Error) {
	s.think(true)
	return dbus.MakeVariant(""), sessionPath, nil
}

func (s serviceObject) ReadAlias(string) (dbus.ObjectPath, *dbus.Error) {
	s.think(false)
	if s.mode == "no-login" {
		return nowhere, nil
	}
	return loginPath, nil
}

func (s serviceObject) Unlock(objects []dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	s.think(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locked {
		return []dbus.ObjectPath{}, promptPath, nil
	}
	return objects, nowhere, nil
}

// Lock locks the other collection, if that is among the objects.
func (s serviceObject) Lock(objects []dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(objects, otherPath) {
		return []dbus.ObjectPath{}, nowhere, nil
	}
	s.shut = true
	return []dbus.ObjectPath{otherPath}, nowhere, nil
}

// SearchItems looks into all collections.
func (s serviceObject) SearchItems(wanted map[string]string) (unlocked, locked []dbus.ObjectPath, fault *dbus.Error) {
	s.think(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	login, other := s.find(loginPath, wanted), s.find(otherPath, wanted)
	if s.shut {
		return login, other, nil
	}
	return append(login, other...), []dbus.ObjectPath{}, nil
}

// find returns the items of a collection that match. The caller holds p.mu.
func (p *provider) find(collection dbus.ObjectPath, wanted map[string]string) []dbus.ObjectPath {
	found := []dbus.ObjectPath{}
	for path, e := range p.items {
		if strings.HasPrefix(string(path), string(collection)+"/") && e.matches(wanted) {
			found = append(found, path)
		}
	}
	return found
}

type collectionObject struct {
	*provider
	path dbus.ObjectPath
}

func (c collectionObject) SearchItems(wanted map[string]string) ([]dbus.ObjectPath, *dbus.Error) {
	c.think(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(c.path, wanted), nil
}

func (e *entry) matches(wanted map[string]string) bool {
	for name, value := range wanted {
		if e.attributes[name] != value {
			return false
		}
	}
	return true
}

func (c collectionObject) CreateItem(properties map[string]dbus.Variant, s secret, replace bool) (item, prompt dbus.ObjectPath, fault *dbus.Error) {
	c.think(true)
	switch c.mode {
	case "item-prompt-dismiss", "item-prompt-never":
		return nowhere, promptPath, nil
	case "is-locked":
		return nowhere, nowhere, failed(secretIface + "Error.IsLocked")
	case "quit":
		os.Exit(0)
	}
	attributes, ok := properties[secretIface+"Item.Attributes"].Value().(map[string]string)
	if !ok {
		return nowhere, nowhere, failed("org.freedesktop.DBus.Error.InvalidArgs")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if replace {
		for _, path := range c.find(c.path, attributes) {
			if e := c.items[path]; maps.Equal(e.attributes, attributes) {
				e.secret = s
				return path, nowhere, nil
			}
		}
	}
	c.made++
	path := dbus.ObjectPath(fmt.Sprintf("%s/%d", c.path, c.made))
	c.items[path] = &entry{attributes, s}
	if err := c.conn.Export(itemObject{c.provider, path}, path, secretIface+"Item"); err != nil {
		return nowhere, nowhere, dbus.MakeFailedError(err)
	}
	return path, nowhere, nil
}

type itemObject struct {
	*provider
	path dbus.ObjectPath
}

func (i itemObject) GetSecret(session dbus.ObjectPath) (secret, *dbus.Error) {
	i.think(true)
	i.mu.Lock()
	defer i.mu.Unlock()
	e, ok := i.items[i.path]
	if !ok {
		return secret{}, failed(secretIface + "Error.NoSuchObject")
	}
	s := e.secret
	s.Session = session
	if i.mode == "wrong-value" {
		s.Value = []byte("not what was written")
	}
	return s, nil
}

func (i itemObject) Delete() (dbus.ObjectPath, *dbus.Error) {
	i.think(true)
	if i.mode == "delete-prompt-dismiss" {
		return promptPath, nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.items, i.path)
	i.conn.Export(nil, i.path, secretIface+"Item")
	return nowhere, nil
}

type sessionObject struct{}

func (sessionObject) Close() *dbus.Error { return nil }

type promptObject struct{ *provider }

func (p promptObject) Prompt(string) *dbus.Error {
	if strings.HasSuffix(p.mode, "prompt-never") {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	unlocked := []dbus.ObjectPath{}
	if p.mode == "locked-unlocks" {
		p.locked = false
		unlocked = append(unlocked, loginPath)
	}
	// After the answer to this call, as a person takes longer than that.
	go p.conn.Emit(promptPath, secretIface+"Prompt.Completed", len(unlocked) == 0, dbus.MakeVariant(unlocked))
	return nil
}

func (p promptObject) Dismiss() *dbus.Error { return nil }
