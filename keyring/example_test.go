package keyring_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"time"

	"github.com/freshtoken/freshtoken/keyring"
	"github.com/freshtoken/freshtoken/storage"
)

// The examples have no output: they would use the keyring of whoever runs them.

// The key lies in the keyring, the sessions in files sealed with it.
func ExampleNewKey() {
	store, err := storage.NewAppFile("myapp", keyring.NewKey("myapp"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(store) // goes into freshtoken.Config as its Store
}

// The sessions themselves lie in the keyring, and a person at the screen gets
// a minute to unlock it.
func ExampleNewStore() {
	store, err := keyring.NewStore("myapp", keyring.Options{Prompt: true, Timeout: time.Minute})
	if err != nil {
		log.Fatal(err)
	}
	_, err = store.Load(context.Background(), "alice")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Println("nobody is logged in")
	case errors.Is(err, keyring.ErrLocked):
		fmt.Println("unlock the keyring and try again")
	case err != nil:
		log.Fatal(err)
	}
}

// A program that also runs on servers chooses before it starts a login.
func ExampleProbe() {
	var key storage.Key = keyring.NewKey("myapp")
	if err := keyring.Probe(context.Background()); err != nil {
		log.Print(err) // says what to do to have a keyring
		key = storage.Passphrase(func() ([]byte, error) {
			return []byte("from a prompt or a secret of the deployment"), nil
		})
	}
	store, err := storage.NewAppFile("myapp", key)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(store)
}
