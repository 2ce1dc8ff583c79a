package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/leak"
	"github.com/apiauth/apiauth/internal/oauth"
)

// masks decides whether the output of a child is masked.
func (a *App) masks(mode string) (bool, error) {
	switch mode {
	case "auto":
		return a.inCI() && !a.StdoutTTY, nil
	case "always":
		return true, nil
	case "never":
		return false, nil
	}
	return false, usagef("--mask takes auto, always or never, not %q", mode)
}

// handedOut lists the secrets among the variables of a child: the tokens, and
// the kept fields that are named like one.
func handedOut(vars []inject.Var) []leak.Secret {
	var list []leak.Secret
	for _, v := range vars {
		kind := "access token"
		if v.Field != "" {
			if !secretField(v.Field) {
				continue
			}
			kind = v.Field
		}
		list = append(list, leak.Secret{Connection: v.Connection, Kind: kind, Value: v.Value})
	}
	return list
}

func secretField(name string) bool {
	name = strings.ToLower(name)
	return strings.Contains(name, "token") || strings.Contains(name, "secret") || strings.Contains(name, "password")
}

// mask filters what the child prints.
func (p *execPlan) mask(secrets []leak.Secret) {
	p.resident = true
	set := leak.NewSet(secrets)
	p.child = func(ctx context.Context, c inject.Child) (int, error) { return inject.Masked(ctx, c, set) }
}

// scanPaths returns where to look for tokens when a child has ended: what --scan
// names, from the working directory, and the manifest's exec.scan.
func (ws *workspace) scanPaths(flags []string) ([]string, error) {
	var paths []string
	for _, path := range flags {
		if path == "" {
			return nil, usagef("--scan takes a file or a folder")
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(ws.dir, path)
		}
		paths = append(paths, path)
	}
	if ws.manifest == nil {
		return paths, nil
	}
	declared, err := ws.manifest.ScanPaths()
	return append(paths, declared...), err
}

// scan searches paths when the child has ended.
func (p *execPlan) scan(ws *workspace, paths []string, secrets []leak.Secret) {
	p.resident = true
	set := leak.NewSet(secrets)
	p.checks = append(p.checks, func(ctx context.Context) error { return ws.search(ctx, set, paths) })
}

// search looks for secrets in files and tells on stderr where they stand.
// Anything found, and anything that could not be read, is a failure.
func (ws *workspace) search(ctx context.Context, set *leak.Set, paths []string) error {
	report, err := set.Scan(ctx, paths)
	if errors.Is(err, fs.ErrNotExist) {
		return failf(exitFailure, "name what the command writes, or let it write that", "%s", "there is nothing to scan: "+oauth.Clean(err.Error()))
	}
	if err != nil {
		return err
	}
	for _, f := range report.Findings {
		ws.show("%s", sentence(f))
	}
	return ws.verdict(report)
}

// sentence says for people where a finding stands, the way compilers do: the
// path, what is inside of it, line and offset.
func sentence(f leak.Finding) string {
	place := oauth.Clean(f.Path)
	for _, name := range f.Inside {
		place += "!" + oauth.Clean(name)
	}
	return fmt.Sprintf("%s:%d: offset %d: %s of %s (%s)", place, f.Line, f.Offset, f.Kind, oauth.Clean(f.Connection), f.Form)
}

// verdict tells what could not be searched, and makes an error of that and of
// the findings.
func (ws *workspace) verdict(r leak.Report) error {
	for _, err := range r.Closed {
		ws.warn("not unpacked: %s", oauth.Clean(err.Error()))
	}
	for _, err := range r.Unread {
		ws.warn("not searched: %s", oauth.Clean(err.Error()))
	}
	if n := len(r.Findings); n > 0 {
		return failf(exitFailure, "keep it out of what you build, and end it with 'apiauth revoke --token-stdin'",
			"%s found in %s", plural(n, "leak"), plural(int(r.Files), "file"))
	}
	if n := len(r.Unread); n > 0 {
		return failf(exitFailure, "make them readable, or scan without them", "%s could not be searched", plural(n, "path"))
	}
	return nil
}
