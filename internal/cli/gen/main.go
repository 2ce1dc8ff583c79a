// Command gen writes the completion scripts and the man pages, which are
// generated from the command tree, the schemas of the files that people write,
// which are generated from their parsers and documents, and the catalogue of
// providers as it is built in. All are kept in the repository. Run it in the
// repository's top folder, or run the tests of this folder with UPDATE=1. It is
// a program of its own so that the shipped one does not carry the generators.
package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/apiauth/apiauth/internal/cli"
	"github.com/apiauth/apiauth/internal/providers/pack"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// run writes everything below top and removes pages of commands that are gone.
func run(top string) error {
	files, err := generate(top)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(top, "man")); err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(top, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // sources are readable
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil { //nolint:gosec // sources are readable
			return err
		}
	}
	return nil
}

// generate returns the files by their path, with slashes. It reads the documents
// below top.
func generate(top string) (map[string][]byte, error) {
	files := map[string][]byte{}
	for name, write := range map[string]func(*cobra.Command, *bytes.Buffer) error{
		"completions/apiauth.bash": func(c *cobra.Command, b *bytes.Buffer) error { return c.GenBashCompletionV2(b, true) },
		"completions/_apiauth":     func(c *cobra.Command, b *bytes.Buffer) error { return c.GenZshCompletion(b) },
		"completions/apiauth.fish": func(c *cobra.Command, b *bytes.Buffer) error { return c.GenFishCompletion(b, true) },
		"completions/apiauth.ps1":  func(c *cobra.Command, b *bytes.Buffer) error { return c.GenPowerShellCompletionWithDesc(b) },
	} {
		root, _ := tree()
		var b bytes.Buffer
		if err := write(root, &b); err != nil {
			return nil, err
		}
		files[name] = b.Bytes()
	}
	root, out := tree()
	if err := pages(root, out, files); err != nil {
		return nil, err
	}
	if err := schemas(top, files); err != nil {
		return nil, err
	}
	return files, catalogue(top, files)
}

// catalogue packs the definitions of the providers.
func catalogue(top string, files map[string][]byte) error {
	const name = "internal/providers/catalog.pack"
	texts, err := pack.Folder(filepath.Join(top, "internal", "providers", "catalog"), ".yaml")
	if err != nil {
		return err
	}
	before, err := os.ReadFile(filepath.Join(top, filepath.FromSlash(name))) //nolint:gosec // a file of the repository
	if err != nil {
		return err
	}
	packed, err := pack.Make(pack.Pack(before), texts)
	files[name] = []byte(packed)
	return err
}

// tree is the command tree over an App that touches nothing, and where its help
// goes.
func tree() (*cobra.Command, *bytes.Buffer) {
	out := new(bytes.Buffer)
	root := cli.NewRoot(&cli.App{
		Stdin: new(bytes.Buffer), Stdout: out, Stderr: new(bytes.Buffer),
		Env: func(string) (string, bool) { return "", false }, Environ: func() []string { return nil },
		Now: time.Now, GOOS: "linux", Dir: "/", Home: "/",
	})
	root.SetOut(out)
	return root, out
}

// pages writes the man page of a command and of those below it.
func pages(cmd *cobra.Command, out *bytes.Buffer, files map[string][]byte) error {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() || c.IsAdditionalHelpTopicCommand() && !c.Hidden {
			if c.Name() == "help" {
				continue
			}
			if err := pages(c, out, files); err != nil {
				return err
			}
		}
	}
	if cmd.IsAdditionalHelpTopicCommand() {
		out.Reset()
		if err := cmd.Help(); err != nil {
			return err
		}
		cmd.Long = out.String()
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	long := cmd.Long
	cmd.Long, cmd.Example = verbatim(cmp.Or(cmd.Long, cmd.Short+".")), strings.TrimRight(cmd.Example, "\n")
	cmd.DisableAutoGenTag = true
	defer func() { cmd.Long = long }()
	// The date says when the pages took this form; a date of the build would
	// make every build differ.
	date := time.Date(2026, time.November, 21, 0, 0, 0, 0, time.UTC)
	var b bytes.Buffer
	if err := doc.GenMan(cmd, &doc.GenManHeader{
		Title: strings.ToUpper(name), Section: "1", Date: &date, Source: "apiauth", Manual: "apiauth manual",
	}, &b); err != nil {
		return fmt.Errorf("%s: %w", cmd.CommandPath(), err)
	}
	content := b.String()
	if cmd.IsAdditionalHelpTopicCommand() {
		content = without(content, ".SH SYNOPSIS", ".SH OPTIONS", ".SH OPTIONS INHERITED FROM PARENT COMMANDS")
	}
	files["man/"+name+".1"] = []byte(content)
	return nil
}

// without leaves sections out: a topic is no command to call.
func without(page string, sections ...string) string {
	var b strings.Builder
	drop := false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(line, ".SH ") {
			drop = slices.Contains(sections, strings.TrimSpace(line))
		}
		if !drop {
			b.WriteString(line)
		}
	}
	return b.String()
}

// verbatim keeps the line breaks of indented lines: help texts indent what is
// an example or a table by two blanks, and the page's format wants four.
func verbatim(text string) string {
	var b strings.Builder
	block := false
	for line := range strings.Lines(text) {
		indented := strings.HasPrefix(line, "  ")
		if indented != block && strings.TrimSpace(line) != "" {
			b.WriteByte('\n')
			block = indented
		}
		if indented {
			b.WriteString("  " + line)
		} else {
			b.WriteString(strings.NewReplacer("<", `\<`, "_", `\_`, "*", `\*`).Replace(line)) // no tag, no emphasis
		}
	}
	return b.String()
}
