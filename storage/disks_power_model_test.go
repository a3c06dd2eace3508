//go:build unix

package storage_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A platter is what a file system makes of recorded calls: what programs see,
// and what a loss of power may leave of it.
//
// It is a hostile one. An fsync of a file keeps the file's bytes, not its name.
// An fsync of a directory keeps the names in it, and neither the bytes of its
// files nor the directory's own name. Of what is not synced the disk may have
// done any part, in any order: each new, changed or removed name by itself;
// bytes not at all, half, or as zeros. A rename is one step within a directory:
// after it there is the old name or the new one, and never half a directory.
type platter struct {
	root *node
}

// A node is a file or a directory.
type node struct {
	id      int
	dir     bool
	data    []byte           // of a file, as programs see it
	synced  bool             // whether the data is on the disk
	names   map[string]*node // of a directory, as programs see them
	durable map[string]*node // of a directory, as they are on the disk
	pending []change         // what makes names of durable
}

// A change of a directory happens as a whole or not at all. A nil node removes.
type change map[string]*node

func newDir(id int) *node {
	return &node{id: id, dir: true, names: make(map[string]*node), durable: make(map[string]*node)}
}

// replay does the calls that have had an effect. They all lie below base.
func replay(base string, log []call) *platter {
	p := &platter{root: newDir(0)}
	for _, c := range log {
		if c.done {
			p.apply(base, c)
		}
	}
	return p
}

func (p *platter) apply(base string, c call) {
	if c.op == "fsync" && c.dir {
		if d := p.at(base, c.path); d != nil {
			d.durable, d.pending = maps.Clone(d.names), nil
		}
		return
	}
	in, name := p.at(base, filepath.Dir(c.path)), filepath.Base(c.path)
	if in == nil {
		return // above the base, or a directory that is no more
	}
	switch c.op {
	case "mkdir":
		in.change(change{name: newDir(c.n)})
	case "create":
		in.change(change{name: {id: c.n}})
	case "lock":
		if c.made {
			in.change(change{name: {id: c.n}})
		}
	case "write":
		f := in.names[name]
		f.data, f.synced = append(f.data, c.data...), false
	case "fsync":
		in.names[name].synced = true
	case "remove":
		in.change(change{name: nil})
	case "rename":
		in.change(change{name: nil, filepath.Base(c.to): in.names[name]})
	case "place":
		in.change(change{filepath.Base(c.to): in.names[name]})
	}
}

func (d *node) change(ch change) {
	d.pending = append(d.pending, ch)
	ch.do(d.names)
}

func (ch change) do(names map[string]*node) {
	for name, n := range ch {
		if n == nil {
			delete(names, name)
		} else {
			names[name] = n
		}
	}
}

// at returns the directory of a path, nil if there is none.
func (p *platter) at(base, path string) *node {
	rel, err := filepath.Rel(base, path)
	if err != nil || strings.HasPrefix(rel, "..") {
		return nil
	}
	d := p.root
	if rel == "." {
		return d
	}
	for name := range strings.SplitSeq(rel, string(filepath.Separator)) {
		if d = d.names[name]; d == nil {
			return nil
		}
	}
	return d
}

// A tree is what is on the disk when the power is back, by path; that of a
// directory has a slash at its end.
type tree map[string]leaf

// A leaf is a file: its bytes, and which of those it is that have several names.
type leaf struct {
	data string
	id   int
}

func (t tree) String() string {
	var b strings.Builder
	for _, path := range slices.Sorted(maps.Keys(t)) {
		fmt.Fprintf(&b, "%s=%x (%d)\n", path, t[path].data, t[path].id)
	}
	return b.String()
}

// maxPending bounds the changes of one directory of which all subsets are
// tried. The store syncs long before.
const maxPending = 12

// afterwards calls yield with everything that a loss of power may leave.
func (p *platter) afterwards(yield func(tree)) { p.root.afterwards("", tree{}, yield) }

// afterwards adds what may be left of a directory, in each way, to a tree.
func (d *node) afterwards(path string, rest tree, yield func(tree)) {
	if len(d.pending) > maxPending {
		panic(fmt.Sprintf("%d changes of %q are not synced", len(d.pending), path))
	}
	for subset := range 1 << len(d.pending) {
		names := maps.Clone(d.durable)
		for i, ch := range d.pending {
			if subset>>i&1 == 1 {
				ch.do(names)
			}
		}
		fill(path, names, slices.Sorted(maps.Keys(names)), rest, yield)
	}
}

// fill adds these names of a directory to a tree, in each way.
func fill(path string, names map[string]*node, left []string, rest tree, yield func(tree)) {
	if len(left) == 0 {
		yield(rest)
		return
	}
	n, at := names[left[0]], path+left[0]
	next := func(with tree) { fill(path, names, left[1:], with, yield) }
	if n.dir {
		with := maps.Clone(rest)
		with[at+"/"] = leaf{}
		n.afterwards(at+"/", with, next)
		return
	}
	for _, data := range n.leaves() {
		with := maps.Clone(rest)
		with[at] = leaf{data, n.id}
		next(with)
	}
}

// leaves returns what may be left of the bytes of a file.
func (n *node) leaves() []string {
	whole := string(n.data)
	if n.synced || whole == "" {
		return []string{whole}
	}
	return []string{whole, whole[:len(whole)/2], strings.Repeat("\x00", len(whole)), ""}
}

// write makes the tree below base.
func (t tree) write(base string) error {
	first := make(map[int]string)
	for _, path := range slices.Sorted(maps.Keys(t)) { // a directory before what is in it
		at := filepath.Join(base, filepath.FromSlash(path))
		file, err := t[path], error(nil)
		switch other := first[file.id]; {
		case strings.HasSuffix(path, "/"):
			err = os.Mkdir(at, 0o700)
		case other != "":
			err = os.Link(other, at)
		default:
			first[file.id] = at
			err = os.WriteFile(at, []byte(file.data), 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
