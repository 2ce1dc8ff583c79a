package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/apiauth/apiauth/internal/apicall"
	"github.com/apiauth/apiauth/internal/config"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/keyring"
	"github.com/apiauth/apiauth/internal/loopback"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/project"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/strictyaml"
)

// Exit statuses. Scripts rely on them.
const (
	exitOK           = 0
	exitFailure      = 1   // failure or finding
	exitUsage        = 2   // usage, configuration, unknown name
	exitTemporary    = 3   // network or issuer: try again
	exitNeedsConnect = 4   // a person must run connect
	exitStore        = 5   // store locked, denied, absent, full, newer
	exitRefused      = 6   // refused by policy: unbound folder, changed endpoint
	exitSignal       = 128 // plus the signal's number
)

// hintError carries its own class and remedy.
type hintError struct {
	code int
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// failf is an error with an exit status and a remedy.
func failf(code int, hint, format string, a ...any) error {
	return &hintError{code: code, err: fmt.Errorf(format, a...), hint: hint}
}

// withHint adds a remedy to an error and keeps its class.
func withHint(err error, hint string) error {
	code, _ := explain(err)
	return &hintError{code: code, err: err, hint: hint}
}

// usageError is a wrong call; the command's help is named.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, a ...any) error { return &usageError{fmt.Errorf(format, a...)} }

func isUsageError(err error) bool {
	var u *usageError
	return errors.As(err, &u)
}

// silentError ends with a status and prints nothing: everything has been said.
type silentError struct{ code int }

func (e *silentError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// explain is the one place that turns errors of the rooms into an exit status
// and a remedy.
func explain(err error) (code int, hint string) {
	var (
		hinted    *hintError
		usage     *usageError
		yaml      *strictyaml.Error
		unknown   *providers.UnknownError
		variable  *providers.MissingVariableError
		changed   *connection.ChangedError
		locked    *connection.LockedError
		narrow    *connection.NarrowError
		unbound   *project.UnboundError
		noProject *project.UnknownProjectError
		newer     *project.NewerFormatError
		corrupt   *project.CorruptError
		unsafe    *project.UnsafeError
		untrusted *project.UntrustedError
		denied    *flow.DeniedError
		choice    *flow.ChoiceError
		port      *loopback.PortTakenError
		shadow    *providers.ShadowError
		moved     *providers.MovedError
		setting   *config.Error
		conflict  *inject.ConflictError
		name      *inject.NameError
		value     *inject.ValueError
		format    *inject.FormatError
		request   *apicall.RequestError
		refused   *apicall.RefusedError
		page      *apicall.PageError
		nobody    *apicall.UnreachableError
		child     interface{ ExitCode() int }
	)
	switch {
	case errors.As(err, &hinted):
		return hinted.code, hinted.hint
	case errors.As(err, &usage):
		return exitUsage, ""
	case errors.Is(err, oauth.ErrCertificate):
		return exitUsage, "store a good one with 'apiauth client set PROVIDER --client-certificate FILE --client-key FILE'"
	case errors.As(err, &child):
		switch code := child.ExitCode(); code {
		case 126:
			return code, "make it executable with chmod +x, or name the program that runs it"
		case 127:
			return code, "check its name and PATH; one in this folder is called ./NAME"
		default:
			return code, ""
		}
	case errors.As(err, &changed):
		return exitRefused, fmt.Sprintf("if that is expected, run 'apiauth connect %s' and approve it", changed.Name)
	case errors.As(err, &unbound):
		return exitRefused, "run 'apiauth connect' to begin a new project here, or 'apiauth project link' to use an existing one"
	case errors.As(err, &noProject):
		return exitUsage, "'apiauth project show --all' lists the projects"
	case errors.As(err, &untrusted):
		return exitRefused, "make the file your own and not writable by others"
	case errors.As(err, &moved):
		return exitRefused, "run 'apiauth connect' with this name to follow it"
	case errors.As(err, &shadow):
		return exitUsage, ""
	case errors.As(err, &setting):
		return exitUsage, "'apiauth help environment' lists the settings"
	case errors.As(err, &yaml):
		return exitUsage, "correct the file at that line and run the command again"
	case errors.As(err, &conflict):
		return exitUsage, "give one of them another variable: -c NAME=VARIABLE, or env in the manifest"
	case errors.As(err, &name):
		return exitUsage, "choose another variable: -c NAME=VARIABLE, or env in the manifest"
	case errors.As(err, &value), errors.As(err, &format):
		return exitUsage, ""
	case errors.As(err, &request):
		return exitUsage, request.Hint
	case errors.As(err, &refused):
		if len(refused.Hosts) > 0 {
			return exitRefused, "its hosts are " + strings.Join(refused.Hosts, ", ")
		}
		return exitRefused, ""
	case errors.As(err, &page):
		return exitFailure, ""
	case errors.As(err, &nobody):
		return exitTemporary, "try again"
	case errors.As(err, &unknown):
		return exitUsage, "'apiauth provider list' shows the catalogue, and 'apiauth provider add' extends it"
	case errors.As(err, &variable):
		return exitUsage, fmt.Sprintf("give it with --var %s=VALUE", variable.Variable.Name)
	case errors.As(err, &port):
		return exitUsage, "end the program that uses it, or register another port and give it with --port"
	case errors.As(err, &choice):
		return exitUsage, "'apiauth provider show ID' tells which flows a provider offers and what each needs"
	case errors.As(err, &denied):
		switch {
		case denied.ByPerson():
			return exitFailure, "run the command again to be asked once more"
		case denied.Code == "invalid_scope":
			return exitUsage, "leave out what the provider does not know; 'apiauth provider show ID' lists its scopes"
		}
		return exitFailure, "compare the client's registration at the provider with what 'apiauth provider show ID' says"
	case errors.Is(err, flow.ErrCodeExpired):
		return exitFailure, "run the command again for another code"
	case errors.Is(err, flow.ErrTimeout):
		return exitFailure, "run the command again; --timeout gives more time"
	case errors.Is(err, flow.ErrInterrupted):
		return exitSignal + 2, ""
	case errors.Is(err, flow.ErrNoTerminal):
		return exitUsage, "run it at a terminal, or use --flow device where the provider has it"
	case errors.Is(err, connection.ErrNotConnected), errors.Is(err, connection.ErrNeedsConnect):
		return exitNeedsConnect, "run 'apiauth connect' with this name to grant access"
	case errors.Is(err, connection.ErrNameTaken):
		return exitUsage, "choose another name, or disconnect that one first"
	case errors.Is(err, connection.ErrAccountDeclined):
		return exitFailure, "use another name for the other account: 'apiauth connect NAME --provider ID'"
	case errors.As(err, &narrow):
		return exitRefused, "'apiauth provider show' with its provider lists what may be asked for"
	case errors.As(err, &locked):
		return exitTemporary, "wait for it, or end it if it hangs; nothing was lost"
	case errors.Is(err, keyring.ErrAbsent):
		return exitStore, "start a keychain, or keep the grant in an encrypted file with --store file and APIAUTH_STORE_KEY (made by 'apiauth store key')"
	case errors.Is(err, keyring.ErrLocked):
		return exitStore, "unlock the keychain and try again; a new project can use --store file instead"
	case errors.Is(err, keyring.ErrDenied):
		return exitStore, "allow apiauth to use the keychain when it asks, or use --store file"
	case errors.Is(err, keyring.ErrTimeout):
		return exitStore, "see whether the keychain waits for an answer on the screen; 'apiauth doctor' tests it"
	case errors.Is(err, keyring.ErrTooLarge), errors.Is(err, keyring.ErrFailed):
		return exitStore, "'apiauth doctor' tests the keychain; --store file does without it"
	case errors.Is(err, connection.ErrNotKept):
		return exitStore, "use another keychain, or keep the grant in an encrypted file with --store file"
	case errors.Is(err, connection.ErrNotExclusive):
		return exitStore, notExclusiveHint
	case errors.Is(err, connection.ErrStoreFull):
		return exitStore, "make room on the disk and try again; nothing was lost"
	case errors.Is(err, connection.ErrNewer), errors.As(err, &newer):
		return exitStore, "update apiauth"
	case errors.Is(err, connection.ErrStoreKey):
		return exitStore, "'apiauth help environment' names the variables that hold the store's key"
	case errors.Is(err, connection.ErrCorrupt):
		return exitStore, "run 'apiauth doctor'; 'apiauth connect' replaces a damaged connection"
	case errors.As(err, &corrupt), errors.As(err, &unsafe), errors.Is(err, connection.ErrStoreWrite), errors.Is(err, connection.ErrStoreRead), errors.Is(err, connection.ErrConflict):
		return exitStore, "'apiauth paths' shows where everything lies, 'apiauth doctor' what is wrong with it"
	case errors.Is(err, oauth.ErrRefused):
		return exitUsage, "correct the address, the definition or the setting that it names"
	case errors.Is(err, connection.ErrRefused):
		return exitFailure, "compare the client's registration at the provider with what 'apiauth provider show ID' says"
	case errors.Is(err, connection.ErrTemporary), errors.Is(err, oauth.ErrNotSent), errors.Is(err, oauth.ErrNoAnswer), oauth.IsTemporary(err):
		return exitTemporary, "nothing was lost: try again"
	case errors.Is(err, connection.ErrClient):
		return exitUsage, "set the right one with 'apiauth client set PROVIDER'"
	case errors.Is(err, context.DeadlineExceeded):
		return exitTemporary, ""
	}
	return exitFailure, ""
}

// notExclusiveHint is the remedy for a place where locks are none.
const notExclusiveHint = "move the state folder to a local disk and name it with APIAUTH_STATE_DIR; nothing was sent, and nothing was lost"

// lineWidth is how wide messages for people are.
const lineWidth = 80

// printError writes what failed and what to do about it.
func printError(w io.Writer, err error, hint string) {
	writeWrapped(w, "apiauth: error: ", err.Error())
	if hint != "" {
		writeWrapped(w, "apiauth: hint: ", hint)
	}
}

// writeWrapped breaks a message at blanks so that no line is wider than
// lineWidth, as far as its words allow; a command in quotes counts as one word,
// so that it can be copied. Continued lines are indented. The text
// may come from anywhere: no line of it can begin like a CI command, also after
// the blanks that CI systems pass over.
func writeWrapped(w io.Writer, prefix, msg string) {
	for i, line := range strings.Split(msg, "\n") {
		head := "  "
		if i == 0 {
			head = prefix
		}
		width := len(head)
		var b strings.Builder
		b.WriteString(head)
		for j, word := range units(strings.Fields(oauthCleanLong(line))) {
			switch n := len([]rune(word)); {
			case j == 0:
				width += n
			case width+1+n > lineWidth:
				b.WriteString("\n  ")
				width = 2 + n
			default:
				b.WriteByte(' ')
				width += 1 + n
			}
			b.WriteString(word)
		}
		b.WriteByte('\n')
		_, _ = io.WriteString(w, b.String())
	}
}

// units joins the words of a command in quotes, if it fits into a line.
func units(words []string) []string {
	var out []string
	for i := 0; i < len(words); i++ {
		unit, last := words[i], i
		if strings.HasPrefix(unit, "'apiauth") {
			for last+1 < len(words) && !strings.Contains(unit[1:], "'") {
				last++
				unit += " " + words[last]
			}
			if len([]rune(unit)) > lineWidth-2 || !strings.Contains(unit[1:], "'") {
				unit, last = words[i], i
			}
		}
		out = append(out, unit)
		i = last
	}
	return out
}

// oauthCleanLong removes what could steer a terminal, word by word, so that long
// messages are not cut.
func oauthCleanLong(s string) string {
	words := strings.Fields(s)
	for i, word := range words {
		if strings.ContainsFunc(word, func(r rune) bool { return r < 0x20 || r >= 0x7f }) || strings.HasPrefix(word, "::") || strings.HasPrefix(word, "##") {
			words[i] = oauth.Clean(word)
		}
	}
	return strings.Join(words, " ")
}
