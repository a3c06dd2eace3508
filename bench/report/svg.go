package main

import (
	"bytes"
	"errors"
	"fmt"
	"html"
	"image/color"
	"regexp"

	"github.com/freshtoken/freshtoken/bench/measure"
	xfont "golang.org/x/image/font"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Pictures are drawn with gonum.org/v1/plot: maintained, without cgo or a
// browser, and its SVG has text as text. They are drawn in units of which width
// make up shownWidth pixels, the width of a README.
const (
	width      = 700
	shownWidth = 830
	textSize   = 14
	smallSize  = 12
	titleSize  = 17
)

// A theme is what a picture has for a light page, or for a dark one. Colours are
// those of Okabe and Ito, which can be told apart by most people who are colour
// blind.
type theme struct {
	suffix            string // of the file's name
	text, muted, grid color.Color
	ours              color.Color   // freshtoken
	bad               color.Color   // failures
	others            []color.Color // peers, in turn
}

var themes = []theme{{
	suffix: "", text: rgb(0x1f2328), muted: rgb(0x59636e), grid: rgb(0xd1d9e0),
	ours: rgb(0x0072b2), bad: rgb(0xd55e00),
	others: []color.Color{rgb(0xd55e00), rgb(0x009e73), rgb(0xcc79a7), rgb(0xe69f00), rgb(0x56b4e9), rgb(0x59636e)},
}, {
	suffix: "-dark", text: rgb(0xf0f6fc), muted: rgb(0x9198a1), grid: rgb(0x3d444d),
	ours: rgb(0x56b4e9), bad: rgb(0xe8743b),
	others: []color.Color{rgb(0xe8743b), rgb(0x19b88b), rgb(0xcc79a7), rgb(0xe69f00), rgb(0xf0e442), rgb(0x9198a1)},
}}

// dashes tell lines apart without their colours.
var dashes = [][]vg.Length{nil, {7, 3}, {2, 2.5}, {9, 3, 2, 3}, {4, 2}}

func rgb(v uint32) color.Color {
	return color.NRGBA{R: uint8(v >> 16), G: uint8(v >> 8), B: uint8(v), A: 255}
}

// A picture is drawn from a run.
type picture struct {
	name, title string
	subtitle    []string
	alt         string // for those who do not see it

	// prepare picks what is shown, and says how much height that needs below
	// the title. Zero: the run has nothing to show.
	prepare func(measure.Run) (vg.Length, drawing)
}

type drawing func(draw.Canvas, theme)

var pictures = []picture{latencyPicture, outagePicture, processesPicture}

// pictureFiles draws all pictures, for all themes. The error names those for
// which the run has nothing.
func pictureFiles(r measure.Run) (map[string][]byte, error) {
	files := make(map[string][]byte)
	var errs []error
	for _, p := range pictures {
		height, inner := p.prepare(r)
		if height == 0 {
			errs = append(errs, fmt.Errorf("the run has nothing for the picture %s", p.name))
			continue
		}
		for _, th := range themes {
			data, err := p.svg(height, inner, th)
			if err != nil {
				return files, err
			}
			files[p.file(th)] = data
		}
	}
	return files, errors.Join(errs...)
}

func (p picture) file(th theme) string { return "performance/" + p.name + th.suffix + ".svg" }

func (p picture) svg(height vg.Length, inner drawing, th theme) ([]byte, error) {
	top := vg.Length(titleSize + 12 + 17*len(p.subtitle))
	canvas := vgsvg.New(width, height+top)
	c := draw.New(canvas)
	say(c, style(titleSize, th.text, true), c.Min.X, c.Max.Y-2, draw.XLeft, draw.YTop, p.title)
	for i, line := range p.subtitle {
		say(c, style(smallSize+1, th.muted, false), c.Min.X, c.Max.Y-titleSize-9-vg.Length(17*i), draw.XLeft, draw.YTop, line)
	}
	c.Max.Y -= top
	inner(c, th)
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, err
	}
	return p.finish(b.Bytes(), height+top), nil
}

var (
	header   = regexp.MustCompile(`(?s)^.*?<svg [^>]*>\n`)
	fontRule = regexp.MustCompile(`font-family:[^;]*;font-variant:[^;]*;`)
	anchored = regexp.MustCompile("<text ([^>]*)>([\ue000\ue001])")
	plain    = regexp.MustCompile(`font-weight:normal;font-style:normal;|font-style:normal;`)
)

// finish makes the file fit any page: a size in pixels, a name for those who do
// not see it, and fonts that everybody has. They are as wide as those that the
// text was laid out with.
func (p picture) finish(svg []byte, height vg.Length) []byte {
	svg = header.ReplaceAllLiteral(svg, fmt.Appendf(nil,
		`<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%.0f" viewBox="0 0 %d %.0f" role="img" font-family="Helvetica,Arial,'Liberation Sans',sans-serif">`+"\n<title>%s</title>\n",
		shownWidth, height*shownWidth/width, width, height, html.EscapeString(p.title+". "+p.alt)))
	svg = fontRule.ReplaceAllLiteral(svg, nil)
	svg = plain.ReplaceAllLiteral(svg, nil)
	svg = bytes.ReplaceAll(svg, []byte("\n\tstyle="), []byte(" style="))
	return anchored.ReplaceAllFunc(svg, func(text []byte) []byte {
		m := anchored.FindSubmatch(text)
		anchor := map[string]string{anchors[draw.XRight]: "end", anchors[draw.XCenter]: "middle"}[string(m[2])]
		return fmt.Appendf(nil, `<text text-anchor="%s" %s>`, anchor, m[1])
	})
}

func style(size vg.Length, c color.Color, bold bool) draw.TextStyle {
	f := font.Font{Typeface: "Liberation", Variant: "Sans", Size: size}
	if bold {
		f.Weight = xfont.WeightBold
	}
	return draw.TextStyle{Color: c, Font: f, Handler: plot.DefaultTextHandler}
}

func say(c draw.Canvas, s draw.TextStyle, x, y vg.Length, xa draw.XAlignment, ya draw.YAlignment, text string) {
	s.YAlign = ya
	c.FillText(s, vg.Point{X: x, Y: y}, anchors[xa]+text)
}

// anchors stand before a text until finish makes an attribute of them, so that
// a text ends, or has its middle, in the right place in any font.
var anchors = map[draw.XAlignment]string{draw.XLeft: "", draw.XRight: "\ue000", draw.XCenter: "\ue001"}

// seconds makes a plot with an axis of seconds below, and none at the left.
func seconds(th theme, from, to float64, label string, ticks []plot.Tick) *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	p.HideY()
	p.X.Min, p.X.Max = from, to
	p.X.Padding = 4
	p.X.LineStyle = draw.LineStyle{Color: th.grid, Width: 1}
	p.X.Tick.LineStyle = p.X.LineStyle
	p.X.Tick.Length = 4
	p.X.Tick.Label = style(smallSize, th.muted, false)
	p.X.Tick.Label.XAlign, p.X.Tick.Label.YAlign = draw.XCenter, draw.YTop
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	p.X.Label.Text = label
	p.X.Label.TextStyle = style(smallSize, th.muted, false)
	p.X.Label.TextStyle.XAlign, p.X.Label.TextStyle.YAlign = draw.XCenter, draw.YBottom
	return p
}

// every makes ticks, labelled with their values.
func every(from, to, step float64) []plot.Tick {
	var ticks []plot.Tick
	for i := 0; from+float64(i)*step <= to+step/1e6; i++ {
		v := from + float64(i)*step
		ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%g", round(v))})
	}
	return ticks
}

// round rounds to thousandths.
func round(v float64) float64 {
	if v < 0 {
		return -round(-v)
	}
	return float64(int64(v*1000+0.5)) / 1000
}

// plotter makes a plotter of a function.
type plotter func(draw.Canvas, *plot.Plot)

func (f plotter) Plot(c draw.Canvas, p *plot.Plot) { f(c, p) }

// widest returns the width of the widest text, with a margin for fonts that are
// wider than ours.
func widest(s draw.TextStyle, texts ...string) vg.Length {
	var w vg.Length
	for _, t := range texts {
		w = max(w, s.Width(t))
	}
	return w * 1.18
}
