package inject

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/apiauth/apiauth/internal/secret"
)

// parsers read a format as its system does. Each was written from the source
// that it names, so that a round trip here is one there.
func parsers() map[string]func(text string) (map[string]string, error) {
	return map[string]func(string) (map[string]string, error){
		Docker: parseDocker, GitHub: parseGitHub, GitLab: parseGitLab, Azure: parseAzure,
	}
}

// parseDocker follows docker/cli, pkg/kvfile/kvfile.go, as of 2026-11-25.
func parseDocker(text string) (map[string]string, error) {
	got := map[string]string{}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if !utf8.Valid(lines.Bytes()) {
			return nil, errors.New("invalid UTF-8")
		}
		line := strings.TrimLeftFunc(lines.Text(), unicode.IsSpace)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		if name == "" || strings.ContainsAny(name, " \t") || !found {
			return nil, fmt.Errorf("no variable: %q", line)
		}
		for _, quote := range []string{"'", `"`} {
			if len(value) > 1 && strings.HasPrefix(value, quote) && strings.HasSuffix(value, quote) {
				value = value[1 : len(value)-1]
				break
			}
		}
		got[name] = value
	}
	return got, lines.Err()
}

// parseGitHub follows actions/runner, src/Runner.Worker/FileCommandManager.cs,
// as of 2026-11-25.
func parseGitHub(text string) (map[string]string, error) {
	got := map[string]string{}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		line := lines[i]
		if line == "" {
			continue
		}
		equals, heredoc := strings.Index(line, "="), strings.Index(line, "<<")
		switch {
		case equals >= 0 && (heredoc < 0 || equals < heredoc):
			name, value, _ := strings.Cut(line, "=")
			got[name] = value
		case heredoc >= 0:
			name, delimiter, _ := strings.Cut(line, "<<")
			if name == "" || delimiter == "" {
				return nil, fmt.Errorf("no name or no delimiter: %q", line)
			}
			begin := i + 1
			for i++; i < len(lines) && lines[i] != delimiter; i++ {
			}
			if i == len(lines) {
				return nil, errors.New("matching delimiter not found")
			}
			got[name] = strings.Join(lines[begin:i], "\n")
		default:
			return nil, fmt.Errorf("invalid format: %q", line)
		}
	}
	return got, nil
}

// parseGitLab follows gitlab-org/gitlab,
// app/services/ci/parse_dotenv_artifact_service.rb, and the expansion of
// variables that are not raw, lib/expand_variables.rb, as of 2026-11-25. What
// would be expanded is an error here.
func parseGitLab(text string) (map[string]string, error) {
	if len(text) >= 5<<10 {
		return nil, errors.New("the report is too big")
	}
	got := map[string]string{}
	for line := range strings.Lines(strings.ToValidUTF8(text, "\ufffd")) {
		name, value, found := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !found {
			return nil, fmt.Errorf("invalid format: %q", line)
		}
		const stripped = " \t\v\f\r\x00"
		name, value = strings.Trim(name, stripped), strings.Trim(value, stripped)
		if strings.ContainsAny(value, "$%") {
			return nil, errors.New("would be expanded")
		}
		got[name] = value
	}
	return got, nil
}

// parseAzure follows microsoft/azure-pipelines-agent, Command.cs and
// docs/design/percentEncoding.md, as of 2026-11-25.
func parseAzure(text string) (map[string]string, error) {
	got := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		begin := strings.Index(line, "##vso[")
		if begin < 0 {
			return nil, fmt.Errorf("shown in the log: %q", line)
		}
		head, data, found := strings.Cut(line[begin+len("##vso["):], "]")
		command, properties, _ := strings.Cut(head, " ")
		if !found || command != "task.setvariable" {
			return nil, fmt.Errorf("no command: %q", line)
		}
		name := ""
		for property := range strings.SplitSeq(properties, ";") {
			if key, value, _ := strings.Cut(property, "="); key == "variable" {
				name = value
			}
		}
		for _, pair := range [][2]string{{"%3B", ";"}, {"%0D", "\r"}, {"%0A", "\n"}, {"%5D", "]"}, {"%AZP25", "%"}} {
			data = strings.ReplaceAll(data, pair[0], pair[1])
		}
		got[name] = strings.TrimSpace(data)
	}
	return got, nil
}

// both are a value as a token, and as a kept field, which is never masked and so
// may be short.
func both(value string) [][]Var {
	return [][]Var{
		{{Name: "V", Value: secret.New(value), Connection: "c"}},
		{{Name: "V", Value: secret.New(value), Connection: "c", Field: "f"}},
	}
}

// TestCIRoundTrip reads what is written back as each system does, with a line
// that somebody else wrote before it and one after it.
func TestCIRoundTrip(t *testing.T) {
	neighbours := map[string][2]string{
		GitHub: {"BEFORE=1\n", "AFTER=1\n"}, Docker: {"BEFORE=1\n", "AFTER=1\n"}, GitLab: {"BEFORE=1\n", "AFTER=1\n"},
		Azure: {"##vso[task.setvariable variable=BEFORE]1\n", "##vso[task.setvariable variable=AFTER]1\n"},
	}
	for format, parse := range parsers() {
		t.Run(format, func(t *testing.T) {
			delivered := 0
			for _, value := range nasty() {
				for _, vars := range both(value) {
					var b bytes.Buffer
					if err := Write(&b, format, vars); err != nil {
						if _, ok := errors.AsType[*ValueError](err); !ok || b.Len() > 0 {
							t.Errorf("%q: %v", value, err)
						}
						continue
					}
					delivered++
					got, err := parse(neighbours[format][0] + b.String() + neighbours[format][1])
					if err != nil || len(got) != 3 || got["V"] != value || got["BEFORE"] != "1" || got["AFTER"] != "1" {
						t.Errorf("%q: got %q, %v", value, got, err)
					}
				}
			}
			if delivered < 50 {
				t.Errorf("only %d values are delivered", delivered)
			}
		})
	}
}

// TestGitHubMasksFirst reads the commands as the runner does
// (src/Runner.Common/ActionCommand.cs): one line for each token, and none for a
// field.
func TestGitHubMasksFirst(t *testing.T) {
	for _, value := range nasty() {
		var b bytes.Buffer
		err := WriteMasks(&b, GitHub, []Var{
			{Name: "V", Value: secret.New(value), Connection: "c"},
			{Name: "C_URL", Value: secret.New("https://na1.example.com"), Connection: "c", Field: "url"},
		})
		if strings.ContainsAny(value, "\r\n\x00") {
			if _, ok := errors.AsType[*ValueError](err); !ok || b.Len() > 0 {
				t.Errorf("%q: %v", value, err)
			}
			continue
		}
		// After a line that somebody left open, the command is one all the same.
		data, found := strings.CutPrefix("left open"+b.String(), "left open\n::add-mask::")
		masked, rest, _ := strings.Cut(data, "\n")
		for _, pair := range [][2]string{{"%0D", "\r"}, {"%0A", "\n"}, {"%25", "%"}} {
			masked = strings.ReplaceAll(masked, pair[0], pair[1])
		}
		if err != nil || !found || masked != value || rest != "" {
			t.Errorf("%q: masks %q, then %q, %v", value, masked, rest, err)
		}
	}
	for _, format := range Formats() {
		var b bytes.Buffer
		if err := WriteMasks(&b, format, []Var{{Name: "V", Value: secret.New("canary-7f3a")}}); err != nil || format != GitHub && b.Len() > 0 {
			t.Errorf("%s prints %d bytes, %v", format, b.Len(), err)
		}
	}
}

func TestGitHubDelimitersAreRandom(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		text, err := write(GitHub, "canary-7f3a")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(text, "<<")
		delimiter, _, _ := strings.Cut(rest, "\n")
		if seen[delimiter] || len(delimiter) < len("apiauth_")+26 {
			t.Fatalf("the delimiter %q is no random one", delimiter)
		}
		seen[delimiter] = true
		// A value that is the delimiter of the time before ends nothing.
		text, err = write(GitHub, delimiter)
		if got, perr := parseGitHub(text); err != nil || perr != nil || got["V"] != delimiter {
			t.Fatalf("%q: %v, %v", got, err, perr)
		}
	}
}

func TestAzureTokensAreSecret(t *testing.T) {
	var b bytes.Buffer
	err := Write(&b, Azure, []Var{
		{Name: "V", Value: secret.New("a%b;c]d%0Ae"), Connection: "c"},
		{Name: "C_URL", Value: secret.New("https://na1.example.com"), Connection: "c", Field: "url"},
	})
	want := "##vso[task.setvariable variable=V;issecret=true]a%AZP25b%3Bc%5Dd%AZP250Ae\n##vso[task.setvariable variable=C_URL]https://na1.example.com\n"
	if err != nil || b.String() != want {
		t.Errorf("got %q, %v", b.String(), err)
	}
	for _, name := range []string{"PATHS", "INPUT_TOKEN", "SECRET", "ENDPOINT_X", "SECUREFILE"} {
		_, refused := errors.AsType[*NameError](Write(&b, Azure, []Var{{Name: name, Value: secret.New("canary-7f3a")}}))
		if !refused {
			t.Errorf("%s is written", name)
		}
	}
}

func TestShortTokensAreNotSentToAMasker(t *testing.T) {
	for _, format := range []string{GitHub, Azure, Buildkite} {
		if _, err := write(format, "abcde"); err == nil {
			t.Errorf("%s takes a token that it cannot mask", format)
		}
		if _, err := write(format, "abcdef"); err != nil {
			t.Errorf("%s: %v", format, err)
		}
	}
}

// TestCircleCIRoundTrip lets a real bash read the file as it does before a step.
func TestCircleCIRoundTrip(t *testing.T) {
	bash := tool(t, "bash")
	dir := t.TempDir()
	for i, value := range nasty() {
		text, err := write(CircleCI, value)
		if err != nil {
			continue // TestWriteRefusesOnlyWhatItMust
		}
		file := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(file, []byte("export BEFORE=1"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Append(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), bash, "-c", `printf %s. "$BEFORE$V"`)
		cmd.Env = []string{"BASH_ENV=" + file, "PATH=" + os.Getenv("PATH")}
		if out, err := cmd.Output(); err != nil || string(out) != "1"+value+"." {
			t.Errorf("got %q, %v, want %q", out, err, value)
		}
	}
}

// TestBuildkiteRoundTrip evaluates the text as a hook does, with a stand-in for
// the agent that writes down what it is told to redact.
func TestBuildkiteRoundTrip(t *testing.T) {
	bash := tool(t, "bash")
	bin := t.TempDir()
	agent := filepath.Join(bin, "buildkite-agent")
	script := "#!/bin/sh\ntest \"$*\" = 'redactor add' && cat > \"$REDACTED\" && exit \"$AGENT_STATUS\"\n"
	if err := os.WriteFile(agent, []byte(script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	run := func(text, file, status string) (string, error) {
		cmd := exec.CommandContext(t.Context(), bash, "-c", `eval "$(cat)"; cmp -s "$REDACTED" <(printf %s "$V") || exit 3; sh -c 'printf %s. "$V"'`)
		cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "REDACTED=" + file, "AGENT_STATUS=" + status}
		cmd.Stdin = strings.NewReader(text)
		out, err := cmd.Output()
		return string(out), err
	}
	for i, value := range nasty() {
		text, err := write(Buildkite, value)
		if err != nil {
			continue // TestWriteRefusesOnlyWhatItMust
		}
		file := filepath.Join(bin, fmt.Sprint(i))
		if out, err := run(text, file, "0"); err != nil || out != value+"." {
			t.Errorf("got %q, %v, want %q", out, err, value)
		}
	}
	text, err := write(Buildkite, "canary-7f3a")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := run(text, filepath.Join(bin, "failed"), "1"); err == nil || out != "" {
		t.Errorf("an agent that fails leaves %q", out)
	}
}

func TestNetlifyRoundTrip(t *testing.T) {
	node := tool(t, "node")
	for _, value := range nasty() {
		text, err := write(Netlify, value)
		if err != nil {
			continue // TestWriteRefusesOnlyWhatItMust
		}
		var got map[string]string
		if err := json.Unmarshal([]byte(text), &got); err != nil || got["V"] != value {
			t.Errorf("got %q, %v, want %q", got, err, value)
		}
	}
	text, err := write(Netlify, "it's \"a\" token\u2028")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, "-e", `process.stdout.write(JSON.parse(require("fs").readFileSync(0, "utf8")).V)`)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.Output(); err != nil || string(out) != "it's \"a\" token\u2028" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestGitLabReportsStaySmall(t *testing.T) {
	long := secret.New(strings.Repeat("x", 3000))
	var b bytes.Buffer
	err := Write(&b, GitLab, []Var{{Name: "A", Value: long, Connection: "a"}, {Name: "B", Value: long, Connection: "b"}})
	value, ok := errors.AsType[*ValueError](err)
	if !ok || value.Name != "B" || b.Len() > 0 {
		t.Errorf("%v", err)
	}
}

func TestAppend(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "env")
	for _, text := range []string{"A=1\n", "B=2", "C=3\n"} {
		if err := Append(file, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "A=1\nB=2\nC=3\n" {
		t.Errorf("%q, %v", got, err)
	}
	if runtime.GOOS == "windows" {
		return
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{link, dir, os.DevNull} {
		if err := Append(path, []byte("D=4\n")); err == nil {
			t.Errorf("%s is written to", path)
		}
	}
	if got, err := os.ReadFile(file); err != nil || strings.Contains(string(got), "D=4") {
		t.Errorf("%q, %v", got, err)
	}
}
