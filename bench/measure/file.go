package measure

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
)

// Write writes a run into a file: JSON with a line for each result, so that one
// can see in a diff what has changed. Of series with more than maxPoints points
// not all are kept.
func (r Run) Write(name string) error {
	results := r.Results
	r.Results = nil
	head, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	// What remains of the results is the null at the end.
	b := bytes.NewBuffer(bytes.TrimSuffix(head, []byte("null\n}")))
	b.WriteString("[")
	for i, one := range results {
		one.Series = thin(one.Series)
		line, err := json.Marshal(one)
		if err != nil {
			return fmt.Errorf("%s: %s: %w", one.Measure, one.Peer, err)
		}
		if i > 0 {
			b.WriteString(",")
		}
		b.WriteString("\n\t\t")
		b.Write(line)
	}
	b.WriteString("\n\t]\n}\n")
	return os.WriteFile(name, b.Bytes(), 0o644)
}

// maxPoints is more than a picture shows.
const maxPoints = 400

// thin keeps points of long series, at even intervals, and the last.
func thin(series map[string][]Point) map[string][]Point {
	thinned := make(map[string][]Point, len(series))
	for name, all := range series {
		kept := all
		if n := len(all) - 1; n >= maxPoints {
			kept = make([]Point, maxPoints)
			for i := range kept {
				kept[i] = all[i*n/(maxPoints-1)]
			}
		}
		thinned[name] = kept
	}
	return thinned
}

// Read reads what Write has written. Names that it does not know are an error.
func Read(name string) (Run, error) {
	var r Run
	data, err := os.ReadFile(name)
	if err != nil {
		return r, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// MarshalJSON writes a point as [X, Y], with four digits: there
// are many of them, and a picture shows no more.
func (p Point) MarshalJSON() ([]byte, error) {
	y, err := json.Marshal(p.Y) // which refuses what is no number
	if err != nil {
		return nil, err
	}
	if short := strconv.FormatFloat(p.Y, 'g', 4, 64); len(short) < len(y) {
		y = []byte(short)
	}
	x, err := strconv.ParseFloat(strconv.FormatFloat(p.X, 'f', 4, 64), 64)
	if err != nil {
		return nil, err
	}
	at, err := json.Marshal(x + 0) // no -0
	return fmt.Appendf(nil, "[%s,%s]", at, y), err
}

// UnmarshalJSON reads what MarshalJSON has written.
func (p *Point) UnmarshalJSON(data []byte) error {
	var xy [2]float64
	err := json.Unmarshal(data, &xy)
	p.X, p.Y = xy[0], xy[1]
	return err
}
