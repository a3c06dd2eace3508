package main

import (
	"fmt"
	"math"

	"github.com/freshtoken/freshtoken/bench/measure"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

const latencySeries = "latency" // start of a request, and how many milliseconds it took

// latencyWindow is what is shown, in seconds around the moment at which the
// refresh begins.
var latencyWindow = [2]float64{-0.25, 1}

const (
	latencyTop   = 500 // milliseconds at the top of a row
	latencyPitch = 42
	latencyRow   = 31
	latencyBin   = 1.5  // how wide a bar is at least
	latencyThink = 0.15 // seconds without a request that mean nothing: each caller thinks for 0.1
)

var latencyPicture = picture{
	name:  "latency",
	title: "Requests while the token is replaced",
	alt:   "Latency of requests across an expiry boundary: with freshtoken nobody waits in the background mode and one request by default; with x/oauth2 and others all callers wait for half a second.",
	subtitle: []string{
		"2,000 requests a second, and a token endpoint that takes 500 ms. A bar is requests",
		"that have to wait: it stands where they start, and is as high as they take long.",
	},
	prepare: func(r measure.Run) (vg.Length, drawing) {
		var rows []measure.Result
		for _, res := range of(r.Results, "boundary") {
			if len(res.Series[latencySeries]) > 0 && !isFloor(res.Peer) && res.Peer != "azcore + OnChallenge" { // on expiry it is azcore
				rows = append(rows, res)
			}
		}
		if len(rows) == 0 {
			return 0, nil
		}
		return vg.Length(len(rows))*latencyPitch + 50, func(c draw.Canvas, th theme) { drawLatency(c, th, rows) }
	},
}

func drawLatency(c draw.Canvas, th theme, rows []measure.Result) {
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.Peer
	}
	left := widest(style(textSize, th.text, true), names...) + 10
	const right = 88
	p := seconds(th, latencyWindow[0], latencyWindow[1], "seconds since the refresh began", every(latencyWindow[0], latencyWindow[1], 0.25))
	p.Y.Min, p.Y.Max = 0, 1
	p.Add(plotter(func(area draw.Canvas, p *plot.Plot) {
		x, _ := p.Transforms(&area)
		head := style(smallSize, th.muted, false)
		say(area, head, c.Max.X, area.Max.Y+16, draw.XRight, draw.YTop, "requests")
		say(area, head, c.Max.X, area.Max.Y+2, draw.XRight, draw.YTop, "that wait")
		top, told := area.Max.Y-8, false
		for i, r := range rows {
			base := top - vg.Length(i+1)*latencyPitch + 6
			if i == 0 {
				area.StrokeLine2(draw.LineStyle{Color: th.grid, Width: 1, Dashes: []vg.Length{3, 3}}, area.Min.X, base+latencyRow, area.Max.X, base+latencyRow)
				say(area, head, area.Max.X, base+latencyRow+2, draw.XRight, draw.YBottom, "500 ms")
			}
			drawLatencyRow(area, th, r, x, base)
			if from, to := gap(r.Series[latencySeries]); !told && to-from > 0.3 {
				say(area, head, x((from+to)/2), base+4, draw.XCenter, draw.YBottom, "all callers wait")
				told = true
			}
			say(area, style(textSize, th.text, isOurs(r.Peer)), area.Min.X-10, base-2, draw.XRight, draw.YBottom, r.Peer)
			say(area, style(textSize, th.text, isOurs(r.Peer)), c.Max.X, base-2, draw.XRight, draw.YBottom, stalled(r))
		}
	}))
	p.Draw(draw.Crop(c, left, -right, 0, 0))
}

// stalled says how many requests wait in a refresh.
func stalled(r measure.Result) string {
	v, ok := r.Values["stalled.count"]
	if !ok {
		return missing
	}
	return fmt.Sprintf("%.0f", v)
}

// drawLatencyRow draws a bar for the slowest of the requests that start at about
// the same time, and a line below where any start.
func drawLatencyRow(c draw.Canvas, th theme, r measure.Result, x func(float64) vg.Length, base vg.Length) {
	pts := r.Series[latencySeries]
	step := max(slot(pts), float64(latencyBin/(x(1)-x(0))))
	at := func(v float64) vg.Length { return max(c.Min.X, min(x(v), c.Max.X)) }
	var bars, floor vg.Path
	from, to := math.Inf(-1), math.Inf(-1) // the part of the line that is not drawn yet
	stroke := func() {
		if at(from) < at(to) {
			floor.Move(vg.Point{X: at(from), Y: base})
			floor.Line(vg.Point{X: at(to), Y: base})
		}
	}
	for _, bin := range slowest(pts, step) {
		if bin.X-to > latencyThink {
			stroke()
			from = bin.X - step/2
		}
		to = bin.X + step/2
		h := vg.Length(min(bin.Y, 1.1*latencyTop) / latencyTop * latencyRow)
		if h >= 0.4 && latencyWindow[0] <= bin.X && bin.X <= latencyWindow[1] {
			bars.Move(vg.Point{X: x(bin.X), Y: base})
			bars.Line(vg.Point{X: x(bin.X), Y: base + h})
		}
	}
	if latencyWindow[1]-to < latencyThink { // the next ones start behind the picture's edge
		to = latencyWindow[1]
	}
	stroke()
	colour := th.bad
	if isOurs(r.Peer) {
		colour = th.ours
	}
	c.SetLineStyle(draw.LineStyle{Color: colour, Width: 2.2})
	c.Stroke(floor)
	c.SetLineStyle(draw.LineStyle{Color: colour, Width: x(step) - x(0) + 0.1})
	c.Stroke(bars)
}

// slowest returns the highest of the points in each step.
func slowest(pts []measure.Point, step float64) []measure.Point {
	var bins []measure.Point
	last := math.MinInt
	for _, pt := range pts {
		i := int(math.Round((pt.X - pts[0].X) / step))
		if i != last {
			bins = append(bins, measure.Point{X: pts[0].X + float64(i)*step, Y: pt.Y})
			last = i
		}
		bin := &bins[len(bins)-1]
		bin.Y = max(bin.Y, pt.Y)
	}
	return bins
}

// slot is how far apart the points of a series are, as a rule.
func slot(pts []measure.Point) float64 {
	var apart []float64
	for i := 1; i < len(pts); i++ {
		apart = append(apart, pts[i].X-pts[i-1].X)
	}
	return measure.Median(apart)
}

// gap is the longest time in which no request started, in the window.
func gap(pts []measure.Point) (from, to float64) {
	for i := range pts[1:] {
		if a, b := pts[i].X, pts[i+1].X; b-a > to-from && a >= latencyWindow[0] && b <= latencyWindow[1] {
			from, to = a, b
		}
	}
	return from, to
}
