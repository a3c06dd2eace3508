package storage

import (
	"fmt"
	"io"
	"log/slog"
)

// A label is what %v, %#v, JSON and slog show of the type that embeds it,
// in place of fields that hold keys and tokens.
type label string

// String returns the label.
func (l label) String() string { return string(l) }

// Format prints the label whatever the verb.
func (l label) Format(s fmt.State, _ rune) { io.WriteString(s, string(l)) }

// LogValue logs the label.
func (l label) LogValue() slog.Value { return slog.StringValue(string(l)) }

// MarshalText encodes the label.
func (l label) MarshalText() ([]byte, error) { return []byte(l), nil }
