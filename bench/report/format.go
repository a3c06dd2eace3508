package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// units are what values can be measured in, with how they are shown. A value is
// in what the last part of its name says.
var units = map[string]func(float64) string{
	"ns":    func(v float64) string { return duration(v) },
	"us":    func(v float64) string { return duration(v * 1e3) },
	"ms":    func(v float64) string { return duration(v * 1e6) },
	"s":     func(v float64) string { return duration(v * 1e9) },
	"bytes": size,
	"ratio": func(v float64) string { return three(v) + "×" },
	// Of medians between two rounds, and of calls by refresh, there are halves.
	"count":  func(v float64) string { return count(v) },
	"allocs": func(v float64) string { return count(v) },
}

// unit is the last part of a value's name.
func unit(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// format shows a value in its unit.
func format(name string, v float64) string {
	if f := units[unit(name)]; f != nil {
		return f(v)
	}
	return three(v)
}

func duration(ns float64) string {
	switch {
	case ns == 0:
		return "0"
	case ns < 1e3:
		return three(ns) + " ns"
	case ns < 1e6:
		return three(ns/1e3) + " µs"
	case ns < 1e9:
		return three(ns/1e6) + " ms"
	}
	return three(ns/1e9) + " s"
}

func size(b float64) string {
	switch {
	case b < 1<<13:
		return count(b) + " B"
	case b < 1<<20:
		return three(b/(1<<10)) + " KiB"
	}
	return three(b/(1<<20)) + " MiB"
}

func count(v float64) string {
	if v == math.Trunc(v) {
		return grouped(int64(v))
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// grouped puts a comma between thousands.
func grouped(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// three shows three digits, or those before the point.
func three(v float64) string {
	switch a := math.Abs(v); {
	case v == 0:
		return "0"
	case a >= 99.95:
		return fmt.Sprintf("%.0f", v)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
