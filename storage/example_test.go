package storage_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path/filepath"

	"github.com/freshtoken/freshtoken/storage"
)

// A store for tests, and for programs that log in anew each time.
func ExampleNewMemory() {
	ctx := context.Background()
	store := storage.NewMemory()
	if err := store.Save(ctx, "alice", []byte("a session")); err != nil {
		log.Fatal(err)
	}
	value, err := store.Load(ctx, "alice")
	fmt.Printf("%s %v\n", value, err)
	_, err = store.Load(ctx, "bob")
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// a session <nil>
	// true
}

// Sealed files in a directory of your choice, the key in a file elsewhere.
func ExampleNewFile() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	ctx := context.Background()
	key := storage.KeyFile(filepath.Join(dir, "secrets", "session.key"))
	store, err := storage.NewFile(filepath.Join(dir, "sessions"), key)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Save(ctx, "alice", []byte("a session")); err != nil {
		log.Fatal(err)
	}
	value, err := store.Load(ctx, "alice")
	fmt.Printf("%s %v\n", value, err)
	// Output: a session <nil>
}

// Sealed files where the OS keeps the app's data. With the key in the OS
// keyring, from package keyring, this is what a desktop program or a CLI wants;
// a passphrase serves where there is no keyring.
func ExampleNewAppFile() {
	key := storage.Passphrase(func() ([]byte, error) {
		return []byte(os.Getenv("MYAPP_PASSPHRASE")), nil // or ask the user
	})
	store, err := storage.NewAppFile("myapp", key)
	if err != nil {
		log.Fatal(err)
	}
	_, err = store.Load(context.Background(), "alice")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		fmt.Println("nobody has logged in yet")
	case errors.Is(err, storage.ErrWrongKey):
		fmt.Println("this is not the passphrase; try again")
	case err != nil:
		log.Fatal(err)
	}
}

// Any store can be sealed: one in a database, say, that others can read.
func ExampleSeal() {
	ctx := context.Background()
	database := storage.NewMemory() // stands for yours
	key := storage.Passphrase(func() ([]byte, error) { return []byte("correct horse battery staple"), nil })
	store := storage.Seal(database, key)
	if err := store.Save(ctx, "alice", []byte("a session")); err != nil {
		log.Fatal(err)
	}
	value, err := store.Load(ctx, "alice")
	fmt.Printf("%s %v\n", value, err)

	// What lies in the database is of no use under another name.
	sealed, err := database.Load(ctx, "alice")
	if err != nil {
		log.Fatal(err)
	}
	if err := database.Save(ctx, "mallory", sealed); err != nil {
		log.Fatal(err)
	}
	_, err = store.Load(ctx, "mallory")
	fmt.Println(errors.Is(err, storage.ErrCorrupt))
	// Output:
	// a session <nil>
	// true
}
