package interop_test

import (
	"encoding/json"
	"errors"
	"os/exec"
	"testing"

	"github.com/freshtoken/freshtoken"
)

// dexEnv may name a program that was built of the folder dex before.
const dexEnv = "FRESHTOKEN_DEX"

var buildDex = program(dexEnv, "dex", ".")

// aliceAtDex is how Dex names its user alice: by her connector, too.
const aliceAtDex = "CgVhbGljZRIFbG9jYWw"

// startDex starts Dex with access tokens that live for so many seconds, and
// without limits to the life of refresh tokens.
func startDex(t *testing.T, accessLifetime int) *subject {
	return dexUnder(t, accessLifetime, policy{})
}

func dexUnder(t *testing.T, accessLifetime int, p policy) *subject {
	t.Helper()
	bin, err := buildDex()
	if err != nil {
		t.Skipf("Dex cannot be built: %v", err)
	}
	arg, err := json.Marshal(map[string]any{"client": public.ID, "accessLifetime": accessLifetime,
		"reuse": p.Reuse.Seconds(), "absolute": p.Absolute.Seconds(), "idle": p.Idle.Seconds()})
	if err != nil {
		t.Fatal(err)
	}
	var said struct{ Issuer string }
	if err := json.Unmarshal(begin(t, "dex", exec.Command(bin, string(arg))), &said); err != nil {
		t.Fatal(err)
	}
	x := &subject{server: &server{t: t, issuer: said.Issuer}, ways: []way{byCode, byDevice}, exactReturn: true}
	x.under = func(p policy) *subject { return dexUnder(t, accessLifetime, p) }
	x.app = site{Issuer: said.Issuer, Client: public, Scopes: []string{"openid", "offline_access"},
		Token: said.Issuer + "/token", Auth: said.Issuer + "/auth", Device: said.Issuer + "/device/code",
		APIs: []api{{Name: "userinfo", URL: said.Issuer + "/userinfo", ReadOnly: true, Forbids: true, Subject: aliceAtDex}}}
	return x
}

// Dex keeps one refresh token for each user of a client: a login somewhere else
// ends the session here. What is told is the truth as far as Dex tells it, and
// costs few requests; the other session is unharmed.
func TestDexSecondLoginEndsTheFirst(t *testing.T) {
	t.Parallel()
	x := startDex(t, 3600)
	first, _ := x.session(x.login())
	second, _ := x.session(x.login())
	if said, want := x.wantRefused(x.refused(first)), "400 invalid_request: ErrSessionEnded, Uncertain"; said != want {
		t.Errorf("the first session: got %s, want %s", said, want)
	}
	if c := x.counts(); c.InvalidGrants > 3 {
		t.Errorf("%d requests with a dead refresh token, want 3 at most", c.InvalidGrants)
	}
	before := x.counts().TokenRequests
	if _, err := first.Token(t.Context()); !errors.Is(err, freshtoken.ErrSessionEnded) {
		t.Errorf("asked again: got error %v, want ErrSessionEnded", err)
	}
	if n := x.counts().TokenRequests - before; n != 0 {
		t.Errorf("%d more requests, want none", n)
	}
	x.refreshed(second)
}
