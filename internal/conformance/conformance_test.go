package conformance

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestItems(t *testing.T) {
	items, err := Items()
	if err != nil || len(items) != 146 {
		t.Fatalf("%d items, error %v", len(items), err)
	}
	for _, item := range items {
		if len(item.Text) < 10 || !strings.HasPrefix(item.Priority, "P") || item.Level == "" || item.Section == "" {
			t.Errorf("the item %+v", item)
		}
		ids, unknown := idsIn(item.ID+": what it says", map[string]Item{item.ID: item})
		if !slices.Equal(ids, []string{item.ID}) || len(unknown) > 0 {
			t.Errorf("%s is read as %q, %q", item.ID, ids, unknown)
		}
	}
	for _, bad := range []string{"GO-1\tMUST\ta\tP0\tbuilt\tx", "## G\nGO-1\tMUST\ta\tP0\tmaybe\tx", "## G\nGO-1\tMUST\ta\tP0\tbuilt",
		"## G\nGO-1\tMUST\ta\tP0\tnot\tx\nGO-1\tMUST\ta\tP0\tnot\tx", "## G\nGO 1\tMUST\ta\tP0\tnot\tx"} {
		if items, err := parseItems(bad); err == nil {
			t.Errorf("%q was read as %v", bad, items)
		}
	}
}

// An ID is found to the letter: not in a longer one, and not without what
// belongs to it.
func TestIDsInNames(t *testing.T) {
	known := make(map[string]Item)
	for _, id := range []string{"R8414-2", "R8414-2-auth", "R8628-3.5-slow", "R7009-2", "R7009-2.1", "ST-key", "R6749-10.14"} {
		known[id] = Item{ID: id}
	}
	for name, want := range map[string]string{
		"R8414-2:_an_issuer":             "R8414-2|",
		"R8414-2-auth_none":              "R8414-2-auth|",
		"R8414-2-x":                      "R8414-2|",
		"R7009-2.1_a,_R7009-2_b":         "R7009-2.1 R7009-2|",
		"a_test_(ST-key)":                "ST-key|",
		"ST-keyring":                     "|ST-keyring",
		"R8628-3.5_without":              "|R8628-3.5",
		"R6749-10.14.":                   "R6749-10.14|",
		"XR8414-2":                       "|",
		"https://as.test/R8414-2":        "R8414-2|",
		"TestThing_of_its_own_R9999-1.2": "|R9999-1.2",
	} {
		ids, unknown := idsIn(name, known)
		if got := strings.Join(ids, " ") + "|" + strings.Join(unknown, " "); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

// passed is what go test -json prints of tests of a package that pass.
func passed(pkg string, names ...string) string {
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, `{"Action":"output","Package":%q,"Test":%q,"Output":"chatter of %s\n"}`+"\n", pkg, name, name)
		fmt.Fprintf(&b, `{"Action":"pass","Package":%q,"Test":%q}`+"\n", pkg, name)
	}
	fmt.Fprintf(&b, `{"Action":"output","Package":%q,"Output":"ok  \t%s\t1s\n"}`+"\n", pkg, pkg)
	fmt.Fprintf(&b, `{"Action":"pass","Package":%q}`+"\n", pkg)
	return b.String()
}

func read(t *testing.T, in string) (*Run, string) {
	t.Helper()
	var log strings.Builder
	run, err := Read(strings.NewReader(in), &log)
	if err != nil {
		t.Fatal(err)
	}
	return run, log.String()
}

const list = "## Group\nGO-1\tMUST\tnet/http\tP0\tbuilt\tOne.\nGO-2\tMUST\tnet/http\tP0\tbuilt\tTwo | three.\nMCP-BIND\tMUST\tMCP\tP2\tnot\tLater.\n"

func TestPage(t *testing.T) {
	items, err := parseItems(list)
	if err != nil {
		t.Fatal(err)
	}
	all := passed(module, "TestA", "TestA/GO-1:_x", "TestA/GO-1:_x/GO-1_again", "TestA/GO-2_http://a/b") + passed(module+"/login", "TestB/GO-1", "TestB")
	run, log := read(t, all)
	page, err := Page(items, run)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| GO-1 | MUST | net/http | P0 | One. | freshtoken `TestA`: x<br>login `TestB` | passed |",
		`| Two \| three. | freshtoken ` + "`TestA`: http://a/b | passed |", "| Later. |  | not built yet |", "3 requirements", "2 of them", "3 tests", "1 are not"} {
		if !strings.Contains(page, want) {
			t.Errorf("there is no %q in\n%s", want, page)
		}
	}
	if strings.Contains(log, "chatter") || strings.Count(log, "ok ") != 2 {
		t.Errorf("of tests that pass it prints %q", log)
	}

	t.Run("results may differ, coverage must not", func(t *testing.T) {
		skipped, _ := read(t, strings.Replace(all, `{"Action":"pass","Package":"`+module+`","Test":"TestA/GO-1:_x"}`, `{"Action":"skip","Package":"`+module+`","Test":"TestA/GO-1:_x"}`, 1))
		other, err := Page(items, skipped)
		if err != nil || other == page || Check(page, other) != nil {
			t.Errorf("error %v; %v", err, Check(page, other))
		}
		more, _ := read(t, all+passed(module+"/login", "TestC/GO-2"))
		if other, err = Page(items, more); err != nil || Check(page, other) == nil || !strings.Contains(Check(page, other).Error(), Update) {
			t.Errorf("error %v; %v", err, Check(page, other))
		}
		if Check("", page) == nil || Check(page+"| more |", page) == nil {
			t.Error("a page that lacks lines, or has more")
		}
	})
	for name, c := range map[string]struct{ tests, want string }{
		"an item that is built and has no test": {passed(module, "TestA/GO-1"), "GO-2, which is built"},
		"a test of an item that is not built":   {all + passed(module, "TestD/MCP-BIND"), "MCP-BIND is not built"},
		"a test that names no item":             {all + passed(module, "TestD/R9999-1"), "no item has the ID R9999-1"},
	} {
		t.Run(name, func(t *testing.T) {
			run, _ := read(t, c.tests)
			if _, err := Page(items, run); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// Of what fails, everything is printed; of a package that does not build, why.
func TestFailures(t *testing.T) {
	run, log := read(t, strings.ReplaceAll(passed(module, "TestA/GO-1", "TestB"), `"pass"`, `"fail"`))
	if !run.Failed || !strings.Contains(log, "chatter of TestA/GO-1\nchatter of TestB\n") {
		t.Errorf("failed: %v; it prints %q", run.Failed, log)
	}
	run, log = read(t, `{"ImportPath":"x","Action":"build-output","Output":"./x.go:1:1: no\n"}`+"\n"+`{"ImportPath":"x","Action":"build-fail"}`)
	if !run.Failed || !strings.Contains(log, "x.go:1:1: no") {
		t.Errorf("failed: %v; it prints %q", run.Failed, log)
	}
	run, log = read(t, `{"Action":"output","Package":"p","Test":"TestX","Output":"panic: x\n"}`+"\n"+`{"Action":"fail","Package":"p"}`)
	if !run.Failed || !strings.Contains(log, "panic: x") {
		t.Errorf("failed: %v; it prints %q", run.Failed, log)
	}
	if _, err := Read(io.MultiReader(strings.NewReader("x\n"), broken{}), io.Discard); err == nil {
		t.Error("no error of input that breaks off")
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
