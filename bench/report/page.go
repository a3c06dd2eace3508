package main

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/template"

	"github.com/freshtoken/freshtoken/bench/measure"
	"github.com/freshtoken/freshtoken/bench/peers"
)

// pageText is the page, with places for what a run fills in.
//
//go:embed page.md
var pageText string

// page makes docs/performance.md. The error says what is wrong with it.
func page(r measure.Run, libraries []peers.Peer) (string, error) {
	judged, wrong := targetTable(r.Results)
	errs := []error{wrong}
	shown := make(map[string]bool)
	tmpl := template.Must(template.New("page.md").Funcs(template.FuncMap{
		"targets":   func() string { return judged },
		"libraries": func() string { return libraryTable(r, libraries) },
		"machine":   func() string { return machine(r) },
		"table": func(name string) (string, error) {
			i := slices.IndexFunc(tables, func(t table) bool { return t.name == name })
			if i < 0 {
				return "", fmt.Errorf("there is no table %q", name)
			}
			text := tables[i].markdown(r.Results)
			if text == notMeasured {
				errs = append(errs, fmt.Errorf("the measure %s is not in this run", tables[i].measure))
			}
			shown[name] = true
			return text, nil
		},
		"picture": func(name string) (string, error) {
			i := slices.IndexFunc(pictures, func(p picture) bool { return p.name == name })
			if i < 0 {
				return "", fmt.Errorf("there is no picture %q", name)
			}
			return pictures[i].markdown(), nil
		},
	}).Parse(pageText))
	var b strings.Builder
	if err := tmpl.Execute(&b, r); err != nil {
		errs = append(errs, err)
	}
	for _, t := range tables {
		if !shown[t.name] {
			errs = append(errs, fmt.Errorf("page.md has no place for the table %s", t.name))
		}
	}
	return b.String(), errors.Join(errs...)
}

// markdown embeds a picture, in the variant that fits the reader's page.
func (p picture) markdown() string {
	return fmt.Sprintf(`<picture><source media="(prefers-color-scheme: dark)" srcset="%s"><img src="%s" width="%d" alt="%s"></picture>`,
		p.file(themes[1]), p.file(themes[0]), shownWidth, p.alt)
}

// machine says what the run was made on.
func machine(r measure.Run) string {
	cpu := r.CPU
	if cpu == "" {
		cpu = "an unknown processor"
	}
	return fmt.Sprintf("%s, %s, %s, %d processors", r.Go, r.System, cpu, r.CPUs)
}

// libraryTable has the libraries and their versions.
func libraryTable(r measure.Run, libraries []peers.Peer) string {
	names := make(map[string][]string)
	for _, p := range libraries {
		if p.Module != "" {
			names[p.Module] = append(names[p.Module], p.Name)
		}
	}
	var b strings.Builder
	b.WriteString("| module | version | here called |\n|---|---|---|\n")
	for _, module := range slices.Sorted(maps.Keys(names)) {
		version := r.Modules[module]
		switch {
		case version == "":
			version = "not in this run"
		case isOurs(names[module][0]):
			version = "this checkout"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", module, version, strings.Join(names[module], "; "))
	}
	return b.String()
}
