package discovery_test

import (
	"strings"
	"testing"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/discovery"
	"golang.org/x/oauth2"
)

// hostileMetadata are JSON texts that no honest server has in its document.
var hostileMetadata = map[string]string{
	"a line break": `"https://as.test/a\r\nX: y"`, "NUL": `"https://as.test/\u0000"`, "a terminal": `"\u001b]0;t\u0007https://as.test/"`,
	"unicode": `"https://as.test/\u202etxet"`, "a script": `"javascript:alert(1)"`, "a command": `"https://as.test/$(calc)\" -x"`,
	"a user": `"https://as.test@evil.test/"`, "a fragment": `"https://evil.test/#https://as.test/"`, "plain http": `"http://as.test/"`,
	"the machine": `"file:///etc/passwd"`, "1 MiB": `"https://as.test/` + strings.Repeat("x", 1<<19) + `"`,
	"a list": `["https://as.test/", null, 1, {"a":1}, "offline_access\r\n"]`, "an object": `{"a":1}`, "a number": `1e999`, "null": `null`, "yes": `true`, "nothing": `""`,
}

// Whatever stands in a member: the document is refused, or the Config that comes
// of it is one that New takes, whose addresses are sound, and which asks for no
// scope that the program does not.
func TestHostileMetadata(t *testing.T) {
	members := []string{"authorization_endpoint", "token_endpoint", "device_authorization_endpoint", "revocation_endpoint", "end_session_endpoint",
		"userinfo_endpoint", "scopes_supported", "token_endpoint_auth_methods_supported", "code_challenge_methods_supported", "authorization_response_iss_parameter_supported"}
	for what, value := range hostileMetadata {
		for _, member := range members {
			t.Run("R8414-2: "+member+" is "+what, func(t *testing.T) {
				all := []string{`"` + member + `": ` + value}
				for _, other := range everything {
					if !strings.HasPrefix(other, `"`+member+`"`) {
						all = append(all, other)
					}
				}
				cfg := freshtoken.Config{OAuth2: &oauth2.Config{ClientID: "client", Scopes: []string{"openid"}}}
				m, err := configure(t, &cfg, all...)
				if err != nil {
					if len(err.Error()) > 2000 || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < 0x20 || r > 0x7e }) {
						t.Errorf("the error is not inert: %.300q", err)
					}
					return
				}
				cfg.Store = nil
				src, err := freshtoken.New(cfg)
				if err != nil {
					t.Fatal(err)
				}
				src.Close()
				if got := cfg.OAuth2.Scopes; len(got) != 1 || got[0] != "openid" {
					t.Errorf("it asks for %q", got)
				}
				e := cfg.OAuth2.Endpoint
				for _, address := range []string{e.TokenURL, e.AuthURL, e.DeviceAuthURL, cfg.RevocationURL, m.EndSessionEndpoint, m.UserinfoEndpoint} {
					if u, err := discovery.CheckURL(address, false); address != "" && (err != nil || u.User != nil || u.Fragment != "" ||
						strings.ContainsFunc(address, func(r rune) bool { return r <= 0x20 || r > 0x7e || r == '"' })) {
						t.Errorf("the address %.200q, %v", address, err)
					}
				}
			})
		}
	}
}
