//go:build (dragonfly && cgo) || (freebsd && cgo) || linux || netbsd || openbsd

package keyring_test

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/freshtoken/freshtoken/keyring"
)

// secretItem is the structure Secret of the Secret Service API.
type secretItem struct {
	Session     dbus.ObjectPath
	Parameters  []byte
	Value       []byte
	ContentType string
}

// secretService speaks to the Secret Service without go-keyring.
type secretService struct {
	t       *testing.T
	conn    *dbus.Conn
	session dbus.ObjectPath
}

const secretIface = "org.freedesktop.Secret."

func (s *secretService) call(path dbus.ObjectPath, method string, args []any, out ...any) {
	s.t.Helper()
	if err := s.conn.Object("org.freedesktop.secrets", path).Call(method, 0, args...).Store(out...); err != nil {
		s.t.Fatalf("%s: %v", method, err)
	}
}

const secretsPath = dbus.ObjectPath("/org/freedesktop/secrets")

func openSecretService(t *testing.T) *secretService {
	conn, err := dbus.ConnectSessionBus()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &secretService{t: t, conn: conn}
	var ignored dbus.Variant
	s.call(secretsPath, secretIface+"Service.OpenSession", []any{"plain", dbus.MakeVariant("")}, &ignored, &s.session)
	return s
}

// secret returns what carries a value over the bus.
func (s *secretService) secret(value string) secretItem {
	return secretItem{s.session, []byte{}, []byte(value), "text/plain"}
}

// other returns a collection that is neither "login" nor the default one.
func (s *secretService) other(mode string) (path dbus.ObjectPath) {
	s.t.Helper()
	if mode == "two-collections" {
		return secretsPath + "/collection/other"
	}
	label := map[string]dbus.Variant{secretIface + "Collection.Label": dbus.MakeVariant("other")}
	s.call(secretsPath, "org.gnome.keyring.InternalUnsupportedGuiltRiddenInterface.CreateWithMasterPassword",
		[]any{label, s.secret("password")}, &path)
	return path
}

// create makes an item in a collection as go-keyring would.
func (s *secretService) create(collection dbus.ObjectPath, service, account, text string) (item dbus.ObjectPath) {
	s.t.Helper()
	properties := map[string]dbus.Variant{
		secretIface + "Item.Label":      dbus.MakeVariant("a test of freshtoken"),
		secretIface + "Item.Attributes": dbus.MakeVariant(map[string]string{"service": service, "username": account}),
	}
	var prompt dbus.ObjectPath
	s.call(collection, secretIface+"Collection.CreateItem", []any{properties, s.secret(text), true}, &item, &prompt)
	if prompt != "/" {
		s.t.Fatal("the Secret Service wants to prompt")
	}
	return item
}

// What is in another collection than the one go-keyring uses is not absent,
// locked or not: no session is lost that way, and no second key made.
func TestRealCollections(t *testing.T) {
	mode := realMode(t)
	if mode != "gnome-keyring" && mode != "two-collections" {
		return // there is one collection, or none that works
	}
	dir := t.TempDir()
	service, options := serviceAt(dir), keyring.Options{LockDir: dir, Timeout: amply}
	store, err := keyring.NewStore(service, options)
	if err != nil {
		t.Fatal(err)
	}
	account, keyAccount := keyring.AccountOf("store", service, "k"), keyring.AccountOf("key", service, "")
	secrets := openSecretService(t)
	other := secrets.other(mode)
	wantsFailure := func(want error) {
		t.Helper()
		_, err := store.Load(t.Context(), "k")
		wantsKind(t, "Load", err, want)
		wantsKind(t, "Save", store.Save(t.Context(), "k", []byte("new")), want)
		wantsKind(t, "Delete", store.Delete(t.Context(), "k"), want)
		_, err = keyring.NewKey(service, options).Get(t.Context(), nil)
		wantsKind(t, "Get of the key", err, want)
		_, _, err = keyring.NewKey(service, options).New(t.Context())
		wantsKind(t, "New of the key", err, want)
	}
	wants(t, store, "k", nil)
	item := secrets.create(other, service, account, keyring.HeadTexts(account, []byte("a session"))[0])
	key := secrets.create(other, service, keyAccount, keyring.HeadTexts(keyAccount, make([]byte, 32))[0])
	wantsFailure(errAny)
	var locked []dbus.ObjectPath
	var prompt dbus.ObjectPath
	secrets.call(secretsPath, secretIface+"Service.Lock", []any{[]dbus.ObjectPath{other}}, &locked, &prompt)
	if len(locked) != 1 {
		t.Fatalf("the other collection is not locked: %v, %v", locked, prompt)
	}
	wantsFailure(keyring.ErrLocked)
	if mode == "gnome-keyring" {
		return // without a prompt nothing is deleted from a locked collection
	}
	for _, path := range []dbus.ObjectPath{item, key} {
		secrets.call(path, secretIface+"Item.Delete", nil, &prompt)
	}
	wants(t, store, "k", nil)
	if _, err := keyring.NewKey(service, options).Get(t.Context(), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get of a key that is nowhere: %v", err)
	}
}
