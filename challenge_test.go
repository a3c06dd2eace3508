package freshtoken

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// Challenges as they come (RFC 9110 sections 5.6 and 11).
func TestChallenges(t *testing.T) {
	bearer := func(params ...string) challenge { return challengeWith("bearer", params...) }
	basic := func(params ...string) challenge { return challengeWith("basic", params...) }
	for _, c := range []struct {
		name  string
		lines []string
		want  []challenge
	}{
		{"R9110-11.6.1 reads all lines", []string{`Basic realm="x"`, `Bearer error="invalid_token"`},
			[]challenge{basic("realm", "x"), bearer("error", "invalid_token")}},
		{"R9110-11.6.1 reads all of a line", []string{`Basic realm="x", Bearer error="invalid_token"`},
			[]challenge{basic("realm", "x"), bearer("error", "invalid_token")}},
		{"R9110-11.6.1 ends a challenge with its line", []string{`Bearer realm="x"`, `error="invalid_token"`},
			[]challenge{bearer("realm", "x")}},
		{"R9110-11.2 ignores case and space", []string{"BEARER ERROR\t =  invalid_token"},
			[]challenge{bearer("error", "invalid_token")}},
		{"R9110-11.2 takes tokens and strings", []string{`Bearer a=b, c="d", e = "f"`},
			[]challenge{bearer("a", "b", "c", "d", "e", "f")}},
		{"R9110-11.2 keeps the case of values", []string{`Bearer error="Invalid_Token"`},
			[]challenge{bearer("error", "Invalid_Token")}},
		{"R9110-5.6.4 reads quoted pairs", []string{`Basic realm="a\\", Bearer scope="x, \"y\""`},
			[]challenge{basic("realm", `a\`), bearer("scope", `x, "y"`)}},
		{"R9110-5.6.4 leaves schemes in quotes alone", []string{`Basic realm="Bearer error=\"invalid_token\""`},
			[]challenge{basic("realm", `Bearer error="invalid_token"`)}},
		{"R9110-5.6.4 reads an empty string", []string{`Bearer realm="", error="invalid_token"`},
			[]challenge{bearer("realm", "", "error", "invalid_token")}},
		{"R9110-5.6.4 does not trust a string without an end", []string{`Bearer realm="x", error="invalid_token`},
			[]challenge{bearer("realm", "x", "error", "")}},
		{"R9110-5.6.4 does not trust a string that ends in a backslash", []string{`Bearer error="invalid_token\`},
			[]challenge{bearer("error", "")}},
		{"R9110-5.6.1.2 ignores empty members", []string{`,, Bearer realm="x", , error="invalid_token",	,`},
			[]challenge{bearer("realm", "x", "error", "invalid_token")}},
		{"R9110-5.6.1.2 ignores a line of them", []string{",,,", " ", "", "Bearer"}, []challenge{bearer()}},
		{"R9110-11.3 sees behind a padded token68", []string{`Negotiate YII==, Bearer error="invalid_token"`},
			[]challenge{challengeWith("negotiate"), bearer("error", "invalid_token")}},
		{"R9110-11.3 sees behind a token68", []string{`Negotiate abc, Bearer error="invalid_token"`},
			[]challenge{challengeWith("negotiate"), bearer("error", "invalid_token")}},
		{"R9110-11.3 sees behind a token68 of all characters", []string{`X aZ09-._~+/==, Bearer`},
			[]challenge{challengeWith("x"), bearer()}},
		{"R9110-11.3 sees behind schemes without anything", []string{`NTLM, Negotiate,Bearer`},
			[]challenge{challengeWith("ntlm"), challengeWith("negotiate"), bearer()}},
		{"R9110-11.3 sees behind broken members", []string{`Digest qop=@"a,b"?, {}, =, "x", Bearer error="invalid_token"`},
			[]challenge{challengeWith("digest", "qop", ""), bearer("error", "invalid_token")}},
		{"R9110-11.3 drops what follows a value", []string{`Bearer error="invalid_token" oops, realm=x y`},
			[]challenge{bearer("error", "invalid_token", "realm", "x")}},
		{"R9110-11.3 reads no parameters without a scheme", []string{`error="invalid_token"`}, nil},
		{"R9110-11.2-dup drops a parameter that stands twice", []string{`Bearer scope=a, realm=x, SCOPE="b"`},
			[]challenge{bearer("realm", "x")}},
		{"R9110-11.2-dup drops it three times", []string{`Bearer resource_metadata=a, resource_metadata=b, resource_metadata=c`},
			[]challenge{bearer()}},
		{"R9110-11.2-dup counts for each challenge", []string{`Bearer error=a, DPoP error=b`},
			[]challenge{bearer("error", "a"), challengeWith("dpop", "error", "b")}},
		{"R9449-7.1-unk keeps unknown parameters apart", []string{`Bearer foo="1", error="invalid_token", bar=2`},
			[]challenge{bearer("foo", "1", "error", "invalid_token", "bar", "2")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := challenges(http.Header{"Www-Authenticate": c.lines}); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%q: got %v, want %v", c.lines, got, c.want)
			}
		})
	}
	if got := challenges(http.Header{"Authorization": {"Bearer"}, "Proxy-Authenticate": {"Basic"}}); got != nil {
		t.Errorf("got %v from other headers", got)
	}
}

// challengeWith is a challenge with parameters, names and values in turn.
func challengeWith(scheme string, params ...string) challenge {
	c := challenge{scheme: scheme, params: map[string]string{}}
	for i := 0; i < len(params); i += 2 {
		c.params[params[i]] = params[i+1]
	}
	return c
}

// What servers must not do to us: whatever they send is read in one pass, and
// no more of it than the bounds allow.
func TestChallengesAreBounded(t *testing.T) {
	const n = 64 << 10
	for name, line := range map[string]string{
		"R9110-5.6.1.2 commas":      strings.Repeat(",", n),
		"R9110-5.6.1.2 backslashes": `Bearer x="` + strings.Repeat(`\`, n),
		"R9110-5.6.1.2 quotes":      strings.Repeat(`"`, n),
		"R9110-5.6.1.2 equal signs": strings.Repeat("=", n),
		"R9110-5.6.1.2 schemes":     strings.Repeat("a,", n/2),
		"R9110-5.6.1.2 spaces":      "Bearer" + strings.Repeat(" ", n),
		"R9110-5.6.1.2 long value":  `Bearer x="` + strings.Repeat("y", n) + `"`,
		"R9110-5.6.1.2 long name":   "Bearer " + strings.Repeat("y", n) + "=x",
		"R9110-5.6.1.2 long scheme": strings.Repeat("y", n),
		"R9110-5.6.1.2 token68":     "Bearer " + strings.Repeat("a", n),
		"R9110-5.6.1.2 parameters":  "Bearer " + strings.Repeat("a=b,", n/4),
		"R9110-5.6.1.2 open quotes": strings.Repeat(`a="`, n/3),
		"R9110-5.6.1.2 brackets":    strings.Repeat(`(`, n),
	} {
		t.Run(name, func(t *testing.T) {
			lines := make([]string, 20)
			for i := range lines {
				lines[i] = line
			}
			h := http.Header{"Www-Authenticate": lines}
			done := make(chan []challenge, 1)
			go func() { done <- challenges(h) }()
			select {
			case all := <-done:
				checkBounds(t, all)
			case <-time.After(time.Minute): // it takes a millisecond
				t.Fatal("still at it")
			}
		})
	}
	// Ten thousand commas before it do not hide a challenge.
	h := http.Header{"Www-Authenticate": {strings.Repeat(", ", 5000) + `Bearer error="insufficient_scope"`}}
	if all := challenges(h); len(all) != 1 || all[0].params["error"] != "insufficient_scope" {
		t.Errorf("got %v", all)
	}
}

func checkBounds(t *testing.T, all []challenge) {
	t.Helper()
	size := 0
	for _, c := range all {
		size += len(c.scheme)
		for name, value := range c.params {
			size += len(name) + len(value)
		}
	}
	if len(all) > maxChallenges || size > maxChallengeBytes {
		t.Errorf("kept %d challenges with %d bytes", len(all), size)
	}
}

// Which 401s a new token may cure (RFC 6750 section 3.1, RFC 9470).
func TestAsksForNewToken(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		want  bool
	}{
		{"R6750-3.1-401 invalid_token", []string{`Bearer error="invalid_token"`}, true},
		{"R6750-3.1-401 invalid_token behind Basic", []string{`Basic realm="x"`, `Bearer error="invalid_token"`}, true},
		{"R6750-3.1-401 invalid_token beside DPoP", []string{`DPoP algs="ES256", Bearer error="invalid_token"`}, true},
		{"R6750-3-none no challenge", nil, true},
		{"R6750-3-none an empty one", []string{""}, true},
		{"R6750-3-none no error code", []string{`Bearer realm="x"`}, true},
		{"R6750-3-none another scheme alone", []string{`Basic realm="x"`}, false},
		{"R6750-3-none another scheme that says invalid_token", []string{`DPoP error="invalid_token"`}, false},
		{"R6750-3.1-403 insufficient_scope", []string{`Bearer error="insufficient_scope", scope="a b"`}, false},
		{"R6750-3.1-403 insufficient_scope beside a bare one", []string{`Bearer`, `Bearer error="insufficient_scope"`}, false},
		{"R6750-3.1-403 insufficient_scope before invalid_token", []string{`Bearer error="insufficient_scope", Bearer error="invalid_token"`}, false},
		{"R9470-4 insufficient_user_authentication", []string{`Bearer error="insufficient_user_authentication", max_age="5"`}, false},
		{"R6750-3.1-else invalid_request", []string{`Bearer error="invalid_request"`}, false},
		{"R6750-3.1-else a code that nobody knows", []string{`Bearer error="whatever"`}, false},
		{"R9449-7.1-unk unknown parameters", []string{`Bearer foo="1", error="invalid_token"`}, true},
		{"R9110-11.2-dup an error code that stands twice", []string{`Bearer error="insufficient_scope", error="x"`}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := asksForNewToken(http.Header{"Www-Authenticate": c.lines}); got != c.want {
				t.Errorf("%q: got %v, want %v", c.lines, got, c.want)
			}
		})
	}
}

// FuzzChallenges holds the parser to what it promises of any input: it ends,
// within its bounds, always with the same result, and nothing that stands on
// another line, or whole before it on the same line, hides a challenge.
func FuzzChallenges(f *testing.F) {
	for _, seed := range []string{
		``, `Bearer`, `Bearer error="invalid_token"`, `Negotiate YII==, Bearer`, `Basic realm="a\\", Bearer scope="x, \"y\""`,
		`Bearer realm="x", , error="invalid_token"`, `Digest realm="a", nonce=b, qop="auth,auth-int"`, `,,,`, `"`, `\`, `a="`,
		`x=y, Bearer`, "Bearer\x00error=\xff", `DPoP algs="ES256 PS256", error=use_dpop_nonce`,
	} {
		f.Add(seed, seed)
	}
	const known = `Bearer error="insufficient_scope", scope="a, \"b\""`
	f.Fuzz(func(t *testing.T, one, two string) {
		h := http.Header{"Www-Authenticate": {one, two}}
		all := challenges(h)
		checkBounds(t, all)
		if again := challenges(h); !reflect.DeepEqual(all, again) {
			t.Fatalf("%q: first %v, then %v", h, all, again)
		}
		for _, c := range all {
			if c.scheme == "" || c.scheme != strings.ToLower(c.scheme) || strings.ContainsAny(c.scheme, " \t,\"=") {
				t.Errorf("%q: scheme %q", h, c.scheme)
			}
			for name := range c.params {
				if name == "" || name != strings.ToLower(name) {
					t.Errorf("%q: parameter %q", h, name)
				}
			}
		}
		asksForNewToken(h)

		if len(all) >= maxChallenges || len(one)+len(two) > maxChallengeBytes-len(known)-len("Last, ") {
			return
		}
		want := challengeWith("bearer", "error", "insufficient_scope", "scope", `a, "b"`)
		last := func(lines ...string) challenge {
			all := challenges(http.Header{"Www-Authenticate": lines})
			return all[len(all)-1]
		}
		if got := last(one, two, known); !reflect.DeepEqual(got, want) {
			t.Errorf("behind the lines %q: got %v", h, got)
		}
		// On the same line, a string without an end swallows what follows.
		if strings.ContainsAny(one, `"`) {
			return
		}
		if got := last(one + ", " + known); !reflect.DeepEqual(got, want) {
			t.Errorf("behind %q: got %v", one, got)
		}
	})
}
