package figures

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRecordAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "figures.jsonl")
	t.Setenv(Env, path)
	Record(t, "a.kills", "3")
	Record(t, "a.losses", "0 of 10,000")
	Record(t, "a.kills", "4")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := Read(f)
	if err != nil || len(all) != 2 || all["a.kills"] != "4" || all["a.losses"] != "0 of 10,000" {
		t.Errorf("got %v, %v", all, err)
	}
	for _, bad := range []string{"x\n", `{"Value":"1"}` + "\n"} {
		if all, err := Read(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read as %v", bad, all)
		}
	}
}

// A figure that is missing is named, and a page with one is not accepted.
func TestPage(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"soak.md": "## Soak\n{{soak.days}} days\n", "model.md": "\n## Model\n{{ model.seeds }} seeds, {{model.losses}} losses.\n", "zebra.md": "## Z"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := Text("# Head\n", dir)
	if want := "# Head\n\n## Model\n{{ model.seeds }} seeds, {{model.losses}} losses.\n\n## Soak\n{{soak.days}} days\n\n## Z\n"; err != nil || text != want {
		t.Fatalf("got %q, %v", text, err)
	}
	if _, err := Text("", t.TempDir()); err == nil {
		t.Error("no error without parts")
	}
	page, missing := Fill(text, map[string]string{"model.seeds": "10,000", "model.losses": "0\n## Forged", "soak.days": "30"})
	if len(missing) > 0 || !strings.Contains(page, "10,000 seeds, 0 ## Forged losses.") || Check(page, text) != nil {
		t.Errorf("got %q, missing %q; %v", page, missing, Check(page, text))
	}
	some, missing := Fill(text, map[string]string{"model.seeds": "1", "soak.days": "1"})
	if len(missing) != 1 || missing[0] != "model.losses" || Check(some, text) == nil {
		t.Errorf("got %q, missing %q", some, missing)
	}
	for _, bad := range []string{"", "x" + page, page + "x", strings.Replace(page, "days", "weeks", 1), strings.Replace(page, "30", "30\n\nmore", 1), strings.Replace(page, "# Head", "# Tail", 1)} {
		if Check(bad, text) == nil {
			t.Errorf("the page %q passes", bad)
		}
	}
}
