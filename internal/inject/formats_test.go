package inject

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apiauth/apiauth/internal/secret"
)

// nasty returns values that break careless quoting.
func nasty() []string {
	return []string{
		"plain", "", " ", "  lead and trail  ", "\t", "a\tb", "a\nb", "\n", "a\n", "\nEVIL=1", "a\r\nb", "a\rb", "\r",
		"'", "''", "it's", `"`, `""`, `a"b'c`, `\`, `\\`, `a\`, `a\\`, `\'`, `\"`, `'\''`, `\n`, `\u0041`,
		"$HOME", "${HOME}", "$(id)", "`id`", "$", "$$", "%PATH%", "%%", "a%0Ab%25%3B", "%AZP250A", "!x!", "^&|<>", "a&b", "a;b", "a|b", "#x", "a #b", "~", "~root", "a=b==", "-n", "--", "*", "?[a]",
		"EOF\nEVIL=1\nEOF", "'; touch /tmp/x; '", `"; calc; "`, "' + (id) + '", "‘’‚‛“”", "é", "日本", "😀", "\u2028", "\u0085", "\u202e", "\x1b[31m", "\x07", "\x7f", "\x01",
		"\xff\xfe", "a\xc3", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln-_==", "ya29.a0Af_x-y~z+/=", "{}", `{"a":1}`, "null", "true", "00", strings.Repeat("x", 9000), strings.Repeat("'", 500), strings.Repeat(`\`, 333), "a\x00b",
	}
}

func write(format, value string) (string, error) {
	var b bytes.Buffer
	err := Write(&b, format, []Var{{Name: "V", Value: secret.New(value), Connection: "c"}})
	if err != nil && b.Len() > 0 {
		return "", fmt.Errorf("wrote %d bytes and failed: %w", b.Len(), err)
	}
	return b.String(), err
}

// mayRefuse says which values a format is allowed to refuse.
func mayRefuse(format, v string) bool {
	if strings.ContainsRune(v, 0) {
		return true
	}
	invalid := !utf8.ValidString(v)
	switch format {
	case Fish:
		return invalid || strings.ContainsAny(v, "\r\n")
	case PowerShell:
		return invalid || v == ""
	case Cmd:
		return invalid || v == "" || len(v) > 8000 || strings.ContainsFunc(v, func(r rune) bool { return r < 0x20 || r > 0x7e || strings.ContainsRune(`%!"`, r) })
	case Dotenv:
		return invalid || strings.ContainsFunc(v, func(r rune) bool {
			return r < 0x20 || r == 0x7f || strings.ContainsRune("$\\`\u0085\u2028\u2029", r)
		}) || strings.Contains(v, "'") && strings.Contains(v, `"`)
	case JSON, Netlify:
		return invalid
	case Docker:
		return invalid || strings.ContainsAny(v, "\r\n") || len(v) > 1 && v[0] == v[len(v)-1] && strings.ContainsAny(v[:1], `"'`)
	case GitHub:
		return invalid || len(v) < minMasked || strings.ContainsAny(v, "\r\n")
	case GitLab:
		return invalid || len(v) > 5000 || strings.ContainsAny(v, "\r\n$%") || v != strings.Trim(v, " \t")
	case Azure:
		return invalid || len(v) < minMasked || strings.ContainsAny(v, "\r\n") || v != strings.TrimSpace(v)
	case Buildkite:
		return len(v) < minMasked || strings.ContainsAny(v, "\r\n")
	}
	return false
}

func TestWriteRefusesOnlyWhatItMust(t *testing.T) {
	for _, format := range Formats() {
		for _, v := range nasty() {
			_, err := write(format, v)
			if _, refused := errors.AsType[*ValueError](err); refused != mayRefuse(format, v) || err != nil && !refused {
				t.Errorf("%s, %q: %v", format, v, err)
			}
		}
	}
}

func TestLineProtocolsHaveOneLineForEach(t *testing.T) {
	for _, format := range []string{Fish, PowerShell, Cmd, Dotenv, Docker, GitLab, Azure} {
		for _, v := range nasty() {
			if text, err := write(format, v); err == nil && (strings.Count(text, "\n") != 1 || strings.ContainsAny(strings.TrimRight(text, "\r\n"), "\r\n\x00")) {
				t.Errorf("%s, %q: %q", format, v, text)
			}
		}
	}
}

// roundTrip writes each value, lets the real program read it and print it again
// followed by a dot, and compares.
func roundTrip(t *testing.T, format string, read func(t *testing.T, text string) *exec.Cmd) {
	for _, v := range nasty() {
		text, err := write(format, v)
		if err != nil {
			continue // TestWriteRefusesOnlyWhatItMust
		}
		out, err := read(t, text).Output()
		if err != nil {
			t.Errorf("%q: %v", v, err)
			continue
		}
		if got := strings.TrimSuffix(string(out), "."); got != v {
			t.Errorf("got %q, want %q from %q", got, v, text)
		}
	}
}

func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(name + " is not installed")
	}
	return path
}

func TestShRoundTrip(t *testing.T) {
	for _, name := range []string{"sh", "dash", "bash", "zsh", "ksh"} {
		t.Run(name, func(t *testing.T) {
			sh := tool(t, name)
			roundTrip(t, Sh, func(t *testing.T, text string) *exec.Cmd {
				// As people use it: through a command substitution, and seen by a child.
				cmd := exec.CommandContext(t.Context(), sh, "-c", `eval "$(cat)"; printenv V | od -v -An -tx1 >/dev/null; sh -c 'printf %s. "$V"'`)
				cmd.Stdin = strings.NewReader(text)
				return cmd
			})
		})
	}
}

func TestFishRoundTrip(t *testing.T) {
	fish := tool(t, "fish")
	roundTrip(t, Fish, func(t *testing.T, text string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), fish, "--no-config", "-c", `source; sh -c 'printf %s. "$V"'`)
		cmd.Stdin = strings.NewReader(text)
		return cmd
	})
}

func TestPowerShellRoundTrip(t *testing.T) {
	pwsh := tool(t, "pwsh")
	roundTrip(t, PowerShell, func(t *testing.T, text string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), pwsh, "-NoProfile", "-Command", `$input | Invoke-Expression; sh -c 'printf %s. "$V"'`)
		cmd.Stdin = strings.NewReader(text)
		return cmd
	})
}

// TestPowerShellText reads the one expression form that is written, for
// machines without PowerShell.
func TestPowerShellText(t *testing.T) {
	for _, c := range []struct{ value, want string }{
		{"abc", "$env:V = 'abc'\n"},
		{"it's", "$env:V = 'it''s'\n"},
		{"a\nb", "$env:V = 'a' + [char]0x000A + 'b'\n"},
		{"\u2018", "$env:V = '' + [char]0x2018\n"},
		{"😀", "$env:V = '' + [char]0xD83D + [char]0xDE00\n"},
		{"$(id)`", "$env:V = '$(id)`'\n"},
	} {
		if got, err := write(PowerShell, c.value); err != nil || got != c.want {
			t.Errorf("got %q, %v; want %q", got, err, c.want)
		}
	}
}

func TestCmdText(t *testing.T) {
	if got, err := write(Cmd, "a&b ^c|d'"); err != nil || got != "set \"V=a&b ^c|d'\"\r\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestDotenvRoundTrip(t *testing.T) {
	t.Run("sourced by sh", func(t *testing.T) {
		sh := tool(t, "sh")
		roundTrip(t, Dotenv, func(t *testing.T, text string) *exec.Cmd {
			cmd := exec.CommandContext(t.Context(), sh, "-c", `set -a; eval "$(cat)"; sh -c 'printf %s. "$V"'`)
			cmd.Stdin = strings.NewReader(text)
			return cmd
		})
	})
	t.Run("node's util.parseEnv", func(t *testing.T) {
		node := tool(t, "node")
		if exec.CommandContext(t.Context(), node, "-e", `require("util").parseEnv("A=1")`).Run() != nil {
			t.Skip("this node has no util.parseEnv")
		}
		batch(t, node, "-e", `
			const {parseEnv} = require("util");
			const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
			process.stdout.write(JSON.stringify(texts.map(t => parseEnv(t).V)));`)
	})
	t.Run("python's shlex", func(t *testing.T) {
		python := tool(t, "python3")
		batch(t, python, "-c", `
import json, shlex, sys
texts = json.load(sys.stdin)
print(json.dumps([shlex.split(t)[0].split("=", 1)[1] for t in texts]))`)
	})
}

// batch lets one process read all the .env files that can be written.
func batch(t *testing.T, argv ...string) {
	var values, texts []string
	for _, v := range nasty() {
		if text, err := write(Dotenv, v); err == nil {
			values, texts = append(values, v), append(texts, text)
		}
	}
	in, err := json.Marshal(texts)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(in)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := json.Unmarshal(out, &got); err != nil || len(got) != len(values) {
		t.Fatalf("%d answers, %v", len(got), err)
	}
	for i := range values {
		if got[i] != values[i] {
			t.Errorf("got %q, want %q from %q", got[i], values[i], texts[i])
		}
	}
}

func TestJSONRoundTrip(t *testing.T) {
	var vars []Var
	want := map[string]string{}
	for i, v := range nasty() {
		if mayRefuse(JSON, v) {
			continue
		}
		name := fmt.Sprintf("V%d", i)
		vars = append(vars, Var{Name: name, Value: secret.New(v)})
		want[name] = v
	}
	var b bytes.Buffer
	if err := Write(&b, JSON, vars); err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(b.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("got %q, want %q", got[name], v)
		}
	}
	b.Reset()
	if err := Write(&b, JSON, nil); err != nil || b.String() != "{}\n" {
		t.Errorf("nothing is %q, %v", b.String(), err)
	}
}

func TestWriteRefusesBadNames(t *testing.T) {
	for _, format := range Formats() {
		for _, name := range []string{"", "a", "X=1", "X\nY", "$(id)", "_X", "_", "X;id", "X'"} {
			var b bytes.Buffer
			err := Write(&b, format, []Var{{Name: name, Value: secret.New("value-1")}})
			if _, ok := errors.AsType[*NameError](err); !ok || b.Len() > 0 {
				t.Errorf("%s, name %q: %v", format, name, err)
			}
		}
		if err := Write(&bytes.Buffer{}, format, []Var{{Name: "_1X", Value: secret.New("value-1")}}); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
}

func TestWriteUnknownFormat(t *testing.T) {
	if _, ok := errors.AsType[*FormatError](Write(&bytes.Buffer{}, "xml", nil)); !ok {
		t.Error("want a *FormatError")
	}
}

func TestWriteErrorsHoldNoValue(t *testing.T) {
	for _, format := range Formats() {
		_, err := write(format, "canary-7f3a\x00\n%$'\"")
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "canary") {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// FuzzFormats checks what holds without a shell: nothing is written when a
// value is refused, lines stay single, and JSON and sh read back the same.
func FuzzFormats(f *testing.F) {
	for _, v := range nasty() {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		for _, format := range Formats() {
			text, err := write(format, v)
			if err != nil {
				if _, ok := errors.AsType[*ValueError](err); !ok {
					t.Fatalf("%s: %v", format, err)
				}
				continue
			}
			switch format {
			case Sh, CircleCI:
				if got := readSh(text); got != v {
					t.Fatalf("sh: %q from %q", got, text)
				}
			case JSON, Netlify:
				var m map[string]string
				if err := json.Unmarshal([]byte(text), &m); err != nil || m["V"] != v {
					t.Fatalf("json: %q, %v", text, err)
				}
			case Docker, GitHub, GitLab, Azure:
				if got, err := parsers()[format](text); err != nil || len(got) != 1 || got["V"] != v {
					t.Fatalf("%s: %q from %q, %v", format, got, text, err)
				}
			case Buildkite:
				if strings.Count(text, "\n") != 2 {
					t.Fatalf("buildkite: %q", text)
				}
			default:
				if strings.Count(text, "\n") != 1 {
					t.Fatalf("%s: %q", format, text)
				}
			}
		}
	})
}

// readSh reads the subset of sh that is written: quoted runs and \'.
func readSh(text string) string {
	s := strings.TrimSuffix(strings.TrimPrefix(text, "export V="), "\n")
	var b strings.Builder
	for s != "" {
		if strings.HasPrefix(s, `\'`) {
			b.WriteByte('\'')
			s = s[2:]
			continue
		}
		run, rest, ok := strings.Cut(s[1:], "'")
		if s[0] != '\'' || !ok {
			return "malformed: " + text
		}
		b.WriteString(run)
		s = rest
	}
	return b.String()
}
