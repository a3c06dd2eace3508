package main

import (
	"bufio"
	"bytes"
	"fmt"
	"image"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
	"github.com/jezek/xgb/xtest"
)

// patience is how long anything may take on a machine that is busy.
const patience = time.Minute

// A screen is an X server of its own, and a person in front of it.
type screen struct {
	display string
	server  *exec.Cmd
	conn    *xgb.Conn
	root    xproto.Window
	title   xproto.Atom
	events  chan xgb.Event

	window xproto.Window // of the program; 0: not seen yet
}

// newScreen starts Xvfb. The test is skipped if it is not installed.
func newScreen(t *testing.T) *screen {
	t.Helper()
	path, err := exec.LookPath("Xvfb")
	if err != nil {
		t.Skip("Xvfb is not installed: .ci/run servers installs it and runs this, or apt-get install xvfb")
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{server: exec.Command(path, "-displayfd", "3", "-screen", "0", "800x600x24", "-nolisten", "tcp", "-noreset"), events: make(chan xgb.Event)}
	s.server.ExtraFiles = []*os.File{w}
	var said bytes.Buffer
	s.server.Stderr = &said
	if err := s.server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.kill)
	w.Close()
	r.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(r).ReadString('\n') // once it is ready
	r.Close()
	if err != nil {
		s.kill()
		t.Fatalf("Xvfb did not start: %v: %s", err, &said)
	}
	s.display = ":" + strings.TrimSpace(line)
	s.watch(t)
	return s
}

// kill ends the X server. It may be called twice.
func (s *screen) kill() {
	late := time.AfterFunc(patience, func() { s.server.Process.Kill() })
	s.server.Process.Signal(syscall.SIGTERM) // and it removes its socket
	s.server.Wait()
	late.Stop()
}

// watch connects the person to the X server.
func (s *screen) watch(t *testing.T) {
	t.Helper()
	var err error
	if s.conn, err = xgb.NewConnDisplay(s.display); err != nil {
		t.Fatal(err)
	}
	if err := xtest.Init(s.conn); err != nil {
		t.Fatal(err)
	}
	s.root = xproto.Setup(s.conn).DefaultScreen(s.conn).Root
	const name = "_NET_WM_NAME"
	reply, err := xproto.InternAtom(s.conn, false, uint16(len(name)), name).Reply()
	if err != nil {
		t.Fatal(err)
	}
	s.title = reply.Atom
	if err := xproto.ChangeWindowAttributesChecked(s.conn, s.root, xproto.CwEventMask, []uint32{xproto.EventMaskSubstructureNotify}).Check(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.events)
		for {
			event, failed := s.conn.WaitForEvent()
			if event == nil && failed == nil {
				return
			}
			s.events <- event
		}
	}()
	t.Cleanup(s.leave)
}

// leave disconnects the person. It may be called twice.
func (s *screen) leave() {
	s.conn.Close()
	for range s.events {
	}
}

// until waits until something is true, which is looked at whenever the window has
// changed.
func (s *screen) until(t *testing.T, what string, is func() bool) {
	t.Helper()
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for s.window == 0 || !is() {
		select {
		case event, ok := <-s.events:
			if !ok {
				t.Fatalf("the X server is gone while the test waits for %s", what)
			}
			if mapped, ok := event.(xproto.MapNotifyEvent); ok && s.window == 0 {
				s.window = mapped.Window
				xproto.ChangeWindowAttributes(s.conn, s.window, xproto.CwEventMask, []uint32{xproto.EventMaskPropertyChange | xproto.EventMaskStructureNotify})
			}
		case <-limit.C:
			t.Fatalf("waited in vain for %s: the window is called %q", what, s.name())
		}
	}
}

// name is the title of the window.
func (s *screen) name() string {
	reply, err := xproto.GetProperty(s.conn, false, s.window, s.title, xproto.GetPropertyTypeAny, 0, 1<<10).Reply()
	if err != nil {
		return ""
	}
	return string(reply.Value)
}

// shows waits for a view, and compares the picture on the screen with that of it. A
// view without a detail leaves it open.
func (s *screen) shows(t *testing.T, v view) {
	t.Helper()
	want := paint(v)
	parts := []image.Rectangle{headline, button}
	if v.detail != "" {
		parts = append(parts, detail)
	}
	s.until(t, fmt.Sprintf("%+v", v), func() bool {
		return s.name() == v.headline+" - freshtoken" && s.same(want, parts)
	})
}

// same tells whether the screen looks like an image in some places.
func (s *screen) same(want *image.RGBA, parts []image.Rectangle) bool {
	reply, err := xproto.GetImage(s.conn, xproto.ImageFormatZPixmap, xproto.Drawable(s.window), 0, 0, uint16(area.Dx()), uint16(area.Dy()), 0xffffffff).Reply()
	if err != nil || len(reply.Data) < len(want.Pix) {
		return false
	}
	shown := pixels(want.Pix)
	for _, part := range parts {
		for y := part.Min.Y; y < part.Max.Y; y++ {
			for x := part.Min.X; x < part.Max.X; x++ {
				i := want.PixOffset(x, y)
				if !bytes.Equal(reply.Data[i:i+3], shown[i:i+3]) {
					return false
				}
			}
		}
	}
	return true
}

// click moves the mouse to the button and presses it.
func (s *screen) click(t *testing.T) {
	t.Helper()
	at := button.Min.Add(button.Size().Div(2)) // the window is in the corner: nobody manages it
	press := func(kind, detail byte) error {
		return xtest.FakeInputChecked(s.conn, kind, detail, 0, s.root, int16(at.X), int16(at.Y), 0).Check()
	}
	for _, err := range []error{press(xproto.MotionNotify, 0), press(xproto.ButtonPress, 1), press(xproto.ButtonRelease, 1)} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// closes closes the window as a window manager does.
func (s *screen) closes(t *testing.T) {
	t.Helper()
	atom := func(name string) xproto.Atom {
		reply, err := xproto.InternAtom(s.conn, false, uint16(len(name)), name).Reply()
		if err != nil {
			t.Fatal(err)
		}
		return reply.Atom
	}
	event := xproto.ClientMessageEvent{Format: 32, Window: s.window, Type: atom("WM_PROTOCOLS"),
		Data: xproto.ClientMessageDataUnionData32New([]uint32{uint32(atom("WM_DELETE_WINDOW")), 0, 0, 0, 0})}
	if err := xproto.SendEventChecked(s.conn, false, s.window, 0, string(event.Bytes())).Check(); err != nil {
		t.Fatal(err)
	}
}
