package main

import (
	"fmt"
	"strings"

	"github.com/freshtoken/freshtoken/bench/measure"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// processSeries are how many calls brought a token from then until the next
// point, over seconds.
var processSeries = func() (all []string) {
	for i := range 8 {
		all = append(all, fmt.Sprintf("process %d", i+1))
	}
	return all
}()

const (
	processLane = 8
	processGap  = 22
)

var processesPicture = picture{
	name:  "processes",
	title: "Eight processes, one stored session",
	alt:   "Calls of eight processes that share a session: with freshtoken all succeed; with the others the session is lost at the first refresh.",
	subtitle: []string{
		"The server accepts each refresh token once, and ends a session whose token is sent",
		"twice. Each lane is a process: thick as long as calls succeed, dotted while none does.",
	},
	prepare: func(r measure.Run) (vg.Length, drawing) {
		var rows []measure.Result
		end := 0.0
		for _, res := range of(r.Results, "processes") {
			if len(res.Series[processSeries[0]]) == 0 {
				continue
			}
			rows = append(rows, res)
			for _, pts := range res.Series {
				for _, p := range pts {
					end = max(end, p.X+slot(pts))
				}
			}
		}
		if len(rows) == 0 {
			return 0, nil
		}
		height := vg.Length(len(rows))*(8*processLane+processGap) + 36
		return height, func(c draw.Canvas, th theme) { drawProcesses(c, th, rows, end) }
	},
}

func drawProcesses(c draw.Canvas, th theme, rows []measure.Result, end float64) {
	var names []string
	for _, r := range rows {
		names = append(names, processLabel(r)...)
	}
	left := widest(style(textSize, th.text, true), names...) + 12
	p := seconds(th, 0, end, "seconds since they were started", every(0, end, 1))
	p.Y.Min, p.Y.Max = 0, 1
	p.Add(plotter(func(area draw.Canvas, p *plot.Plot) {
		x, _ := p.Transforms(&area)
		for i, r := range rows {
			top := area.Max.Y - 10 - vg.Length(i)*(8*processLane+processGap)
			for lane, name := range processSeries {
				drawProcess(area, th, r.Series[name], x, top-vg.Length(lane)*processLane)
			}
			middle := top - 3.5*processLane
			lines := processLabel(r)
			for n, line := range lines {
				s := style(textSize, th.text, isOurs(r.Peer))
				if n == len(lines)-1 {
					s = style(smallSize, th.muted, false)
				}
				say(area, s, area.Min.X-12, middle+vg.Length(len(lines))*9-vg.Length(n)*17, draw.XRight, draw.YTop, line)
			}
		}
	}))
	p.Draw(draw.Crop(c, left, 0, 0, 0))
}

// processLabel is a peer's name, in two lines if it is long, and what became of
// its calls.
func processLabel(r measure.Result) []string {
	lines := []string{r.Peer}
	if before, after, ok := strings.Cut(r.Peer, " + "); ok {
		lines = []string{before + " +", after}
	}
	failed, calls := r.Values["failed.count"], r.Values["calls.count"]
	return append(lines, fmt.Sprintf("%s of %s calls failed", count(failed), count(calls)))
}

// drawProcess draws the lane of a process.
func drawProcess(c draw.Canvas, th theme, pts []measure.Point, x func(float64) vg.Length, y vg.Length) {
	var good, bad, cross vg.Path
	for _, s := range spans(pts) {
		from, to := vg.Point{X: x(s.from), Y: y}, vg.Point{X: x(s.to), Y: y}
		if s.good {
			good.Move(from)
			good.Line(to)
			continue
		}
		cross.Move(vg.Point{X: from.X, Y: y - 2})
		cross.Line(vg.Point{X: from.X + 4, Y: y + 2})
		cross.Move(vg.Point{X: from.X, Y: y + 2})
		cross.Line(vg.Point{X: from.X + 4, Y: y - 2})
		bad.Move(vg.Point{X: from.X + 6, Y: y})
		bad.Line(to)
	}
	c.SetLineStyle(draw.LineStyle{Color: th.ours, Width: 4.6})
	c.Stroke(good)
	c.SetLineStyle(draw.LineStyle{Color: th.bad, Width: 1.5})
	c.Stroke(cross)
	c.SetLineStyle(draw.LineStyle{Color: th.bad, Width: 1.5, Dashes: []vg.Length{1.5, 3}})
	c.Stroke(bad)
}

// A span is a time in which calls succeed, or none does.
type span struct {
	from, to float64
	good     bool
}

// spans says when calls succeed. The end lies within the last slot in which any
// did, as far on as there were calls in it, compared with the fullest.
func spans(pts []measure.Point) []span {
	var all []span
	step, most := slot(pts), 0.0
	for _, pt := range pts {
		most = max(most, pt.Y)
	}
	for i, pt := range pts {
		good := pt.Y > 0
		if n := len(all); n == 0 || all[n-1].good != good {
			from := pt.X
			if n > 0 && !good {
				from -= step * (1 - pts[i-1].Y/most)
				all[n-1].to = from
			}
			all = append(all, span{from: from, good: good})
		}
		all[len(all)-1].to = pt.X + step
	}
	return all
}
