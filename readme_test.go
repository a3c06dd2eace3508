package freshtoken_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var goBlock = regexp.MustCompile("(?s)```go\n(.*?)```")

// The README's programs compile as they stand.
func TestReadmeCompiles(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the go command is not there to compile it")
	}
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := goBlock.FindAllStringSubmatch(string(text), -1)
	if len(blocks) != 2 {
		t.Fatalf("%d programs in the README, want 2: a program and a test", len(blocks))
	}
	vet := func(files map[string]string) {
		t.Helper()
		dir := t.TempDir()
		args := []string{"vet"}
		for name, text := range files {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, path)
		}
		if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	}
	vet(map[string]string{"main.go": blocks[0][1]})
	vet(map[string]string{"your_test.go": `package yours

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshtoken/freshtoken"
	"github.com/freshtoken/freshtoken/oauthtest"
)

func TestReadme(t *testing.T) {
` + blocks[1][1] + "}\n"})
}

var testName = regexp.MustCompile("`(Test\\w+)`")

// Every test that the README names is one.
func TestReadmeNamesTests(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	err = filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		all.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range testName.FindAllStringSubmatch(string(text), -1) {
		if !strings.Contains(all.String(), "func "+m[1]+"(") {
			t.Errorf("the README names %s, which is no test", m[1])
		}
	}
}
