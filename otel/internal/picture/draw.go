package main

import (
	"bytes"
	"fmt"
	"html"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// The lay-out, in pixels.
const (
	width  = 760
	left   = 150 // where time begins
	right  = 660 // where it ends; there is room for a label behind it
	top    = 62
	row    = 30
	bar    = 16
	bottom = 44
)

// says is what the steps do, for those who have not read the documentation.
var says = map[string]string{
	"lock":    "wait for the session lock: another program has it",
	"load":    "read what is stored",
	"mark":    "note that the refresh token is about to be spent",
	"request": "ask the server, once",
	"save":    "save the answer",
	"unlock":  "give the lock back",
}

const style = `<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 14px; font-weight: 600 }
.small { font-size: 11px; fill: #59636e }
.grid { stroke: #d1d9e0; stroke-width: 1 }
.whole { fill: #59636e } .lock { fill: #bc4c00 } .request { fill: #0969da } .disk { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .small { fill: #9198a1 }
  .grid { stroke: #3d444d }
  .whole { fill: #9198a1 } .lock { fill: #db6d28 } .request { fill: #4493f8 } .disk { fill: #3fb950 }
}
</style>
`

// picture is an SVG in the making.
type picture struct {
	bytes.Buffer
	whole  time.Duration // of the trace
	height int
}

func (p *picture) add(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

func (p *picture) x(at time.Duration) float64 {
	return left + (right-left)*at.Seconds()/p.whole.Seconds()
}

func (p *picture) text(x float64, y int, class, text string) {
	p.add(`<text x="%.1f" y="%d" class="%s">%s</text>`, x, y, class, html.EscapeString(text))
}

// draw draws the spans of one trace: the root, and its children as they began.
func draw(spans []tracetest.SpanStub) []byte {
	spans = slices.Clone(spans)
	slices.SortStableFunc(spans, func(a, b tracetest.SpanStub) int {
		if a.Parent.IsValid() != b.Parent.IsValid() {
			if b.Parent.IsValid() {
				return -1
			}
			return 1
		}
		return a.StartTime.Compare(b.StartTime)
	})
	root := spans[0]
	p := &picture{whole: max(took(root), time.Nanosecond), height: top + row*len(spans) + bottom}
	p.add(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-labelledby="t d">`, width, p.height, width, p.height)
	p.add("<title id=\"t\">A trace of one refresh</title>\n<desc id=\"d\">%s</desc>\n%s", html.EscapeString(inWords(spans)), style)
	p.text(16, 24, "title", "One refresh: "+millis(took(root)))
	p.text(16, 42, "small", attributes(root))
	p.scale()
	for i, s := range spans {
		p.span(s, s.StartTime.Sub(root.StartTime), top+row*i)
	}
	p.add("</svg>")
	return p.Bytes()
}

// scale draws lines at round times, and says which.
func (p *picture) scale() {
	unit := time.Microsecond
	for i := 0; p.whole/unit > 8; i++ {
		unit = unit * []time.Duration{2, 5, 2}[i%3] / []time.Duration{1, 2, 1}[i%3]
	}
	for at := time.Duration(0); at <= p.whole; at += unit {
		p.add(`<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" class="grid"/>`, p.x(at), top-6, p.x(at), p.height-bottom)
		p.add(`<text x="%.1f" y="%d" class="small" text-anchor="middle">%s</text>`, p.x(at), p.height-bottom+18, millis(at))
	}
}

// span draws one, with its name before and its time behind it.
func (p *picture) span(s tracetest.SpanStub, from time.Duration, y int) {
	name := strings.TrimPrefix(s.Name, "freshtoken.refresh.")
	indent, class := 32.0, "disk"
	switch name {
	case "lock", "request":
		class = name
	case "freshtoken.refresh":
		indent, class = 16, "whole"
	}
	p.text(indent, y+13, "", name)
	end := p.x(from + took(s))
	p.add(`<rect x="%.1f" y="%d" width="%.1f" height="%d" rx="2" class="%s"><title>%s</title></rect>`,
		p.x(from), y, max(end-p.x(from), 2), bar, class, html.EscapeString(says[name]))
	p.text(max(end, p.x(from)+2)+6, y+13, "small", millis(took(s)))
}

func took(s tracetest.SpanStub) time.Duration { return s.EndTime.Sub(s.StartTime) }

func millis(d time.Duration) string {
	ms := strconv.FormatFloat(float64(d.Microseconds())/1000, 'g', 3, 64)
	return ms + " ms"
}

// attributes are those of a span, as they are exported.
func attributes(s tracetest.SpanStub) string {
	all := make([]string, len(s.Attributes))
	for i, kv := range s.Attributes {
		all[i] = string(kv.Key) + "=" + kv.Value.String()
	}
	return strings.Join(all, "   ")
}

// inWords tells those who do not see the picture what is in it.
func inWords(spans []tracetest.SpanStub) string {
	all := make([]string, len(spans))
	for i, s := range spans {
		all[i] = fmt.Sprintf("%s took %s", strings.TrimPrefix(s.Name, "freshtoken.refresh."), millis(took(s)))
		if what := says[strings.TrimPrefix(s.Name, "freshtoken.refresh.")]; what != "" {
			all[i] += " (" + what + ")"
		}
	}
	return strings.Join(all, "; ") + "."
}
