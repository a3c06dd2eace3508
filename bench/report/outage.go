package main

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/freshtoken/freshtoken/bench/measure"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

const outageSeries = "16s.calls" // seconds since the outage began, and calls to the token endpoint until then

// The outage that is shown: the token expires in it.
const (
	outageLength = 16
	outageExpiry = 11
	outageHeight = 340
	outageLow    = 0.5 // where no call is on the scale
)

var outagePicture = picture{
	name:  "outage",
	title: "Calls to the token endpoint in an outage of 16 s",
	alt:   "Cumulative calls to the token endpoint in an outage: freshtoken keeps to Retry-After; the others call for every request once the token is dead.",
	subtitle: []string{
		"It answers 503 with Retry-After: 2, while 1,000 requests a second go on. The access",
		"token expires after 11 s; until then nobody has to notice. The scale is logarithmic.",
	},
	prepare: func(r measure.Run) (vg.Length, drawing) {
		var lines []outageLine
		for _, res := range of(r.Results, "outage") {
			// On an outage azcore does the same with a challenge handler.
			if pts := res.Series[outageSeries]; pts != nil && res.Peer != "azcore + OnChallenge" {
				lines = append(lines, outageLine{peer: res.Peer, points: pts, total: within(pts)})
			}
		}
		if len(lines) == 0 {
			return 0, nil
		}
		return outageHeight, func(c draw.Canvas, th theme) { drawOutage(c, th, lines) }
	},
}

type outageLine struct {
	peer   string
	points []measure.Point
	total  float64 // at the end of the outage
	line   draw.LineStyle
	label  vg.Length // its height
}

// within returns the calls made until the outage ends.
func within(pts []measure.Point) float64 {
	total := 0.0
	for _, p := range pts {
		if p.X <= outageLength {
			total = max(total, p.Y)
		}
	}
	return total
}

func (l outageLine) text() string { return fmt.Sprintf("%s: %s", l.peer, grouped(int64(l.total))) }

func drawOutage(c draw.Canvas, th theme, lines []outageLine) {
	lines = slices.Clone(lines)
	top, others := 0.0, 0
	var texts []string
	for i := range lines {
		l := &lines[i]
		top = max(top, l.total)
		texts = append(texts, l.text())
		if isOurs(l.peer) {
			l.line = draw.LineStyle{Color: th.ours, Width: 3.5}
			if l.peer != byDefault {
				l.line.Dashes = []vg.Length{3, 3}
			}
			continue
		}
		l.line = draw.LineStyle{Color: th.others[others%len(th.others)], Width: 2, Dashes: dashes[others%len(dashes)]}
		others++
	}
	right := widest(style(textSize, th.text, true), texts...) + 34
	p := seconds(th, 0, outageLength, "seconds since the outage began", every(0, outageLength, 2))
	p.Y.Min, p.Y.Max, p.Y.Scale = outageLow, max(top, 10)*1.5, plot.LogScale{}
	p.Add(plotter(func(area draw.Canvas, p *plot.Plot) {
		x, y := p.Transforms(&area)
		drawOutageGrid(area, th, x, y, top)
		// Ours is drawn last, and lies above the others.
		for _, l := range slices.Backward(lines) {
			area.StrokeLines(l.line, steps(l, x, y))
		}
		drawOutageLabels(area, th, lines, x, y)
	}))
	p.Draw(draw.Crop(c, 52, -right, 0, -6))
}

func drawOutageGrid(c draw.Canvas, th theme, x, y func(float64) vg.Length, top float64) {
	grid := draw.LineStyle{Color: th.grid, Width: 1}
	for v := 1.0; v <= top; v *= 10 {
		c.StrokeLine2(grid, x(0), y(v), x(outageLength), y(v))
		say(c, style(smallSize, th.muted, false), x(0)-7, y(v)-1, draw.XRight, draw.YCenter, grouped(int64(v)))
	}
	say(c, style(smallSize, th.muted, false), x(0)-7, y(outageLow)-1, draw.XRight, draw.YCenter, "0")
	c.StrokeLine2(draw.LineStyle{Color: th.muted, Width: 1, Dashes: []vg.Length{4, 3}}, x(outageExpiry), y(outageLow), x(outageExpiry), c.Max.Y)
	say(c, style(smallSize, th.muted, false), x(outageExpiry)-5, c.Max.Y, draw.XRight, draw.YTop, "the token expires")
}

// steps makes the stairs of a line, none smaller than can be seen.
func steps(l outageLine, x, y func(float64) vg.Length) []vg.Point {
	at := vg.Point{X: x(0), Y: y(outageLow)}
	pts := []vg.Point{at}
	for _, pt := range l.points {
		if pt.X < 0 || pt.X > outageLength {
			continue
		}
		to := vg.Point{X: x(pt.X), Y: y(pt.Y)}
		if to.Y-at.Y < 1.5 && pt.Y < l.total {
			continue
		}
		pts = append(pts, vg.Point{X: to.X, Y: at.Y}, to)
		at = to
	}
	return append(pts, vg.Point{X: x(outageLength), Y: at.Y})
}

// drawOutageLabels writes the name of each line where it ends, one below the
// other where lines end close together.
func drawOutageLabels(c draw.Canvas, th theme, lines []outageLine, x, y func(float64) vg.Length) {
	const pitch = textSize + 5
	order := slices.Clone(lines)
	// Of lines that end at the same height, the first is the highest.
	slices.SortStableFunc(order, func(a, b outageLine) int { return cmp.Compare(b.total, a.total) })
	for i := range order {
		order[i].label = y(max(order[i].total, outageLow))
		if i > 0 {
			order[i].label = min(order[i].label, order[i-1].label-pitch)
		}
	}
	// What does not fit above the axis pushes the others up again.
	low := y(outageLow)
	for i := len(order) - 1; i >= 0; i-- {
		order[i].label = max(order[i].label, low)
		low = order[i].label + pitch
	}
	end := x(outageLength)
	for _, l := range order {
		lead := l.line
		c.StrokeLines(draw.LineStyle{Color: th.muted, Width: 0.8}, []vg.Point{{X: end + 1, Y: y(max(l.total, outageLow))}, {X: end + 10, Y: l.label}})
		c.StrokeLines(lead, []vg.Point{{X: end + 10, Y: l.label}, {X: end + 30, Y: l.label}})
		say(c, style(textSize, th.text, isOurs(l.peer)), end+34, l.label-1, draw.XLeft, draw.YCenter, l.text())
	}
}
