package inject

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// The formats of CI systems and containers that Write knows.
const (
	Docker    = "docker"    // docker run --env-file
	GitHub    = "github"    // the file that GITHUB_ENV names, after the mask commands
	GitLab    = "gitlab"    // artifacts:reports:dotenv
	Azure     = "azure"     // logging commands on standard output
	CircleCI  = "circleci"  // the file that BASH_ENV names
	Buildkite = "buildkite" // eval in a hook or a command of a step
	Netlify   = "netlify"   // netlifyConfig.build.environment, for a local build plugin
)

// Delivery says how the text of a format reaches its reader.
type Delivery struct {
	// File is the variable that names the file to append the text to; empty:
	// the text goes to standard output.
	File string
	// Inside is a variable that is set where standard output is read by the CI
	// system and not shown to people; empty: no such thing is needed.
	Inside string
	// Fixed says that the text can go nowhere else.
	Fixed bool
	// Caveat is what a person has to know, since the system does not hide the
	// values; empty: it does, or the format is not for a log.
	Caveat string
}

// DeliveryOf returns how the text of a format is delivered.
//
//   - GitHub: the environment file of the step, "Workflow commands for GitHub
//     Actions", docs.github.com, checked 2026-11-25.
//   - Azure: TF_BUILD is set in every job, "Predefined variables",
//     learn.microsoft.com.
//   - CircleCI: a shell sources BASH_ENV before every step, "Project values and
//     variables", circleci.com/docs, checked 2026-11-25.
//   - Netlify: a build plugin may change build.environment, whose values are
//     strings (netlify/build, MUTABLE_PROPS, checked 2026-11-25).
//   - GitLab: "Pass dotenv variables to specific jobs", docs.gitlab.com, checked
//     2026-11-25: what a report sets is no masked variable.
func DeliveryOf(format string) Delivery {
	switch format {
	case GitHub:
		return Delivery{File: "GITHUB_ENV", Inside: "GITHUB_ENV", Fixed: true}
	case Azure:
		return Delivery{Inside: "TF_BUILD", Fixed: true}
	case CircleCI:
		return Delivery{File: "BASH_ENV", Inside: "BASH_ENV", Fixed: true,
			Caveat: "CircleCI masks only the variables of projects and contexts: do not print these in a later step"}
	case GitLab:
		return Delivery{Caveat: "GitLab does not mask what a dotenv report sets, and who may read the job's artifacts can read it"}
	case Netlify:
		return Delivery{Caveat: "Netlify masks only variables that are stored as secrets: do not print these in the build"}
	}
	return Delivery{}
}

// minMasked is how many bytes a token needs for a log to be masked. Buildkite's
// redactor passes over what is shorter than 6 (buildkite/agent,
// RedactLengthMin, checked 2026-11-25), and elsewhere a shorter mask would
// blacken half of the log.
const minMasked = 6

// unmaskable is the reason to refuse a token that a log cannot be masked for.
func unmaskable(v Var) string {
	if v.Field == "" && len(v.Value.Reveal()) < minMasked {
		return fmt.Sprintf("has fewer than %d bytes, which no log is masked for", minMasked)
	}
	return ""
}

// masks reports whether a format tells the CI system to hide the tokens.
func masks(format string) bool { return format == GitHub || format == Azure || format == Buildkite }

// WriteMasks writes the commands that make a CI system hide the tokens of vars
// in its log, where they are apart from the text that Write writes: for GitHub.
// They have to reach standard output before anything uses the tokens. Kept
// fields, such as an instance's URL, are no secrets and are not masked.
//
// A line end goes first: the runner obeys a command only at the beginning of a
// line, and would show the token after what somebody else left there. It turns
// %25, %0D and %0A of a command's data back (actions/runner,
// src/Runner.Common/ActionCommand.cs, checked 2026-11-25).
func WriteMasks(w io.Writer, format string, vars []Var) error {
	if format != GitHub {
		return nil
	}
	var b bytes.Buffer
	for _, v := range vars {
		if v.Field != "" {
			continue
		}
		value := v.Value.Reveal()
		if strings.ContainsAny(value, "\r\n\x00") {
			return &ValueError{v.Name, v.Connection, format, "contains a line end or a NUL byte"}
		}
		if b.Len() == 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "::add-mask::%s\n", strings.ReplaceAll(value, "%", "%25"))
	}
	_, err := w.Write(b.Bytes())
	return err
}

// reservedName refuses the names that a CI system would not hand on. Azure keeps
// variables that begin like this to itself, whatever the case ("Define
// variables", learn.microsoft.com).
func reservedName(format string, v Var) error {
	if format != Azure {
		return nil
	}
	for _, prefix := range []string{"ENDPOINT", "INPUT", "SECRET", "PATH", "SECUREFILE"} {
		if strings.HasPrefix(v.Name, prefix) {
			return &NameError{v.Connection, v.Name, errors.New("Azure Pipelines keeps names that begin with " + prefix + " to itself")}
		}
	}
	return nil
}

// oneLine refuses what no line of text carries to a reader of UTF-8.
func oneLine(value string) (reason string) {
	switch {
	case strings.ContainsAny(value, "\r\n"):
		return "contains a line end"
	case !utf8.ValidString(value):
		return "is not valid UTF-8"
	}
	return ""
}

// dockerLine writes a line that docker and podman take as it is. Newer versions
// of docker drop quotes around a value, older ones keep them, and a line has to
// fit into 64 KiB (docker/cli, pkg/kvfile, checked 2026-11-25).
func dockerLine(b *bytes.Buffer, v Var) string {
	value := v.Value.Reveal()
	if reason := oneLine(value); reason != "" {
		return reason
	}
	if n := len(value); n > 1 && value[0] == value[n-1] && (value[0] == '"' || value[0] == '\'') {
		return "begins and ends with the same quote, which some versions of docker drop"
	}
	if len(v.Name)+len(value)+2 > 64<<10 {
		return "is longer than a line of such a file can be"
	}
	fmt.Fprintf(b, "%s=%s\n", v.Name, value)
	return ""
}

// githubLines writes a value between random delimiters, so that whatever it
// holds stays a value (actions/runner, src/Runner.Worker/FileCommandManager.cs,
// checked 2026-11-25). The delimiter has 130 random bits.
func githubLines(b *bytes.Buffer, v Var) string {
	value := v.Value.Reveal()
	if reason := oneLine(value); reason != "" {
		return reason
	}
	delimiter := "apiauth_" + rand.Text()
	fmt.Fprintf(b, "%s<<%s\n%s\n%s\n", v.Name, delimiter, value, delimiter)
	return ""
}

// gitlabLine writes a line of a dotenv report. GitLab strips the value, keeps
// quotes, and puts other variables into $NAME and %NAME% (gitlab-org/gitlab,
// app/services/ci/parse_dotenv_artifact_service.rb, checked 2026-11-25).
func gitlabLine(b *bytes.Buffer, v Var) string {
	value := v.Value.Reveal()
	if reason := oneLine(value); reason != "" {
		return reason
	}
	switch {
	case value != strings.Trim(value, " \t\v\f\x00"):
		return "begins or ends with a blank, which GitLab drops"
	case strings.ContainsAny(value, "$%"):
		return "contains $ or %, with which GitLab puts other variables into it"
	}
	fmt.Fprintf(b, "%s=%s\n", v.Name, value)
	return ""
}

// gitlabSize is the largest dotenv report that GitLab takes unless an
// administrator raised it: it must be smaller than 5 KiB.
const gitlabSize = 5<<10 - 1

// azureLine writes a logging command. The agent finds it anywhere in a line and
// turns %AZP25, %0D, %0A, %3B and %5D of its data back
// (microsoft/azure-pipelines-agent, docs/design/percentEncoding.md, checked
// 2026-11-25). A secret variable reaches a later step only where that step maps
// it.
func azureLine(b *bytes.Buffer, v Var) string {
	value := v.Value.Reveal()
	if reason := oneLine(value); reason != "" {
		return reason
	}
	switch {
	case value == "":
		return "is empty, which Azure Pipelines takes as no variable"
	case value != strings.TrimSpace(value):
		return "begins or ends with a blank, which is not sure to arrive"
	}
	secret := ""
	if v.Field == "" {
		secret = ";issecret=true"
	}
	escape := strings.NewReplacer("%", "%AZP25", ";", "%3B", "]", "%5D")
	fmt.Fprintf(b, "##vso[task.setvariable variable=%s%s]%s\n", v.Name, secret, escape.Replace(value))
	return ""
}

// buildkiteLines writes text for a shell: the redactor learns the token, from
// its standard input, and only then the variable is set ("buildkite-agent
// redactor", buildkite.com/docs, checked 2026-11-25). printf is the shell's own,
// so that no command line shows the token.
func buildkiteLines(b *bytes.Buffer, v Var) string {
	value := v.Value.Reveal()
	if strings.ContainsAny(value, "\r\n") {
		return "contains a line end"
	}
	if v.Field == "" {
		fmt.Fprintf(b, "printf %%s '%s' | buildkite-agent redactor add || exit 1\n", strings.ReplaceAll(value, "'", `'\''`))
	}
	return shLine(b, v.Name, value)
}
