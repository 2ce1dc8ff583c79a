package recipes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/apiauth/apiauth/internal/secret"
	"github.com/apiauth/apiauth/test/peers"
)

func TestMain(m *testing.M) { os.Exit(peers.Main(m)) }

// recipes returns the fenced blocks of docs/ci.md, by their names.
func recipes(t *testing.T) map[string]string {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "ci.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	fence := regexp.MustCompile("(?m)^<!-- recipe: ([a-z-]+) -->\n```[a-z]+\n((?s:.*?))^```$")
	for _, m := range fence.FindAllStringSubmatch(strings.ReplaceAll(string(doc), "\r\n", "\n"), -1) {
		if found[m[1]] != "" {
			t.Fatalf("docs/ci.md has two recipes %q", m[1])
		}
		found[m[1]] = m[2]
	}
	return found
}

// known are the recipes that a test runs.
func known() []string {
	return []string{
		"github", "github-env", "github-client", "gitlab", "gitlab-dotenv", "circleci", "jenkins", "netlify", "netlify-plugin",
		"azure", "buildkite", "dockerfile", "docker-run", "devcontainer", "direnv", "make", "mcp",
	}
}

func TestEveryRecipeIsRun(t *testing.T) {
	if got, want := slices.Sorted(maps.Keys(recipes(t))), slices.Sorted(slices.Values(known())); !slices.Equal(got, want) {
		t.Errorf("docs/ci.md has the recipes\n%q\nand tests run\n%q", got, want)
	}
}

// lines splits a file of variables where its parser does.
func lines(text string) []string { return strings.Split(strings.TrimSuffix(text, "\n"), "\n") }

// githubEnv reads the file of GITHUB_ENV as actions/runner does,
// src/Runner.Worker/FileCommandManager.cs, as of 2026-11-25.
func githubEnv(text string, into map[string]string) error {
	all := lines(text)
	for i := 0; i < len(all); i++ {
		name, delimiter, heredoc := strings.Cut(all[i], "<<")
		if key, value, plain := strings.Cut(all[i], "="); plain && (!heredoc || len(key) < len(name)) {
			into[key] = value
			continue
		}
		if all[i] == "" {
			continue
		}
		if !heredoc || name == "" || delimiter == "" {
			return fmt.Errorf("line %d is in no form of a variable", i+1)
		}
		end := slices.Index(all[i+1:], delimiter)
		if end < 0 {
			return fmt.Errorf("line %d: its delimiter does not come again", i+1)
		}
		into[name] = strings.Join(all[i+1:i+1+end], "\n")
		i += 1 + end
	}
	return nil
}

func TestGitHub(t *testing.T) {
	for _, recipe := range []string{"github", "github-env", "github-client"} {
		t.Run(recipe, func(t *testing.T) {
			r := newRig(t)
			var workflow struct {
				Jobs map[string]struct {
					Steps []struct {
						Uses, Run string
						Env       map[string]string
					}
				}
			}
			r.yaml(recipe, &workflow)
			job := map[string]string{"GITHUB_ACTIONS": "true"}
			if recipe == "github-client" {
				// The stand-in is no entry of the catalogue.
				job["APIAUTH_CLIENT_ISSUER_SPOTIFY"] = r.issuer.Issuer()
			}
			for i, step := range workflow.Jobs["build"].Steps {
				if step.Run == "" {
					continue
				}
				file := filepath.Join(r.home, fmt.Sprintf("set_env_%d", i))
				r.write(file, "")
				env := maps.Clone(job)
				maps.Copy(env, r.filled(step.Env, `\$\{\{ (?:secrets|vars)\.(\w+) \}\}`))
				env["GITHUB_ENV"] = file
				script := filepath.Join(r.home, "step.sh")
				r.write(script, step.Run)
				for line := range strings.Lines(r.step(script, env, "bash", "-e")) {
					if mask, found := strings.CutPrefix(line, "::add-mask::"); found {
						r.masks = append(r.masks, strings.ReplaceAll(strings.TrimSuffix(mask, "\n"), "%25", "%"))
					}
				}
				r.must(githubEnv(r.read(file), job))
			}
			r.built(recipe == "github-env")
		})
	}
}

func TestGitLab(t *testing.T) {
	for _, recipe := range []string{"gitlab", "gitlab-dotenv"} {
		t.Run(recipe, func(t *testing.T) {
			r := newRig(t)
			var pipeline map[string]struct {
				Stage     string
				Script    []string
				Artifacts struct {
					Reports struct{ Dotenv string }
				}
			}
			r.yaml(recipe, &pipeline)
			jobs := slices.SortedFunc(maps.Keys(pipeline), func(a, b string) int { // build comes before test
				return strings.Compare(pipeline[a].Stage, pipeline[b].Stage)
			})
			reported := map[string]string{}
			for _, name := range jobs {
				job := pipeline[name]
				env := maps.Clone(reported)
				if len(reported) == 0 {
					env["APIAUTH_BUNDLE"], env["APIAUTH_BUNDLE_KEY"] = r.bundle, r.key
				}
				r.step(strings.Join(job.Script, "\n"), env)
				if report := job.Artifacts.Reports.Dotenv; report != "" {
					// gitlab-org/gitlab, app/services/ci/parse_dotenv_artifact_service.rb, as of 2026-11-25.
					for _, line := range lines(r.read(filepath.Join(r.site, report))) {
						name, value, found := strings.Cut(line, "=")
						if !found {
							t.Fatal("the report has a line that is no variable")
						}
						reported[strings.TrimSpace(name)] = strings.TrimSpace(value)
					}
				}
			}
			r.built(false)
		})
	}
}

func TestCircleCI(t *testing.T) {
	r := newRig(t)
	var config struct {
		Jobs map[string]struct{ Steps []yaml.Node }
	}
	r.yaml("circleci", &config)
	env := map[string]string{"CIRCLECI": "true", "BASH_ENV": filepath.Join(r.home, "bash_env"), "APIAUTH_BUNDLE": r.bundle, "APIAUTH_BUNDLE_KEY": r.key}
	for _, node := range config.Jobs["build"].Steps {
		var short struct{ Run string }
		var long struct{ Run struct{ Command string } }
		switch {
		case node.Kind == yaml.ScalarNode: // checkout
		case node.Decode(&short) == nil:
			r.step(short.Run, env, "bash", "-eo", "pipefail", "-c")
		default:
			r.must(node.Decode(&long))
			r.step(long.Run.Command, env, "bash", "-eo", "pipefail", "-c")
		}
	}
	r.built(false)
}

func TestJenkins(t *testing.T) {
	r := newRig(t)
	text := recipes(t)["jenkins"]
	kept := map[string]string{"apiauth-bundle": r.bundle, "apiauth-bundle-key": r.key}
	env := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^ +(\w+) = credentials\('([^']+)'\)$`).FindAllStringSubmatch(text, -1) {
		env[m[1]] = kept[m[2]]
	}
	for _, m := range regexp.MustCompile(`(?m)^ +sh '([^']+)'$`).FindAllStringSubmatch(text, -1) {
		r.step(m[1], env, "sh", "-xe", "-c")
	}
	r.built(false)
}

func TestNetlify(t *testing.T) {
	env := func(r *rig) map[string]string {
		return map[string]string{"NETLIFY": "true", "APIAUTH_BUNDLE": r.bundle, "APIAUTH_BUNDLE_KEY": r.key}
	}
	t.Run("command", func(t *testing.T) {
		r := newRig(t)
		command := regexp.MustCompile(`(?m)^  command = "(.+)"$`).FindStringSubmatch(recipes(t)["netlify"])
		if command == nil {
			t.Fatal("netlify.toml has no command")
		}
		r.step(command[1], env(r), "bash", "-c")
		r.built(false)
	})
	t.Run("plugin", func(t *testing.T) {
		peers.Program(t, "apt-get install nodejs", "node")
		r := newRig(t)
		r.write(filepath.Join(r.site, "plugin.mjs"), recipes(t)["netlify-plugin"])
		r.write(filepath.Join(r.site, "build.mjs"), `import { onPreBuild } from "./plugin.mjs";
const netlifyConfig = { build: { environment: { KEPT: "1" } } };
await onPreBuild({ netlifyConfig });
process.stdout.write(JSON.stringify(netlifyConfig.build.environment));
`)
		var got map[string]string
		out := r.step("node build.mjs", env(r))
		r.log.Reset() // the test printed it, not the plugin
		r.must(json.Unmarshal([]byte(out), &got))
		if got["KEPT"] != "1" {
			t.Error("what was there is gone")
		}
		r.step("npm run build", got)
		r.built(false)
	})
}

func TestAzure(t *testing.T) {
	r := newRig(t)
	var pipeline struct {
		Steps []struct {
			Bash string
			Env  map[string]string
		}
	}
	r.yaml("azure", &pipeline)
	command := regexp.MustCompile(`(?m)##vso\[task\.setvariable variable=(\w+)(;issecret=true)?\](.*)$`)
	for _, step := range pipeline.Steps {
		env := r.filled(step.Env, `\$\((\w+)\)`)
		env["TF_BUILD"] = "True"
		out := r.step(step.Bash, env, "bash", "-c")
		// microsoft/azure-pipelines-agent, docs/design/percentEncoding.md, as of 2026-11-25.
		for _, m := range command.FindAllStringSubmatch(out, -1) {
			value := m[3]
			for _, pair := range [][2]string{{"%3B", ";"}, {"%0D", "\r"}, {"%0A", "\n"}, {"%5D", "]"}, {"%AZP25", "%"}} {
				value = strings.ReplaceAll(value, pair[0], pair[1])
			}
			if m[2] == "" {
				t.Errorf("%s is no secret variable", m[1])
			}
			r.secrets[m[1]], r.masks = value, append(r.masks, value)
		}
	}
	delete(r.secrets, "SPOTIFY_ACCESS_TOKEN") // built looks at the masked log for it
	r.built(true)
}

func TestBuildkite(t *testing.T) {
	r := newRig(t)
	redacted := filepath.Join(r.home, "redacted")
	r.program("buildkite-agent", `case "$1 $2" in
"secret get") cat "$HOME/secret.$3" ;;
"redactor add") cat >> "$REDACTED"; echo >> "$REDACTED" ;;
*) exit 1 ;;
esac`)
	r.write(filepath.Join(r.home, "secret.APIAUTH_BUNDLE"), r.bundle)
	r.write(filepath.Join(r.home, "secret.APIAUTH_BUNDLE_KEY"), r.key)
	hook := filepath.Join(r.home, "pre-command")
	r.write(hook, recipes(t)["buildkite"])
	// The agent sources a hook and keeps what it exports for the command.
	r.step(`. "$HOOK"; test -z "${APIAUTH_BUNDLE-}${APIAUTH_BUNDLE_KEY-}"; npm run build`,
		map[string]string{"BUILDKITE": "true", "HOOK": hook, "REDACTED": redacted}, "bash", "-e", "-c")
	r.masks = lines(r.read(redacted))
	r.built(true)
}

func TestDocker(t *testing.T) {
	t.Run("build", func(t *testing.T) {
		r := newRig(t)
		run := regexp.MustCompile(`(?s)\nRUN ((?:.*?\\\n)*.*?)\n`).FindStringSubmatch(recipes(t)["dockerfile"])
		if run == nil {
			t.Fatal("the Dockerfile has no RUN")
		}
		secrets := filepath.Join(r.home, "secrets")
		r.must(os.Mkdir(secrets, 0o700))
		mount := regexp.MustCompile(`--mount=type=secret,id=(\w+)\s`)
		for _, m := range mount.FindAllStringSubmatch(run[1], -1) {
			r.write(filepath.Join(secrets, m[1]), r.secrets[strings.ToUpper(m[1])]+"\n")
		}
		script := strings.ReplaceAll(mount.ReplaceAllString(run[1], ""), "/run/secrets", secrets)
		r.step(script, nil, "sh", "-c")
		r.built(false)
	})
	t.Run("run", func(t *testing.T) {
		r := newRig(t)
		// docker reads the file line by line (docker/cli, pkg/kvfile) and starts
		// the command with nothing else.
		r.program("docker", `test "$1 $2 $3" = "run --rm --env-file" && test "$5" = site || exit 1
file=$4; shift 5
set -- env -i PATH="$PATH" SEEN="$SEEN" "$(cat "$file")" "$@"
exec "$@"`)
		r.step(recipes(t)["docker-run"], map[string]string{"APIAUTH_BUNDLE": r.bundle, "APIAUTH_BUNDLE_KEY": r.key})
		r.built(false)
		if _, err := os.Stat(filepath.Join(r.site, "app.env")); err == nil {
			t.Error("the file with the token is still there")
		}
	})
}

func TestDevContainer(t *testing.T) {
	r := newRig(t)
	var doc struct {
		RemoteEnv         map[string]string `json:"remoteEnv"`
		PostCreateCommand string            `json:"postCreateCommand"`
	}
	r.must(json.Unmarshal([]byte(recipes(t)["devcontainer"]), &doc))
	r.step(doc.PostCreateCommand, r.filled(doc.RemoteEnv, `\$\{localEnv:(\w+)\}`), "sh", "-c")
	r.built(false)
}

func TestDirenv(t *testing.T) {
	r := newRig(t)
	r.write(filepath.Join(r.site, ".envrc"), recipes(t)["direnv"])
	script := `watch_file() { test -f "$1"; } # of direnv's library
. ./.envrc
npm run build`
	if direnv, err := exec.LookPath("direnv"); err == nil {
		script = direnv + " allow . && " + direnv + " exec . npm run build"
	}
	r.step(script, map[string]string{"APIAUTH_BUNDLE": r.bundle, "APIAUTH_BUNDLE_KEY": r.key}, "bash", "-e", "-c")
	r.built(false)
}

func TestMake(t *testing.T) {
	peers.Program(t, "apt-get install make", "make")
	r := newRig(t)
	r.write(filepath.Join(r.site, "Makefile"), recipes(t)["make"])
	r.step("make build", map[string]string{"APIAUTH_BUNDLE": r.bundle, "APIAUTH_BUNDLE_KEY": r.key})
	r.built(false)
}

// TestAgent starts the server as an agent does, with what the configuration
// says. It gets a placeholder, which is no token anywhere.
func TestAgent(t *testing.T) {
	help, err := exec.CommandContext(t.Context(), peers.Binary(), "exec", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Servers map[string]struct {
			Command string   `json:"command"`
			Args    []string `json:"args"`
		} `json:"mcpServers"`
	}
	if err := json.Unmarshal([]byte(recipes(t)["mcp"]), &doc); err != nil {
		t.Fatal(err)
	}
	server := doc.Servers["spotify"]
	if server.Command != "apiauth" || !slices.Contains(server.Args, "--placeholder") || !slices.Contains(server.Args, "--isolate") {
		t.Fatalf("the agent's server runs %q %q", server.Command, server.Args)
	}
	if !bytes.Contains(help, []byte("--placeholder")) {
		t.Fatal("this program has no placeholder mode")
	}
	peers.Program(t, "apt-get install bubblewrap", "bwrap")
	r := newRig(t)
	out := r.step(server.Command+" "+strings.Join(server.Args, " "), map[string]string{"APIAUTH_BUNDLE": r.bundle, "APIAUTH_BUNDLE_KEY": r.key})
	given, found := strings.CutPrefix(strings.TrimSpace(out), "built with ")
	if !found || given == "" || r.issuer.Active(secret.New(given)) {
		t.Errorf("the server was not given a placeholder (%d bytes)", len(given))
	}
}
