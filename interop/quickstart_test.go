package interop_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/freshtoken/freshtoken/internal/canary"
)

// The program of the README, as it is, with a server that knows nothing of it.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	bin := filepath.Join(t.TempDir(), "quickstart.exe")
	build := exec.Command("go", "build", "-o", bin, "./examples/quickstart")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, c := range []client{public, basic} {
		t.Run(c.Method, func(t *testing.T) {
			s, dir := s.in(t), canary.Dir(t, "key", "secret")
			before := s.counts()
			args := []string{"-token-url", s.issuer + "/token", "-client-id", c.ID, "-api", s.issuer + "/api/quickstart",
				"-store", "file", "-dir", filepath.Join(dir, "store"), "-duration", "6s", "-processes", "4"}
			if c.Secret != "" {
				args = append(args, "-client-secret-file", write(t, filepath.Join(dir, "secret"), c.Secret))
			}
			login := []string{"-refresh-token-file", write(t, filepath.Join(dir, "token"), s.mint(c).RefreshToken)}
			s.quickstart(bin, append(login, args...)...)
			s.quickstart(bin, args...) // goes on with the session in the store
			after := s.wantWhole()
			if after.API < before.API+20 || after.Refreshes < before.Refreshes+4 {
				t.Errorf("before %+v, after %+v; want requests by the dozen and several refreshes", before, after)
			}
			t.Logf("%d requests, %d refreshes, %d answers of 401",
				after.API-before.API, after.Refreshes-before.Refreshes, after.APIRejected-before.APIRejected)
		})
	}
}

// quickstart runs the program; its exit status says whether anything was lost.
func (s *server) quickstart(bin string, args ...string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, args...)
	canary.Command(s.t, cmd)
	out, err := cmd.CombinedOutput()
	canary.Clean(s.t, "the output of quickstart", out)
	if err != nil {
		s.t.Errorf("quickstart: %v\n%s", err, out)
	}
}

// write makes a file that only its owner can read.
func write(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
