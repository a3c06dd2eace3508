package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"io"

	"github.com/jezek/xgb"
	"github.com/jezek/xgb/xproto"
)

func init() { xgb.Logger.SetOutput(io.Discard) } // its functions return what it would log

// A window is one of X11, of a fixed size, with a picture and one button.
type window struct {
	conn    *xgb.Conn
	id      xproto.Window
	gc      xproto.Gcontext
	depth   byte
	rows    int // that fit in one request
	closing xproto.Atom
	title   xproto.Atom
	text    xproto.Atom // the type of the title

	events chan xgb.Event // closed when the connection is
	stale  chan struct{}  // has one element if the view has changed
}

// openWindow shows a window, still empty.
func openWindow(display string) (*window, error) {
	if display == "" {
		return nil, errors.New("there is no screen: set DISPLAY, or give -display")
	}
	conn, err := xgb.NewConnDisplay(display)
	if err != nil {
		return nil, fmt.Errorf("the screen cannot be used: %w", err)
	}
	w := &window{conn: conn, events: make(chan xgb.Event), stale: make(chan struct{}, 1)}
	go w.listen()
	if err := w.create(); err != nil {
		return nil, errors.Join(fmt.Errorf("there is no window to be had: %w", err), w.close())
	}
	return w, nil
}

// listen passes events on until the connection ends.
func (w *window) listen() {
	defer close(w.events)
	for {
		event, failed := w.conn.WaitForEvent()
		switch {
		case event != nil:
			w.events <- event
		case failed == nil:
			return
		}
	}
}

func (w *window) create() (err error) {
	setup := xproto.Setup(w.conn)
	screen := setup.DefaultScreen(w.conn)
	w.depth = screen.RootDepth
	if w.depth != 24 && w.depth != 32 || setup.ImageByteOrder != xproto.ImageOrderLSBFirst {
		return errors.New("the screen has colours that this program does not know")
	}
	w.rows = (4*int(setup.MaximumRequestLength) - 32) / (4 * area.Dx())
	if w.id, err = xproto.NewWindowId(w.conn); err != nil {
		return err
	}
	if w.gc, err = xproto.NewGcontextId(w.conn); err != nil {
		return err
	}
	err = xproto.CreateWindowChecked(w.conn, w.depth, w.id, screen.Root, 0, 0, uint16(area.Dx()), uint16(area.Dy()), 0,
		xproto.WindowClassInputOutput, screen.RootVisual, xproto.CwBackPixel|xproto.CwEventMask,
		[]uint32{uint32(paper.R)<<16 | uint32(paper.G)<<8 | uint32(paper.B), xproto.EventMaskExposure | xproto.EventMaskButtonPress}).Check()
	if err != nil {
		return err
	}
	if err := xproto.CreateGCChecked(w.conn, w.gc, xproto.Drawable(w.id), 0, nil).Check(); err != nil {
		return err
	}
	if err := w.properties(); err != nil {
		return err
	}
	return xproto.MapWindowChecked(w.conn, w.id).Check()
}

// properties tell the window manager what it has to know (ICCCM section 4.1).
func (w *window) properties() error {
	var protocols xproto.Atom
	for name, atom := range map[string]*xproto.Atom{"WM_PROTOCOLS": &protocols, "WM_DELETE_WINDOW": &w.closing, "_NET_WM_NAME": &w.title, "UTF8_STRING": &w.text} {
		reply, err := xproto.InternAtom(w.conn, false, uint16(len(name)), name).Reply()
		if err != nil {
			return err
		}
		*atom = reply.Atom
	}
	const minAndMax = 1<<4 | 1<<5
	width, height := uint32(area.Dx()), uint32(area.Dy())
	hints := []uint32{minAndMax, 0, 0, 0, 0, width, height, width, height, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	const class = "freshtoken-desktop\x00Freshtoken-desktop\x00"
	return errors.Join(
		w.set(protocols, xproto.AtomAtom, []uint32{uint32(w.closing)}),
		w.set(xproto.AtomWmNormalHints, xproto.AtomWmSizeHints, hints),
		xproto.ChangePropertyChecked(w.conn, xproto.PropModeReplace, w.id, xproto.AtomWmClass, xproto.AtomString, 8,
			uint32(len(class)), []byte(class)).Check())
}

func (w *window) set(name, kind xproto.Atom, values []uint32) error {
	var data []byte
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, v)
	}
	return xproto.ChangePropertyChecked(w.conn, xproto.PropModeReplace, w.id, name, kind, 32, uint32(len(values)), data).Check()
}

// refresh has the view drawn again. It may be called at any time, and does not wait.
func (w *window) refresh() {
	select {
	case w.stale <- struct{}{}:
	default: // it will be drawn as it is then
	}
}

// errScreen: there is nobody to show anything to.
var errScreen = errors.New("the connection to the screen has been lost")

// loop draws the view and passes clicks on, until the window is closed or ctx is
// done. The window is gone then.
func (w *window) loop(ctx context.Context, see func() view, do func(action)) error {
	defer xproto.DestroyWindow(w.conn, w.id)
	var shown view
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.stale:
			shown = see()
			if err := w.show(shown); err != nil {
				return errors.Join(errScreen, err)
			}
		case event, ok := <-w.events:
			if !ok {
				return errScreen
			}
			switch event := event.(type) {
			case xproto.ExposeEvent:
				w.refresh()
			case xproto.ButtonPressEvent:
				if image.Pt(int(event.EventX), int(event.EventY)).In(button) && event.Detail == xproto.ButtonIndex1 && shown.action != "" {
					do(shown.action)
				}
			case xproto.ClientMessageEvent:
				if event.Format == 32 && event.Data.Data32[0] == uint32(w.closing) {
					return nil
				}
			}
		}
	}
}

// show draws the view, and then says so in the title.
func (w *window) show(v view) error {
	img := paint(v)
	for y := 0; y < area.Dy(); y += w.rows {
		rows := min(w.rows, area.Dy()-y)
		data := pixels(img.Pix[y*img.Stride : (y+rows)*img.Stride])
		err := xproto.PutImageChecked(w.conn, xproto.ImageFormatZPixmap, xproto.Drawable(w.id), w.gc,
			uint16(area.Dx()), uint16(rows), 0, int16(y), 0, w.depth, data).Check()
		if err != nil {
			return err
		}
	}
	title := v.headline + " - freshtoken"
	return xproto.ChangePropertyChecked(w.conn, xproto.PropModeReplace, w.id, w.title, w.text, 8, uint32(len(title)), []byte(title)).Check()
}

// pixels has the colours in the order of X11 for those of Go.
func pixels(rgba []byte) []byte {
	bgra := make([]byte, len(rgba))
	for i := 0; i < len(rgba); i += 4 {
		bgra[i], bgra[i+1], bgra[i+2], bgra[i+3] = rgba[i+2], rgba[i+1], rgba[i], rgba[i+3]
	}
	return bgra
}

// close ends the connection, and what reads from it.
func (w *window) close() error {
	w.conn.Close()
	for range w.events {
	}
	return nil
}
