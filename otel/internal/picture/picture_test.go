package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
)

// The picture is made of a refresh that takes place, is whole, and has every
// step in it, within its bounds.
func TestPicture(t *testing.T) {
	spans, err := refresh(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	d := xml.NewDecoder(strings.NewReader(string(draw(spans))))
	bars := 0
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch token := token.(type) {
		case xml.CharData:
			text += string(token) + "\n"
		case xml.StartElement:
			if token.Name.Local != "rect" {
				continue
			}
			bars++
			at := make(map[string]float64)
			for _, a := range token.Attr {
				at[a.Name.Local], _ = strconv.ParseFloat(a.Value, 64)
			}
			if at["x"] < left || at["x"]+at["width"] > right+2 {
				t.Errorf("a bar goes from %v for %v, outside of %d to %d", at["x"], at["width"], left, right)
			}
		}
	}
	if bars != len(spans) {
		t.Errorf("%d bars for %d spans", bars, len(spans))
	}
	for step := range says {
		if !strings.Contains(text, "\n"+step+"\n") {
			t.Errorf("%s is not in the picture", step)
		}
	}
}
