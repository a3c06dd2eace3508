package words_test

import (
	"errors"
	"testing"
	"time"

	"github.com/freshtoken/freshtoken/internal/words"
)

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"storage: it is full":          "it is full",
		"login: storage: it is full":   "storage: it is full",
		"redis: storage: it is full":   "redis: storage: it is full",
		"the storage: it is full":      "the storage: it is full",
		"freshtoken: nobody logged in": "nobody logged in",
		"":                             "",
	} {
		if got := words.Text(errors.New(text)); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                     "1 second",
		0:                                "1 second",
		time.Millisecond:                 "1 second",
		time.Second + 1:                  "2 seconds",
		59*time.Second + time.Nanosecond: "60 seconds",
		time.Minute:                      "1 minute",
		90 * time.Second:                 "90 seconds",
		5 * time.Minute:                  "5 minutes",
		10*time.Minute + time.Second:     "11 minutes",
		time.Hour:                        "60 minutes",
		1<<63 - 1:                        "153722868 minutes",
	} {
		if got := words.Duration(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
