package oauthtest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
)

// An Answer is what the server is about to send. Fault.Edit may change all of
// it.
type Answer struct {
	Status int
	Header http.Header

	// Members is the JSON object that makes the body, in order. A name may
	// occur twice.
	Members Members

	// Raw, if not nil, is the body; Members is ignored then.
	Raw []byte

	// Stream writes what follows the body, as [Fault].Stream does.
	Stream func(ctx context.Context, w io.Writer) error
}

// Members are the members of a JSON object, in order.
type Members []Member

// A Member is a name and the JSON text of its value.
type Member struct {
	Name  string
	Value json.RawMessage
}

// Get returns the JSON text of the first member of this name, or nil.
func (m Members) Get(name string) json.RawMessage {
	for _, x := range m {
		if x.Name == name {
			return x.Value
		}
	}
	return nil
}

// Set gives the first member of this name a new value, or appends it. The value
// is encoded as encoding/json does; a json.RawMessage stands for itself. Set
// panics if the value can't be encoded.
func (m *Members) Set(name string, value any) {
	for i := range *m {
		if (*m)[i].Name == name {
			(*m)[i].Value = encode(value)
			return
		}
	}
	m.Add(name, value)
}

// Add appends a member, even if there is one of that name.
func (m *Members) Add(name string, value any) {
	*m = append(*m, Member{name, encode(value)})
}

// Delete removes all members of this name.
func (m *Members) Delete(name string) {
	*m = slices.DeleteFunc(*m, func(x Member) bool { return x.Name == name })
}

// Rename gives all members of the name old the name new.
func (m Members) Rename(old, new string) {
	for i := range m {
		if m[i].Name == old {
			m[i].Name = new
		}
	}
}

// MarshalJSON writes the object with its members in order, repeated ones
// included.
func (m Members) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, x := range m {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(x.Name)
		if err != nil {
			return nil, err
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(x.Value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func encode(value any) json.RawMessage {
	if raw, ok := value.(json.RawMessage); ok {
		return raw
	}
	b, err := json.Marshal(value)
	if err != nil {
		panic("oauthtest: a member that cannot be JSON: " + err.Error())
	}
	return b
}

// body returns the bytes before Stream.
func (a *Answer) body() []byte {
	if a.Raw != nil || a.Members == nil {
		return a.Raw
	}
	b, err := a.Members.MarshalJSON()
	if err != nil {
		panic("oauthtest: " + err.Error())
	}
	return b
}

func newAnswer(status int, m Members) Answer {
	h := make(http.Header, 4)
	if m != nil {
		h.Set("Content-Type", "application/json")
	}
	h.Set("Cache-Control", "no-store") // RFC 6749, section 5.1
	return Answer{Status: status, Header: h, Members: m}
}

func errorAnswer(status int, code, description string) Answer {
	var m Members
	m.Add("error", code)
	if description != "" {
		m.Add("error_description", description)
	}
	return newAnswer(status, m)
}
