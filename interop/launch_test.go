package interop_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// launch starts the server in a folder, which ends with the test, and returns
// the first line of what it says.
func launch(t *testing.T, dir string, options []byte) []byte {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("Node.js is not installed: install Node.js 22 or later, then run `npm ci --ignore-scripts` in the folders of the servers")
	}
	if _, err := os.Stat(filepath.Join(dir, "package.json")); err == nil {
		if _, err := os.Stat(filepath.Join(dir, "node_modules")); err != nil {
			t.Skipf("the packages of the server are not installed: run `npm ci --ignore-scripts` in interop/%s", dir)
		}
	}
	cmd := exec.Command(node, "server.mjs", string(options))
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close() // ends it
		timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil || t.Failed() {
			t.Logf("%s: %v\n%s", dir, err, &stderr)
		}
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		cmd.Process.Kill()
		t.Fatalf("the server in %s did not start: %v", dir, err)
	}
	return line
}

// A release is what a lock file of a server's folder pins.
type release struct{ dir, name string }

// version is the pinned version, such as "9.13.3".
func (r release) version() (string, error) {
	if data, err := os.ReadFile(filepath.Join(r.dir, "package.json")); err == nil {
		var pinned struct{ Dependencies map[string]string }
		if err := json.Unmarshal(data, &pinned); err != nil {
			return "", err
		}
		return pinned.Dependencies[r.name], nil
	}
	data, err := os.ReadFile(filepath.Join(r.dir, "go.mod"))
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(`\s\S+/` + regexp.QuoteMeta(r.name) + `/v\d+ v(\S+)`).FindSubmatch(data)
	if found == nil {
		return "", errors.New(r.dir + "/go.mod does not name " + r.name)
	}
	return string(found[1]), nil
}

// proxyEnv may name an oauth2-proxy that has been built before.
const proxyEnv = "FRESHTOKEN_OAUTH2_PROXY"

// scratch is a directory for what all tests share. It is removed at the end.
var scratch = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "freshtoken-interop-") })

// buildProxy builds oauth2-proxy, once, and returns the path of the program.
var buildProxy = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv(proxyEnv); bin != "" {
		return bin, nil
	}
	dir, err := scratch()
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "oauth2-proxy.exe")
	out, err := exec.Command("go", "-C", "oauth2proxy", "build", "-o", bin, "github.com/oauth2-proxy/oauth2-proxy/v7").CombinedOutput()
	if err != nil {
		return "", errors.New(err.Error() + ": " + string(out))
	}
	return bin, nil
})
