package oauthtest_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken/internal/mark"
	"github.com/freshtoken/freshtoken/oauthtest"
)

// Whatever the server issues can be found by a search that knows nothing of it.
func TestSecretsAreMarked(t *testing.T) {
	bubble(t, "all that is issued, and each piece of it", func(t *testing.T) {
		srv := oauthtest.New(oauthtest.Options{})
		tok := srv.Login("alice")
		for value, kind := range map[string]mark.Kind{
			tok.AccessToken: mark.AccessToken, tok.RefreshToken: mark.RefreshToken,
			codeOf(t, srv): mark.Code, startDevice(t, srv).DeviceCode: mark.DeviceCode,
		} {
			if got := mark.In([]byte(value)); !slices.Equal(got, []string{kind.String()}) {
				t.Errorf("%v is found as %q", kind, got)
			}
			random := value[strings.LastIndexByte(value, '-')+1:]
			for i := range len(random) - 11 {
				if !strings.Contains(random[i:i+12], "LEAK~") {
					t.Errorf("%v: twelve bytes from %d on have no mark", kind, i)
				}
			}
		}
	})
}
