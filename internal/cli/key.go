package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// maxKeyFile is the largest key file that is read, in bytes.
const maxKeyFile = 64 << 10

// keyFlags say where a client's private key comes from. Its file is only read;
// what is kept lies in the store.
type keyFlags struct {
	File  string
	Stdin bool
}

func (k *keyFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&k.File, "key-file", "", "read the client's private key from this `PATH` (PEM, or a provider's JSON) and store it")
	f.BoolVar(&k.Stdin, "key-stdin", false, "read the client's private key from standard input and store it")
}

func (k *keyFlags) given() bool { return k.File != "" || k.Stdin }

// read reads and checks the key.
func (k *keyFlags) read(ws *workspace) (oauth.KeyFile, error) {
	if k.File != "" && k.Stdin {
		return oauth.KeyFile{}, usagef("--key-file and --key-stdin exclude each other")
	}
	from, source := ws.app.Stdin, "standard input"
	if k.File != "" {
		source = k.File
		path := k.File
		if !filepath.IsAbs(path) {
			path = filepath.Join(ws.dir, path)
		}
		info, err := os.Stat(path)
		if err == nil && !info.Mode().IsRegular() {
			err = errors.New("it is no regular file")
		}
		if err != nil {
			return oauth.KeyFile{}, failf(exitUsage, "", "read the key: %w", pathReason(err))
		}
		file, err := os.Open(path)
		if err != nil {
			return oauth.KeyFile{}, failf(exitUsage, "", "read the key: %w", pathReason(err))
		}
		defer func() { _ = file.Close() }() // only read
		from = file
	}
	data, err := io.ReadAll(io.LimitReader(from, maxKeyFile+1))
	if err != nil {
		return oauth.KeyFile{}, failf(exitUsage, "", "read the key: %w", err)
	}
	key, err := oauth.ParseKeyFile(secret.New(string(data)))
	if err != nil {
		return oauth.KeyFile{}, failf(exitUsage, "it takes a private key in PEM, or the JSON file of a Google service account or a Box application",
			"%s: %w", oauth.Clean(source), err)
	}
	return key, nil
}

// takesKey reports whether a flow of the provider signs with a key of the client,
// and whether that is the jwt-bearer flow.
func takesKey(p *providers.Provider, chosen string) (takes, bearer bool) {
	bearer = slices.Contains(p.Flows, flow.FlowJWTBearer)
	switch {
	case chosen == flow.FlowJWTBearer:
		return true, true
	case p.TokenEndpointAuthMethod == oauth.AuthPrivateKeyJWT:
		return true, false
	case chosen == flow.FlowAuto || chosen == "":
		return bearer, bearer
	}
	return false, false
}

// byKey reports whether this login is a jwt-bearer one: by the flag, by the key
// that comes along, as before, or because the provider knows nothing else.
func (a *attempt) byKey() bool {
	switch {
	case a.opts.Flow == flow.FlowJWTBearer:
		return true
	case a.opts.Flow != flow.FlowAuto || a.opts.ImportStdin:
		return false
	case a.opts.Key.given():
		_, bearer := takesKey(a.def.Provider, a.opts.Flow)
		return bearer
	case a.before != nil && a.before.Flow == flow.FlowJWTBearer:
		return true
	}
	return len(a.def.Flows) > 0 && a.def.Flows[0] == flow.FlowJWTBearer
}

// readKey takes the key that comes with this login, and what its file says about
// the client.
func (a *attempt) readKey() error {
	takes, _ := takesKey(a.def.Provider, a.opts.Flow)
	if !takes {
		return usagef("--key-file, --key-stdin: %s signs nothing with a client's key", oauth.Clean(a.def.Name))
	}
	if a.opts.Key.Stdin && a.opts.SecretStdin {
		return usagef("--key-stdin and --client-secret-stdin cannot both read standard input")
	}
	file, err := a.opts.Key.read(a.ws)
	if err != nil {
		return err
	}
	c := &a.client
	if a.opts.ClientID == "" && file.ClientID != "" {
		c.ID = file.ClientID
	}
	if c.ID == "" {
		return failf(exitUsage, "give it with --client-id", "the key file does not say which client it belongs to")
	}
	if a.opts.SecretStdin {
		if file.Key.Secret, err = flow.ReadSecret(a.ws.app.Stdin); err != nil {
			return failf(exitUsage, "", "%w", err)
		}
	}
	if a.opts.Subject == "" {
		a.opts.Subject = file.Subject
	}
	c.Secret, err = file.Key.Encode()
	c.keep = true
	return err
}

// bearerSubject decides on whose behalf the client asks.
func (a *attempt) bearerSubject(ctx context.Context) (string, error) {
	facts := &a.def.JWTBearer
	subject := a.opts.Subject
	if subject == "" && a.before != nil && a.before.Pins.JWTBearer != nil {
		subject = a.before.Pins.JWTBearer.Subject
	}
	switch {
	case a.flow != flow.FlowJWTBearer:
		if a.opts.Subject != "" {
			return "", usagef("--subject is for --flow jwt-bearer")
		}
		return "", nil
	case facts.Subject == "client":
		return a.client.ID, nil
	case subject == "" && facts.Subject == "required":
		what := facts.SubjectTitle
		if what == "" {
			what = "whose data the token is for"
		}
		if !a.ws.person() {
			return "", failf(exitUsage, "give it with --subject", "%s wants to be told %s", oauth.Clean(a.def.Name), oauth.Clean(what))
		}
		return askText(ctx, a.ws.app, "Subject", what)
	case len(subject) > 512 || oauth.Clean(subject) != subject:
		return "", usagef("--subject: %q is not usable", oauth.Clean(subject))
	}
	return subject, nil
}

// narrowText says what a narrower token may be good for.
func narrowText(x providers.TokenExchange) string {
	if len(x.Scopes) == 0 {
		return ""
	}
	text := "by token exchange, with " + strings.Join(x.Scopes, ", ")
	if where := slices.Concat(x.Resources, x.Audiences); len(where) > 0 {
		text += "; for " + strings.Join(where, ", ")
	}
	return text
}

// describeKey says what is stored, for people.
func describeKey(id string) string { return fmt.Sprintf("client %s with its key", oauth.Clean(id)) }
