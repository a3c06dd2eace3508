//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
)

type propertiesObject struct{ *provider }

func (p propertiesObject) Get(iface, property string) (dbus.Variant, *dbus.Error) {
	p.think(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	switch iface + "." + property {
	case secretIface + "Service.Collections":
		switch p.mode {
		case "no-login":
			return dbus.MakeVariant([]dbus.ObjectPath{}), nil
		case "nonsense":
			return dbus.MakeVariant("all"), nil
		case "two-collections":
			return dbus.MakeVariant([]dbus.ObjectPath{loginPath, otherPath}), nil
		}
		return dbus.MakeVariant([]dbus.ObjectPath{loginPath}), nil
	case secretIface + "Collection.Locked":
		if p.mode == "nonsense" {
			return dbus.MakeVariant("perhaps"), nil
		}
		return dbus.MakeVariant(p.locked && !strings.HasPrefix(p.mode, "locked-midway")), nil
	}
	return dbus.Variant{}, failed("org.freedesktop.DBus.Error.UnknownProperty")
}

type serviceObject struct{ *provider }

func (s serviceObject) OpenSession(string, dbus.Variant) (dbus.Variant, dbus.ObjectPath, *dbus.Error) {
	return dbus.MakeVariant(""), sessionPath, s.think(true)
}

func (s serviceObject) ReadAlias(string) (dbus.ObjectPath, *dbus.Error) {
	s.think(false)
	if s.current() == "no-login" {
		return nowhere, nil
	}
	return loginPath, nil
}

func (s serviceObject) Unlock(objects []dbus.ObjectPath) ([]dbus.ObjectPath, dbus.ObjectPath, *dbus.Error) {
	fault := s.think(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, anItem := s.items[objects[0]]
	if s.locked || anItem && (s.prompts() || s.mode == "prompt-nonsense") {
		return []dbus.ObjectPath{}, promptPath, fault
	}
	return objects, nowhere, fault
}

// prompts reports whether access to items prompts. The caller holds p.mu.
func (p *provider) prompts() bool { return p.locked || strings.HasPrefix(p.mode, "item-prompt-") }

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
	fault = s.think(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	login, other := s.find(loginPath, wanted), s.find(otherPath, wanted)
	if s.shut {
		return login, other, fault
	}
	return append(login, other...), []dbus.ObjectPath{}, fault
}

// find returns the items of a collection that match. The caller holds p.mu.
func (p *provider) find(collection dbus.ObjectPath, wanted map[string]string) []dbus.ObjectPath {
	found := []dbus.ObjectPath{}
	if p.mode == "forgets" {
		return found
	}
	for path, e := range p.items {
		if strings.HasPrefix(string(path), string(collection)+"/") && e.matches(wanted) != (p.mode == "wrong-item") {
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
	fault := c.think(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mode == "forgets-collection" {
		return []dbus.ObjectPath{}, nil
	}
	return c.find(c.path, wanted), fault
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
	fault = c.think(true)
	c.writing()
	attributes, ok := properties[secretIface+"Item.Attributes"].Value().(map[string]string)
	if !ok {
		return nowhere, nowhere, failed("org.freedesktop.DBus.Error.InvalidArgs")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.prompts() || c.mode == "prompt-nonsense" {
		return nowhere, promptPath, nil
	}
	if fault := c.refusal(fault); fault != nil {
		return nowhere, nowhere, fault
	}
	if c.mode == "write-lost" {
		return c.path + "/0", nowhere, nil
	}
	if replace {
		for path, e := range c.items {
			if strings.HasPrefix(string(path), string(c.path)+"/") && maps.Equal(e.attributes, attributes) {
				e.secret = s
				return path, nowhere, nil
			}
		}
	}
	c.made++
	path := dbus.ObjectPath(fmt.Sprintf("%s/%d", c.path, c.made))
	c.items[path] = &entry{attributes, s}
	if c.conn == nil {
		return path, nowhere, nil
	}
	if err := c.exportItem(path); err != nil {
		return nowhere, nowhere, dbus.MakeFailedError(err)
	}
	return path, nowhere, nil
}

// refusal is what a write fails with, if it does. The caller holds p.mu.
func (p *provider) refusal(fault *dbus.Error) *dbus.Error {
	switch {
	case p.mode == "is-locked", p.locked:
		return failed(secretIface + "Error.IsLocked")
	case p.mode == "write-fails":
		return failed("org.freedesktop.DBus.Error.Failed")
	}
	return fault
}

// exportItem offers an item. The caller holds p.mu.
func (p *provider) exportItem(path dbus.ObjectPath) error {
	i := itemObject{p, path}
	if err := p.conn.Export(i, path, secretIface+"Item"); err != nil {
		return err
	}
	return p.conn.Export(itemProperties{i}, path, propertiesIface)
}

type itemProperties struct{ itemObject }

func (i itemProperties) Get(iface, property string) (dbus.Variant, *dbus.Error) {
	fault := i.think(true)
	i.mu.Lock()
	defer i.mu.Unlock()
	e, ok := i.items[i.path]
	if !ok || iface != secretIface+"Item" || property != "Attributes" {
		return dbus.Variant{}, failed("org.freedesktop.DBus.Error.UnknownProperty")
	}
	return dbus.MakeVariant(e.attributes), fault
}

type itemObject struct {
	*provider
	path dbus.ObjectPath
}

func (i itemObject) GetSecret(session dbus.ObjectPath) (secret, *dbus.Error) {
	fault := i.think(true)
	i.mu.Lock()
	defer i.mu.Unlock()
	e, ok := i.items[i.path]
	if !ok {
		return secret{}, failed(secretIface + "Error.NoSuchObject")
	}
	s := e.secret
	s.Session = session
	if i.locked || i.mode == "read-is-locked" {
		return secret{}, failed(secretIface + "Error.IsLocked")
	}
	switch i.mode {
	case "wrong-value":
		s.Value = []byte("not what was written")
	case "empty-value":
		s.Value = []byte{}
	case "cut-value":
		s.Value = s.Value[:len(s.Value)/2]
	case "other-value":
		for path, other := range i.items {
			if path != i.path {
				s.Value = other.secret.Value
			}
		}
	}
	return s, fault
}

func (i itemObject) SetSecret(s secret) *dbus.Error {
	fault := i.think(true)
	i.writing()
	i.mu.Lock()
	defer i.mu.Unlock()
	e, ok := i.items[i.path]
	if !ok {
		return failed(secretIface + "Error.NoSuchObject")
	}
	if fault := i.refusal(fault); fault != nil {
		return fault
	}
	if i.mode != "write-lost" {
		e.secret = s
	}
	return nil
}

func (i itemObject) Delete() (dbus.ObjectPath, *dbus.Error) {
	fault := i.think(true)
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.locked || strings.HasPrefix(i.mode, "delete-prompt-") {
		return promptPath, nil
	}
	if fault != nil {
		return nowhere, fault
	}
	delete(i.items, i.path)
	if i.conn != nil {
		i.conn.Export(nil, i.path, secretIface+"Item")
		i.conn.Export(nil, i.path, propertiesIface)
	}
	return nowhere, nil
}
