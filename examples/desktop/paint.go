package main

import (
	"image"
	"image/color"
	"image/draw"
	"strings"
	"sync"

	"golang.org/x/image/font"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/math/fixed"
)

// Where things are in the window, in pixels.
var (
	area     = image.Rect(0, 0, 480, 200)
	headline = image.Rect(24, 24, 456, 56)
	detail   = image.Rect(24, 64, 456, 136)
	button   = image.Rect(24, 144, 184, 180)
)

var (
	paper = color.RGBA{0xfa, 0xfa, 0xf7, 0xff}
	ink   = color.RGBA{0x22, 0x22, 0x22, 0xff}
	blue  = color.RGBA{0x1a, 0x5f, 0xb4, 0xff}
)

// faces are the fonts, large and small. They come with the program, and serve one
// goroutine at a time.
var faces = sync.OnceValues(func() (large, small font.Face) {
	parsed, err := opentype.Parse(goregular.TTF)
	if err != nil {
		panic(err) // it is compiled in
	}
	size := func(points float64) font.Face {
		face, err := opentype.NewFace(parsed, &opentype.FaceOptions{Size: points, DPI: 72, Hinting: font.HintingFull})
		if err != nil {
			panic(err)
		}
		return face
	}
	return size(22), size(15)
})

// painting keeps the faces to one goroutine.
var painting sync.Mutex

// paint makes the picture of a view.
func paint(v view) *image.RGBA {
	painting.Lock()
	defer painting.Unlock()
	large, small := faces()
	img := image.NewRGBA(area)
	draw.Draw(img, area, image.NewUniform(paper), image.Point{}, draw.Src)
	write(img, headline, large, ink, v.headline)
	write(img, detail, small, ink, v.detail)
	if v.action != "" {
		draw.Draw(img, button, image.NewUniform(blue), image.Point{}, draw.Src)
		write(img, button.Inset(8), small, paper, string(v.action))
	}
	return img
}

// write puts text into a rectangle: as many lines as there is room for.
func write(img draw.Image, in image.Rectangle, face font.Face, c color.Color, text string) {
	d := font.Drawer{Dst: img, Src: image.NewUniform(c), Face: face}
	height := face.Metrics().Height.Ceil()
	y := in.Min.Y + face.Metrics().Ascent.Ceil()
	for _, line := range lines(&d, in.Dx(), text) {
		if y > in.Max.Y {
			return
		}
		d.Dot = fixed.P(in.Min.X, y)
		d.DrawString(line)
		y += height
	}
}

// lines breaks text between words. A word that is wider than a line is cut off.
func lines(d *font.Drawer, width int, text string) []string {
	var all []string
	line := ""
	for _, word := range strings.Fields(text) {
		for d.MeasureString(word).Ceil() > width {
			runes := []rune(word)
			word = string(runes[:len(runes)-1])
		}
		longer := strings.TrimSpace(line + " " + word)
		if d.MeasureString(longer).Ceil() > width {
			all = append(all, line)
			longer = word
		}
		line = longer
	}
	return append(all, line)
}
