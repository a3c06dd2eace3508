package measure

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
)

// A disk is a new directory, in the place for temporary files: set $TMPDIR to
// measure another disk. On a file system in memory, nothing that is said of
// saves means much.
type disk struct {
	path string
	kind string // the file system; empty where the system does not tell
}

// newDisk makes a directory. remove removes it with all that is in it.
func newDisk() (d disk, remove func(), err error) {
	path, err := os.MkdirTemp("", "freshtoken-bench-")
	if err != nil {
		return disk{}, nil, err
	}
	return disk{path, fileSystem(path)}, func() { os.RemoveAll(path) }, nil
}

// words is what a Result says of the disk.
func (d disk) words() map[string]string {
	if d.kind == "" {
		return nil
	}
	return map[string]string{"file system": d.kind}
}

// A bareFile is replaced as little as a file can be that has to survive a loss
// of power.
type bareFile struct {
	dir  *os.File // nil where directories cannot be synced
	path string
	n    int // of temporary files so far
}

func newBareFile(dir string) (*bareFile, error) {
	b := &bareFile{path: filepath.Join(dir, "bare")}
	if runtime.GOOS == "windows" {
		return b, nil
	}
	var err error
	b.dir, err = os.Open(dir)
	return b, err
}

func (b *bareFile) write(data []byte) error {
	b.n++
	temp := b.path + "-" + strconv.Itoa(b.n)
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(temp, b.path); err != nil {
		return err
	}
	if b.dir == nil {
		return nil
	}
	return b.dir.Sync()
}

func (b *bareFile) close() {
	if b.dir != nil {
		b.dir.Close()
	}
}
