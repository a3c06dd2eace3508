package endpoint_test

import (
	"testing"

	"github.com/freshtoken/freshtoken/internal/endpoint"
)

func TestIsResource(t *testing.T) {
	for _, good := range []string{"https://api.test", "https://api.test/v1?x=1", "urn:example:api", "https://api.test:8443/a%20b"} {
		if !endpoint.IsResource(good) {
			t.Errorf("%q is none", good)
		}
	}
	for _, bad := range []string{"", "api", "/api", "//api.test", "https:", "https://api.test/#", "https://api.test/#x", "https://api.test/a b", "https://apí.test", "https://api.test/\n", "://"} {
		if endpoint.IsResource(bad) {
			t.Errorf("%q is one", bad)
		}
	}
}
