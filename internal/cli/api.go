package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
)

type apiOptions struct {
	Name    string
	Path    string
	Method  string
	Headers []string
	Input   string
	Include bool
}

func newAPICmd(g *globals) *cobra.Command {
	var opts apiOptions
	cmd := &cobra.Command{
		Use:     "api NAME PATH",
		Short:   "Call the provider's API with the token added",
		GroupID: groupUse,
		Long: `Call PATH below the API base of the connection NAME, or a whole URL on one of its
pinned hosts, with the token added where the provider wants it. No other host ever
receives it; redirects are shown, not followed.

Ends with 0 for an answer of 2xx or 3xx, and with 1 for any other.`,
		Example: `  apiauth api spotify me
  apiauth api github user/repos?per_page=5
  echo '{"name":"x"}' | apiauth api github user/repos -X POST --input -`,
		Args:              args(cobra.ExactArgs(2)),
		ValidArgsFunction: completeConnections(g),
		RunE: func(cmd *cobra.Command, a []string) error {
			opts.Name, opts.Path = a[0], a[1]
			return runAPI(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.Method, "method", "X", "", "request `METHOD` (default GET, POST with --input)")
	f.StringArrayVarP(&opts.Headers, "header", "H", nil, "add a `'Name: value'` header; repeat for more")
	f.StringVar(&opts.Input, "input", "", "send `FILE` as the body; - is standard input")
	f.BoolVarP(&opts.Include, "include", "i", false, "print the status line and the headers of the answer")
	return cmd
}

func runAPI(ctx context.Context, g *globals, opts apiOptions) error {
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	access, err := ws.token(ctx, opts.Name, connection.Option{})
	if err != nil {
		return err
	}
	resp, err := ws.call(ctx, opts, access)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusUnauthorized && access.Header.CanRenew() && opts.Input != "-" {
		_ = resp.Body.Close()
		if access, err = ws.token(ctx, opts.Name, connection.Option{Refresh: true}); err != nil {
			return err
		}
		if resp, err = ws.call(ctx, opts, access); err != nil {
			return err
		}
	}
	defer func() { _ = resp.Body.Close() }()
	if opts.Include {
		fmt.Fprintf(g.app.Stdout, "%s %s\n", resp.Proto, resp.Status)
		if err := resp.Header.Write(g.app.Stdout); err != nil {
			return err
		}
		fmt.Fprintln(g.app.Stdout)
	}
	out := g.app.Stdout
	if g.app.StdoutTTY {
		out = &plainWriter{out: out}
	}
	if _, err := io.Copy(out, resp.Body); err != nil {
		return failf(exitTemporary, "try again", "read the answer of %s: %w", resp.Request.URL.Host, err)
	}
	switch resp.StatusCode / 100 {
	case 2, 3:
		return nil
	}
	return failf(exitFailure, "", "%s answered HTTP status %d", resp.Request.URL.Host, resp.StatusCode)
}

// call sends one request to a pinned host.
func (ws *workspace) call(ctx context.Context, opts apiOptions, access connection.Access) (*http.Response, error) {
	pins := &access.Header.Pins
	target, err := apiURL(pins, opts.Path)
	if err != nil {
		return nil, err
	}
	body, err := openInput(ws.app.Stdin, ws.dir, opts.Input)
	if err != nil {
		return nil, err
	}
	method := strings.ToUpper(opts.Method)
	if method == "" {
		method = http.MethodGet
		if body != nil {
			method = http.MethodPost
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, usagef("%q is no request: %w", oauth.Clean(opts.Path), err)
	}
	for name, value := range pins.APIHeaders {
		req.Header.Set(name, value)
	}
	req.Header.Set("User-Agent", "apiauth/"+ws.app.Version.Number)
	for _, h := range opts.Headers {
		name, value, found := strings.Cut(h, ":")
		if !found || strings.TrimSpace(name) == "" {
			return nil, usagef("--header takes 'Name: value', not %q", oauth.Clean(h))
		}
		if strings.EqualFold(strings.TrimSpace(name), "Host") {
			return nil, usagef("--header cannot set Host: the token goes to the pinned host only")
		}
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if strings.ContainsFunc(name, notInName) || strings.ContainsFunc(value, unicode.IsControl) {
			return nil, usagef("--header: %q cannot stand in a header", oauth.Clean(h))
		}
		req.Header.Set(name, value)
	}
	addToken(req, pins, access)
	client, err := ws.apiClient()
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // its URL may hold a key
		}
		return nil, failf(exitTemporary, "try again", "call %s: %w", target.Host, err)
	}
	return resp, nil
}

// apiURL resolves a path against the pinned API base, and refuses every host
// that is not pinned.
func apiURL(pins *providers.Pins, path string) (*url.URL, error) {
	if strings.HasPrefix(path, "//") {
		return nil, usagef("%q is no path: write the scheme as well", oauth.Clean(path))
	}
	address := path
	if before, _, _ := strings.Cut(path, "?"); !strings.Contains(before, "://") {
		if pins.APIBase == "" {
			return nil, failf(exitUsage, "give the whole URL", "the provider's definition names no API base")
		}
		// Joined as text, so that what is encoded stays encoded: in
		// projects/group%2Fname the slash belongs to the name.
		address = strings.TrimSuffix(pins.APIBase, "/") + "/" + strings.TrimPrefix(path, "/")
	}
	target, err := url.Parse(address)
	if err != nil || target.User != nil || strings.Contains(path, "\\") {
		return nil, usagef("%q is no path and no URL", oauth.Clean(path))
	}
	target.Fragment, target.RawFragment = "", ""
	for _, part := range strings.Split(target.Path, "/") {
		if part == "." || part == ".." {
			return nil, usagef("%q: the path has . or .. in it", oauth.Clean(path))
		}
	}
	host, err := providers.URLHost(target.String())
	if err != nil {
		return nil, usagef("%q: %w", oauth.Clean(path), err)
	}
	if target.Scheme != "https" && !(target.Scheme == "http" && pins.AllowInsecureLoopback && isLoopback(target.Hostname())) {
		return nil, failf(exitRefused, "", "tokens are sent over https only, not to %s", oauth.Clean(target.Scheme+"://"+target.Host))
	}
	if !pins.AllowsHost(host) {
		return nil, failf(exitRefused, "its hosts are "+strings.Join(pins.APIHosts, ", "), "%s is not a pinned host of this connection", oauth.Clean(host))
	}
	return target, nil
}

// addToken puts the token into the one place that the provider names.
func addToken(req *http.Request, pins *providers.Pins, access connection.Access) {
	auth := pins.APIAuth
	switch auth.In {
	case "query":
		q := req.URL.Query()
		q.Set(auth.Name, access.Token.Reveal())
		req.URL.RawQuery = q.Encode()
	case "basic":
		req.SetBasicAuth(access.Token.Reveal(), "")
	default:
		req.Header.Set(auth.Name, auth.Prefix+access.Token.Reveal())
	}
}

// apiClient follows no redirect: a token must not travel along.
func (ws *workspace) apiClient() (*http.Client, error) {
	issuer, err := ws.issuer()
	if err != nil {
		return nil, err
	}
	transport, err := issuer.RoundTripper()
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

func isLoopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// notInName reports what cannot stand in the name of a header (RFC 9110 section
// 5.6.2).
func notInName(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// plainWriter shows an answer at a terminal: without what could steer it.
type plainWriter struct {
	out  io.Writer
	tail []byte // the beginning of a character that the next call completes
}

func (w *plainWriter) Write(p []byte) (int, error) {
	b := slices.Concat(w.tail, p)
	shown := make([]byte, 0, len(b))
	for len(b) > 0 && (utf8.FullRune(b) || len(b) >= utf8.UTFMax) {
		r, n := utf8.DecodeRune(b)
		if r == '\n' || r == '\t' || !unicode.IsControl(r) && !(r == utf8.RuneError && n == 1) && !unicode.Is(unicode.Cf, r) {
			shown = append(shown, b[:n]...)
		}
		b = b[n:]
	}
	w.tail = append([]byte(nil), b...)
	if _, err := w.out.Write(shown); err != nil {
		return 0, err
	}
	return len(p), nil
}
