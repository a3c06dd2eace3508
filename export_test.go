package freshtoken

import (
	"encoding/json"
	"time"
)

// StoreKey is the key under which a Source of cfg keeps its session.
func StoreKey(cfg Config) string {
	if err := cfg.check(); err != nil {
		panic(err)
	}
	return cfg.binding().key()
}

// NewWithRandom is New with delays that can be repeated.
var NewWithRandom = newSource

// EditRecord changes a stored record as another program might.
func EditRecord(data []byte, edit func(map[string]any)) []byte {
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		panic(err)
	}
	edit(all)
	data, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return data
}

// SourcesOf are Sources that have made some already.
func SourcesOf(cfg Config, open ...*Source) *Sources {
	cfg.Session = ""
	a, err := NewSources(cfg)
	if err != nil {
		panic(err)
	}
	for _, s := range open {
		a.open[s.cfg.Session] = s
	}
	return a
}

// Unseen is a Challenge as one that was made by hand.
func Unseen(c *Challenge) *Challenge {
	u := *c
	u.seen = time.Time{}
	return &u
}
