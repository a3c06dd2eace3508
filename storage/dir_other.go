//go:build !unix && !windows

package storage

import (
	"context"
	"os"
)

// There are no kernel locks on these systems, so that openDir fails before any
// of this is called; a key file is read here all the same.

func checkDir(string, os.FileInfo) error     { return nil }
func checkKeyFile(string, os.FileInfo) error { return nil }

func writable(string) bool { return false }

func linked(os.FileInfo) bool { return false }

func pinDir(system, string) (file, error) { return nil, nil }
func syncDir(system, string) error        { return nil }
func syncOpen(file) error                 { return nil }

func openShared(_ context.Context, sys system, path string) (file, error) { return sys.Open(path) }
func openFile(path string) (*os.File, error)                              { return os.Open(path) }
func openKeyFile(path string) (*os.File, error)                           { return os.Open(path) }
func rename(from, to string) error                                        { return os.Rename(from, to) }
func persist(_ context.Context, do func() error) error                    { return do() }

func isBusy(error) bool { return false }

func (d *dir) lockIO(context.Context, string) (func(), error) { return func() {}, nil }
