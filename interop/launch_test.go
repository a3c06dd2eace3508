package interop_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io/fs"
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
	return begin(t, dir, cmd)
}

// begin starts a server, which ends with the test, and returns the first line of
// what it says.
func begin(t *testing.T, name string, cmd *exec.Cmd) []byte {
	t.Helper()
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
			t.Logf("%s: %v\n%s", name, err, &stderr)
		}
	})
	line, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		cmd.Process.Kill()
		t.Fatalf("the server in %s did not start: %v", name, err)
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
	if errors.Is(err, fs.ErrNotExist) { // it runs within the tests
		data, err = os.ReadFile("go.mod")
	}
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(`\s\S+/` + regexp.QuoteMeta(r.name) + `(?:/v\d+)? v(\S+)`).FindSubmatch(data)
	if found == nil {
		return "", errors.New(r.dir + "/go.mod does not name " + r.name)
	}
	return string(found[1]), nil
}

// proxyEnv may name an oauth2-proxy that has been built before.
const proxyEnv = "FRESHTOKEN_OAUTH2_PROXY"

// scratch is a directory for what all tests share. It is removed at the end.
var scratch = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "freshtoken-interop-") })

// program builds a program of the module in a folder, once, and returns its
// path: unless the environment names one that has been built before.
func program(env, dir, pkg string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		if bin := os.Getenv(env); bin != "" {
			return bin, nil
		}
		to, err := scratch()
		if err != nil {
			return "", err
		}
		bin := filepath.Join(to, dir+".exe")
		out, err := exec.Command("go", "-C", dir, "build", "-o", bin, pkg).CombinedOutput()
		if err != nil {
			return "", errors.New(err.Error() + ": " + string(out))
		}
		return bin, nil
	})
}

var buildProxy = program(proxyEnv, "oauth2proxy", "github.com/oauth2-proxy/oauth2-proxy/v7")
