package main

import (
	"fmt"
	"strings"

	"github.com/freshtoken/freshtoken/bench/measure"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// processSeries are seconds, and 1 for a call that brought a token, 0 for one
// that failed.
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
		"twice. Each lane is a process: thick where its calls succeed, dotted where they fail.",
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
					end = max(end, p.X)
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

// drawProcess draws the lane of a process: what its calls came to, each for the
// time until the next.
func drawProcess(c draw.Canvas, th theme, pts []measure.Point, x func(float64) vg.Length, y vg.Length) {
	var good, bad, cross vg.Path
	for i := 0; i < len(pts); {
		j := i
		for j < len(pts) && (pts[j].Y > 0) == (pts[i].Y > 0) {
			j++
		}
		to := x(pts[min(j, len(pts)-1)].X)
		if pts[i].Y > 0 {
			good.Move(vg.Point{X: x(pts[i].X), Y: y})
			good.Line(vg.Point{X: to, Y: y})
		} else {
			from := x(pts[i].X)
			cross.Move(vg.Point{X: from - 2, Y: y - 2})
			cross.Line(vg.Point{X: from + 2, Y: y + 2})
			cross.Move(vg.Point{X: from - 2, Y: y + 2})
			cross.Line(vg.Point{X: from + 2, Y: y - 2})
			bad.Move(vg.Point{X: from + 3, Y: y})
			bad.Line(vg.Point{X: to, Y: y})
		}
		i = j
	}
	c.SetLineStyle(draw.LineStyle{Color: th.ours, Width: 4.6})
	c.Stroke(good)
	c.SetLineStyle(draw.LineStyle{Color: th.bad, Width: 1.5})
	c.Stroke(cross)
	c.SetLineStyle(draw.LineStyle{Color: th.bad, Width: 1.5, Dashes: []vg.Length{1.5, 3}})
	c.Stroke(bad)
}
