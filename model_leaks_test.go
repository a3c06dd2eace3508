package freshtoken_test

import (
	"encoding/json"
	"fmt"

	"github.com/freshtoken/freshtoken/internal/mark"
)

// checkLeaks: no secret is in an error, an event or a status.
func (h *modelHistory) checkLeaks(report report) {
	h.shown(func(proc int, what, text string) {
		for _, secret := range mark.In([]byte(text)) {
			report("p%d: %s is in %s", proc, secret, what)
		}
	})
}

// shown passes on everything that users and logs are shown: count counts it.
func (h *modelHistory) shown(see func(proc int, what, text string)) {
	for _, c := range h.Calls {
		if c.Err != nil {
			see(c.Proc, "the error of a "+c.Kind, formatted(c.Err))
		}
	}
	for _, e := range h.Events {
		see(e.Proc, "an event", formatted(e.Event))
	}
	for _, i := range h.Idle {
		see(i.Proc, "a status", formatted(i.Status))
	}
}

// formatted is what printing and encoding show of a value, at little cost.
func formatted(v any) string {
	data, _ := json.Marshal(v)
	return fmt.Sprintf("%+v %s", v, data)
}
