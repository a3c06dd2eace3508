package storage_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/freshtoken/freshtoken/internal/figures"
)

// tmpfs mounts a disk of a test's own.
func tmpfs(t *testing.T, options string) place {
	t.Helper()
	dir := t.TempDir()
	mount(t, "none", dir, "tmpfs", 0, options)
	unmounted(t, dir)
	return place(dir)
}

// fill takes all of a disk but so many pages and so many files. What it
// returns gives it back.
func fillUp(t *testing.T, p place, pages, files int) (free func()) {
	t.Helper()
	hog := filepath.Join(string(p), "hog")
	if err := os.Mkdir(hog, 0o700); err != nil {
		t.Fatal(err)
	}
	var st syscall.Statfs_t
	if err := syscall.Statfs(hog, &st); err != nil {
		t.Fatal(err)
	}
	for i := range int(st.Ffree) - files {
		f, err := os.Create(filepath.Join(hog, fmt.Sprint(i)))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			_, err = f.Write(make([]byte, (int(st.Bfree)-pages)*int(st.Bsize)))
		}
		if cerr := f.Close(); err != nil || cerr != nil {
			t.Fatal(err, cerr)
		}
	}
	return func() {
		if err := os.RemoveAll(hog); err != nil {
			t.Fatal(err)
		}
	}
}

// A real disk has room for a few pages and a few files, for too few at first.
// The store says that it is full, and goes on once there is space.
func TestDiskFills(t *testing.T) {
	if !alone(t, true) {
		return
	}
	runs, full := 0, 0
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			for pages := range 4 {
				for files := range 9 {
					p := tmpfs(t, "size=256k,nr_inodes=64,mode=700")
					sc.stage(t, p)
					free := fillUp(t, p, pages, files)
					r := &run{scene: sc, place: p, l: newLayer()}
					r.err = sc.act(p, r.l)
					runs++
					if r.err != nil {
						full++
					}
					left := temporary(t, p)
					if len(left) > 0 && sc.name != "start with litter" {
						t.Errorf("files are left behind: %v", left)
					}
					free()
					r.check(t, fmt.Sprintf("room for %d pages and %d files", pages, files), syscall.ENOSPC)
				}
			}
		})
	}
	if full == 0 || full == runs {
		t.Errorf("the disk was too small %d times out of %d", full, runs)
	}
	figures.Record(t, "disks.full", fmt.Sprintf("%d of %d", full, runs))
}

// A real disk becomes read-only before each system call. While a file is open
// to be written, the kernel refuses that.
func TestDiskBecomesReadOnly(t *testing.T) {
	if !alone(t, true) {
		return
	}
	const options = "size=256k,mode=700"
	runs, refused, noticed := 0, 0, 0
	for _, sc := range scenes {
		t.Run(sc.name, func(t *testing.T) {
			n := play(t, sc, newLayer()).l.n
			for k := 1; k <= n; k++ {
				p, l := tmpfs(t, options), newLayer()
				sc.stage(t, p)
				l.action = func(c call) {
					if c.n != k {
						return
					}
					switch err := syscall.Mount("none", string(p), "", syscall.MS_REMOUNT|syscall.MS_RDONLY, options); {
					case errors.Is(err, syscall.EBUSY):
						refused++
					case err != nil:
						t.Fatal(err)
					}
				}
				r := &run{scene: sc, place: p, l: l, dead: true}
				r.err = sc.act(p, l)
				runs++
				if r.err != nil {
					noticed++
				}
				mount(t, "none", string(p), "", syscall.MS_REMOUNT, options)
				r.check(t, fmt.Sprintf("read-only before call %d of %d", k, n), syscall.EROFS)
			}
		})
	}
	figures.Record(t, "disks.readonly", fmt.Sprint(runs-refused))
	figures.Record(t, "disks.readonly.refused", fmt.Sprint(refused))
	figures.Record(t, "disks.readonly.noticed", fmt.Sprint(noticed))
}
