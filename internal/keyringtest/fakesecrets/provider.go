//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package main

import (
	"os"
	"strings"
	"sync"
	"syscall"
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
	address string // of the bus

	mu     sync.Mutex // guards what follows
	conn   *dbus.Conn // nil: there is none
	mode   string
	over   chan struct{} // closed when the mode is over
	asking int           // prompts that nobody has answered
	locked bool
	shut   bool // whether the other collection is locked
	made   int  // items, ever
	items  map[dbus.ObjectPath]*entry
}

// enter begins a mode, and ends what the one before it has held up.
func (p *provider) enter(mode string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over != nil {
		close(p.over)
	}
	p.mode, p.over = mode, make(chan struct{})
	p.locked = strings.HasPrefix(mode, "locked") || mode == "prompt-never"
	if p.asking > 0 {
		p.asking = 0
		p.completed(true, dbus.MakeVariant([]dbus.ObjectPath{}))
	}
}

// current returns the mode.
func (p *provider) current() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mode
}

// appear connects the service to the bus, unless it is connected.
func (p *provider) appear() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		return nil
	}
	conn, err := dbus.Connect(p.address)
	if err != nil {
		return err
	}
	p.conn = conn
	if err := p.export(); err != nil {
		return err
	}
	return own(conn, busName)
}

// vanish ends the connection. What has been asked through it is not answered.
func (p *provider) vanish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conn != nil {
		p.conn.Close()
		p.conn = nil
	}
}

// export offers what there is. The caller holds p.mu.
func (p *provider) export() error {
	type object struct {
		methods any
		path    dbus.ObjectPath
		iface   string
	}
	objects := []object{
		{serviceObject{p}, servicePath, secretIface + "Service"},
		{propertiesObject{p}, servicePath, propertiesIface},
		{collectionObject{p, loginPath}, loginPath, secretIface + "Collection"},
		{propertiesObject{p}, loginPath, propertiesIface},
		{collectionObject{p, loginPath}, aliasPath, secretIface + "Collection"},
		{propertiesObject{p}, aliasPath, propertiesIface},
		{sessionObject{}, sessionPath, secretIface + "Session"},
		{promptObject{p}, promptPath, secretIface + "Prompt"},
	}
	if p.mode == "two-collections" {
		objects = append(objects, object{collectionObject{p, otherPath}, otherPath, secretIface + "Collection"})
	}
	for _, o := range objects {
		if err := p.conn.Export(o.methods, o.path, o.iface); err != nil {
			return err
		}
	}
	for path := range p.items {
		if err := p.exportItem(path); err != nil {
			return err
		}
	}
	return nil
}

// think delays the answer to a call, or withholds it until the mode is over. A
// goroutine of the connection serves each call, so this holds up nobody else.
func (p *provider) think(aboutItems bool) *dbus.Error {
	p.mu.Lock()
	mode, over := p.mode, p.over
	p.mu.Unlock()
	switch {
	case mode == "slow":
		time.Sleep(30 * time.Millisecond)
	case mode == "late" && aboutItems:
		time.Sleep(2 * time.Second)
	case mode == "drop", mode == "drop-items" && aboutItems:
		<-over
	case mode == "vanish" && aboutItems:
		p.vanish()
	case mode == "fails" && aboutItems:
		return failed("org.freedesktop.DBus.Error.Failed")
	}
	return nil
}

// writing does what a write does to the service.
func (p *provider) writing() {
	switch p.current() {
	case "quit":
		os.Exit(0)
	case "bus-dies":
		var pid uint32
		bus := p.conn.BusObject()
		if bus.Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, "org.freedesktop.DBus").Store(&pid) == nil {
			syscall.Kill(int(pid), syscall.SIGKILL)
		}
		<-p.conn.Context().Done()
	}
}

// completed emits the end of a prompt. The caller holds p.mu.
func (p *provider) completed(dismissed any, result dbus.Variant) {
	if p.conn != nil {
		// After the answer to the call, as a person takes longer than that.
		go p.conn.Emit(promptPath, secretIface+"Prompt.Completed", dismissed, result)
	}
}

func failed(name string) *dbus.Error { return dbus.NewError(name, nil) }

type sessionObject struct{}

func (sessionObject) Close() *dbus.Error { return nil }

type promptObject struct{ *provider }

func (p promptObject) Prompt(string) *dbus.Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	nothing := dbus.MakeVariant([]dbus.ObjectPath{})
	switch {
	case strings.HasSuffix(p.mode, "-never"):
		p.asking++
	case p.mode == "prompt-nonsense":
		p.completed("perhaps", nothing)
	case p.mode == "locked-unlocks":
		p.locked = false
		p.completed(false, dbus.MakeVariant([]dbus.ObjectPath{loginPath}))
	default:
		p.completed(true, nothing)
	}
	return nil
}

func (p promptObject) Dismiss() *dbus.Error { return nil }
