package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/bench/measure"
)

// texts parses an SVG and returns what it says.
func texts(t *testing.T, data []byte) []string {
	t.Helper()
	var all []string
	dec := xml.NewDecoder(bytes.NewReader(data))
	for in := ""; ; {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			in = token.Name.Local
			if in == "rect" || in == "image" || in == "script" {
				t.Errorf("there is a %s", in)
			}
		case xml.CharData:
			if in == "text" && len(bytes.TrimSpace(token)) > 0 {
				all = append(all, string(token))
			}
		}
	}
}

var colours = regexp.MustCompile(`#[0-9A-F]{6}`)

func TestPictures(t *testing.T) {
	files, err := pictureFiles(sample())
	if err != nil {
		t.Fatal(err)
	}
	again, _ := pictureFiles(sample())
	for name, want := range map[string][]string{
		"latency":   {"Requests while the token is replaced", "freshtoken", "freshtoken, Background", "x/oauth2", "200", "500 ms", "all callers wait"},
		"outage":    {"Calls to the token endpoint in an outage of 16 s", "freshtoken: 8", "x/oauth2: 712", "k8s client-go: 237", "the token expires"},
		"processes": {"Eight processes, one stored session", "freshtoken", "0 of 12,720 calls failed", "MSAL +", "extensions cache", "2,440 of 6,431 calls failed"},
	} {
		light, dark := files["performance/"+name+".svg"], files["performance/"+name+"-dark.svg"]
		for _, data := range [][]byte{light, dark} {
			all := texts(t, data)
			for _, w := range want {
				if !slices.Contains(all, w) {
					t.Errorf("%s does not say %q: %q", name, w, all)
				}
			}
			if len(data) == 0 || len(data) > 60<<10 {
				t.Errorf("%s has %d bytes", name, len(data))
			}
			// What stands to the left of a line ends there in any font.
			if name != "outage" && !regexp.MustCompile(`text-anchor="end"[^>]*>freshtoken<`).Match(data) {
				t.Errorf("%s: the name of a row is not anchored at its end", name)
			}
			if strings.ContainsAny(string(data), "\ue000\ue001") || bytes.Contains(data, []byte("Liberation Sans;")) {
				t.Errorf("%s is not finished", name)
			}
		}
		if !bytes.Equal(light, again["performance/"+name+".svg"]) {
			t.Errorf("%s differs from the one made before", name)
		}
		if bytes.Equal(light, dark) || !bytes.Equal(colours.ReplaceAll(light, nil), colours.ReplaceAll(dark, nil)) {
			t.Errorf("%s: light and dark differ in something else than colours", name)
		}
	}
}

var label = regexp.MustCompile(`<text x="([^"]*)" y="([^"]*)"[^>]*>(peer \d+|freshtoken): `)

// However close together lines end, their labels do not overlap, nor leave the plot.
func TestOutageLabelsDoNotOverlap(t *testing.T) {
	for _, ends := range [][]int{
		{8, 712, 237, 237, 237, 237, 237}, {700, 700, 700, 700, 700, 700}, {1, 1, 1, 0, 0, 0, 2, 1, 500},
		{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, {0},
	} {
		var run measure.Run
		for i, n := range ends {
			r := measure.Result{Measure: "outage", Peer: fmt.Sprintf("peer %d", i), Series: map[string][]measure.Point{outageSeries: {}}}
			if i == 0 {
				r.Peer = byDefault
			}
			for k := range n {
				r.Series[outageSeries] = append(r.Series[outageSeries], measure.Point{X: 16 * float64(k) / float64(n), Y: float64(k + 1)})
			}
			run.Results = append(run.Results, r)
		}
		files, _ := pictureFiles(run)
		var at []float64
		for _, m := range label.FindAllStringSubmatch(string(files["performance/outage.svg"]), -1) {
			y, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				t.Fatal(err)
			}
			at = append(at, y)
			// 0 is the lower edge of the picture. The axis takes some room above it.
			if y > -26 || y < -outageHeight {
				t.Errorf("%d: %s is at %v, outside the plot", ends, m[3], y)
			}
		}
		slices.Sort(at)
		if len(at) != len(ends) {
			t.Errorf("%d: there are %d labels", ends, len(at))
		}
		for i := range at[1:] {
			if at[i+1]-at[i] < textSize {
				t.Errorf("%d: labels at %v", ends, at)
			}
		}
	}
}

func TestSpans(t *testing.T) {
	at := func(ys ...float64) (pts []measure.Point) {
		for i, y := range ys {
			pts = append(pts, measure.Point{X: float64(i) / 2, Y: y})
		}
		return pts
	}
	for _, c := range []struct {
		pts  []measure.Point
		want []span
	}{
		{at(90, 100, 99), []span{{0, 1.5, true}}},
		{at(0, 0), []span{{0, 1, false}}},
		{at(100, 100, 40, 0, 0), []span{{0, 1.2, true}, {1.2, 2.5, false}}},
		{at(100, 0, 50), []span{{0, 0.5, true}, {0.5, 1, false}, {1, 1.5, true}}},
		{nil, nil},
	} {
		if got := spans(c.pts); !slices.Equal(got, c.want) {
			t.Errorf("%v: got %v, want %v", c.pts, got, c.want)
		}
	}
}

func TestGap(t *testing.T) {
	pts := []measure.Point{{X: -0.9}, {X: -0.2}, {X: -0.1}, {X: 0.4}, {X: 0.5}, {X: 0.6}, {X: 0.7}, {X: 2}}
	if from, to := gap(pts); from != -0.1 || to != 0.4 {
		t.Errorf("got %v to %v", from, to)
	}
	if d := slot(pts); d < 0.0999 || d > 0.1001 {
		t.Errorf("got a slot of %v", d)
	}
	bins := slowest([]measure.Point{{X: 0, Y: 1}, {X: 0.02, Y: 5}, {X: 0.04, Y: 2}, {X: 0.1, Y: 3}, {X: 0.4, Y: 4}}, 0.1)
	if want := []measure.Point{{X: 0, Y: 5}, {X: 0.1, Y: 3}, {X: 0.4, Y: 4}}; !slices.Equal(bins, want) {
		t.Errorf("got %v, want %v", bins, want)
	}
	if from, to := gap(pts[:1]); from != to || slot(pts[:1]) != 0 {
		t.Error("one point has a gap, or a slot")
	}
}
