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
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/flow"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// maxKeyFile is the largest key file that is read, in bytes.
const maxKeyFile = 64 << 10

// keyFlags say where a client's private key comes from, and its certificate where
// it authenticates with one. Files are only read; what is kept lies in the store.
type keyFlags struct {
	File        string
	Stdin       bool
	Certificate string
}

func (k *keyFlags) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&k.File, "key-file", "", "read the client's private key from this `PATH` (PEM, or a provider's JSON) and store it")
	f.BoolVar(&k.Stdin, "key-stdin", false, "read the client's private key from standard input and store it")
	f.StringVar(&k.Certificate, "client-certificate", "", "read the client's certificate (mutual TLS) from this `PATH` (PEM, chain and key may follow) and store it")
	f.StringVar(&k.File, "client-key", "", "take the key from this `PATH`, as with --key-file")
}

func (k *keyFlags) given() bool { return k.File != "" || k.Stdin || k.Certificate != "" }

// read reads and checks the key, and what stands beside it.
func (k *keyFlags) read(ctx context.Context, ws *workspace) (oauth.KeyFile, error) {
	if k.File != "" && k.Stdin {
		return oauth.KeyFile{}, usagef("--key-file and --key-stdin exclude each other")
	}
	var (
		text    strings.Builder
		sources []string
	)
	add := func(what, source string, data []byte, err error) error {
		if err == nil && len(data) > maxKeyFile {
			err = fmt.Errorf("it is longer than %d KiB", maxKeyFile>>10)
		}
		if err != nil {
			return failf(exitUsage, "", "read the %s: %w", what, err)
		}
		text.Write(data)
		text.WriteByte('\n')
		sources = append(sources, oauth.Clean(source))
		return nil
	}
	// The key comes first: it counts, whatever stands in the other file.
	switch {
	case k.Stdin:
		data, err := io.ReadAll(io.LimitReader(ws.app.Stdin, maxKeyFile+1))
		if err := add("key", "standard input", data, err); err != nil {
			return oauth.KeyFile{}, err
		}
	case k.File != "":
		data, err := readKeyFile(ws, k.File)
		if err := add("key", k.File, data, err); err != nil {
			return oauth.KeyFile{}, err
		}
	}
	if k.Certificate != "" {
		data, err := readKeyFile(ws, k.Certificate)
		if err := add("certificate", k.Certificate, data, err); err != nil {
			return oauth.KeyFile{}, err
		}
	}
	whole := secret.New(text.String())
	key, err := oauth.ParseKeyFile(whole, secret.Text{})
	if errors.Is(err, oauth.ErrKeyEncrypted) && ws.person() {
		passphrase, asked := askHidden(ctx, ws.app, "Passphrase of the key", "used once, to store the key under the store's own seal")
		if asked != nil {
			return oauth.KeyFile{}, asked
		}
		key, err = oauth.ParseKeyFile(whole, passphrase)
	}
	if err != nil {
		return oauth.KeyFile{}, failf(exitUsage, "it takes a private key in PEM, or the JSON file of a Google service account or a Box application",
			"%s: %w", strings.Join(sources, ", "), err)
	}
	return key, nil
}

// readKeyFile reads a regular file, as far as a key or a certificate may be long
// and a byte more.
func readKeyFile(ws *workspace, path string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(ws.dir, path)
	}
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is no regular file")
	}
	if err != nil {
		return nil, pathReason(err)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, pathReason(err)
	}
	defer func() { _ = file.Close() }() // only read
	return io.ReadAll(io.LimitReader(file, maxKeyFile+1))
}

// clientKey reads the key of a provider's client. Where the client authenticates
// with a certificate, that must be there, belong to the key and be good; elsewhere
// there is none.
func (k *keyFlags) clientKey(ctx context.Context, ws *workspace, def *providers.Definition, bearer bool) (oauth.KeyFile, error) {
	method := def.TokenEndpointAuthMethod
	needed := !bearer && oauth.UsesCertificate(method)
	if k.Certificate != "" && !needed {
		return oauth.KeyFile{}, failf(exitUsage, "a definition of your own can say token_endpoint_auth_method: tls_client_auth or self_signed_tls_client_auth ('apiauth provider add')",
			"--client-certificate: clients of %s do not authenticate with a certificate", oauth.Clean(def.Name))
	}
	file, err := k.read(ctx, ws)
	if err != nil {
		return oauth.KeyFile{}, err
	}
	if !needed {
		file.Key.Certificates = nil // public, and of no use
		return file, nil
	}
	c, err := file.Key.Certificate()
	switch {
	case err != nil:
		return oauth.KeyFile{}, failf(exitUsage, "give both: --client-certificate FILE --client-key FILE, or one file in PEM that holds both", "%s wants a client's certificate: %w", oauth.Clean(def.Name), err)
	case method == oauth.AuthTLS && ws.app.Now().After(c.Ends):
		return oauth.KeyFile{}, failf(exitUsage, "ask whoever issued it for a new one", "the certificate %s ended on %s", c.Subject, c.Ends.Format(time.DateOnly))
	case !c.ForClients:
		ws.warn("the certificate %s says what it is for, and that is not the authentication of clients; %s may refuse it", c.Subject, oauth.Clean(def.Name))
	}
	ws.warnCertificate(oauth.Clean(def.Name), c.Ends)
	return file, nil
}

// certificateSoon is how long before the end of a client's certificate a person is
// told.
const certificateSoon = 30 * 24 * time.Hour

// warnCertificate tells of a client's certificate that has ended or ends soon.
func (ws *workspace) warnCertificate(provider string, ends time.Time) {
	switch left := ends.Sub(ws.app.Now()); {
	case ends.IsZero() || left > certificateSoon:
	case left <= 0:
		ws.warn("the client's certificate ended on %s; %s may refuse it", ends.Format(time.DateOnly), provider)
	default:
		ws.warn("the client's certificate ends on %s; ask for the next one in time", ends.Format(time.DateOnly))
	}
}

// certificateEnds returns when the certificate of a connection's client ends; zero
// where it authenticates in another way, or that is not known here.
func (ws *workspace) certificateEnds(s connection.Store, h *connection.Header) time.Time {
	if s == nil || !oauth.UsesCertificate(h.Pins.AuthMethod) {
		return time.Time{}
	}
	r, err := s.Registration(h.Provider, ws.projectID)
	if err != nil || r.ClientID != h.Pins.ClientID || r.TokenEndpoint != h.Pins.TokenEndpoint {
		return time.Time{}
	}
	return oauth.CertificateEnds(r.Certificates)
}

// takesKey reports whether a client has a key in a flow of the provider, and whether that is the jwt-bearer flow.
func takesKey(p *providers.Provider, chosen string) (takes, bearer bool) {
	bearer = slices.Contains(p.Flows, flow.FlowJWTBearer)
	switch {
	case chosen == flow.FlowJWTBearer:
		return true, true
	case oauth.UsesKey(p.TokenEndpointAuthMethod):
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
func (a *attempt) readKey(ctx context.Context) error {
	takes, bearer := takesKey(a.def.Provider, a.opts.Flow)
	if !takes && a.opts.Key.Certificate == "" {
		return usagef("--key-file, --key-stdin: %s signs nothing with a client's key", oauth.Clean(a.def.Name))
	}
	if a.opts.Key.Stdin && a.opts.SecretStdin {
		return usagef("--key-stdin and --client-secret-stdin cannot both read standard input")
	}
	file, err := a.opts.Key.clientKey(ctx, a.ws, a.def, bearer)
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
func describeKey(id, method string) string {
	if oauth.UsesCertificate(method) {
		return fmt.Sprintf("client %s with its certificate and key", oauth.Clean(id))
	}
	return fmt.Sprintf("client %s with its key", oauth.Clean(id))
}

// boundToCertificate refuses tokens that a proxy cannot use.
func boundToCertificate(name string, pins *providers.Pins) error {
	if !pins.APICertificate {
		return nil
	}
	return failf(exitUsage, fmt.Sprintf("'apiauth api %s' presents it, and a program that has it can get the token from 'apiauth exec' without --placeholder", name),
		"the tokens of %q are bound to the client's certificate, which a proxy does not present", name)
}

// checkKind refuses to take what is stored for one kind of client authentication
// for another: a private key must not be sent as a secret.
func (a *attempt) checkKind(reg *connection.Registration, method string) error {
	if !reg.HasSecret || oauth.UsesKey(reg.AuthMethod) == oauth.UsesKey(method) && oauth.UsesCertificate(reg.AuthMethod) == oauth.UsesCertificate(method) {
		return nil
	}
	return failf(exitRefused, fmt.Sprintf("if that is expected, store the client again with 'apiauth client set %s'", oauth.Clean(a.provider)),
		"the client stored for %s authenticates by %s, but its definition now says %s", oauth.Clean(a.provider), oauth.Clean(reg.AuthMethod), oauth.Clean(method))
}

// noCertificate says that a client with a certificate is needed, and how it is
// given.
func (a *attempt) noCertificate() error {
	return failf(exitUsage, fmt.Sprintf("register it at %s with the redirect URI %s and give it with --client-id ID --client-certificate FILE --client-key FILE", a.registerPage(), a.redirectToRegister()),
		"no client is known for %s, which wants one with a certificate", oauth.Clean(a.def.Name))
}
