package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/apiauth/apiauth/internal/apicall"
	"github.com/apiauth/apiauth/internal/connection"
	"github.com/apiauth/apiauth/internal/oauth"
	"github.com/apiauth/apiauth/internal/providers"
	"github.com/apiauth/apiauth/internal/secret"
)

// defaultPages is how many pages --paginate asks for at most.
const defaultPages = 100

type apiOptions struct {
	Name     string
	Path     string
	Method   string
	Headers  []string
	Fields   []string // text
	Typed    []string // read as JSON, or from files
	Input    string
	Include  bool
	Paginate bool
	MaxPages int
	Capped   bool // MaxPages was given
	Select   string
	Silent   bool
	Output   string
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

Fields become a JSON body (a form where the provider takes no JSON), and the query
of a GET, a HEAD, or beside --input. In JSON, name[key] is a member of an object
and name[] an element of a list.

After a 401 the call is made once more with a new token, after a 429 or 503 as the
answer says, waiting 30 s in all at most. --paginate follows the pages of a list
where the provider's definition says how, and prints one JSON array of all items.
--select takes a JSONPath expression (RFC 9535) and prints each selected value on
a line, text as it is; with --json, one array. Of pages it sees the items of each.

The answer is printed as it came, JSON indented at a terminal. Ends with 0 for 2xx
and 3xx, with 4 for a 401 that a new token does not help against, and with 1 for
any other; the body is printed in each case.`,
		Example: `  apiauth api spotify me --select '$.display_name'
  apiauth api github user/repos --paginate --select '$[*].full_name'
  apiauth api github user/repos -f name=demo -F private=true
  apiauth api github repos/me/demo/releases -X POST --input release.json`,
		Args:              args(between(2, 2)),
		ValidArgsFunction: completeConnections(g),
		RunE: func(cmd *cobra.Command, a []string) error {
			opts.Name, opts.Path = a[0], a[1]
			opts.Capped = cmd.Flags().Changed("max-pages")
			return runAPI(cmd.Context(), g, opts)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&opts.Method, "method", "X", "", "request `METHOD` (default GET, POST with fields or --input)")
	f.StringArrayVarP(&opts.Headers, "header", "H", nil, "add a `'Name: value'` header; repeat for more")
	f.StringArrayVarP(&opts.Fields, "field", "f", nil, "add a field `NAME=TEXT`; repeat for more")
	f.StringArrayVarP(&opts.Typed, "typed-field", "F", nil, "add `NAME=VALUE`: true, false, null, a number, @FILE, or text")
	f.StringVar(&opts.Input, "input", "", "send `FILE` as the body; - is standard input")
	f.BoolVarP(&opts.Include, "include", "i", false, "print the status line and the headers of the answer")
	f.BoolVar(&opts.Paginate, "paginate", false, "follow the pages of a list and print all items")
	f.IntVar(&opts.MaxPages, "max-pages", defaultPages, "follow at most `N` pages; the default is an error when more follow")
	f.StringVar(&opts.Select, "select", "", "print what the JSONPath `EXPR` selects")
	f.BoolVar(&opts.Silent, "silent", false, "print no body")
	f.StringVarP(&opts.Output, "output", "o", "", "write the body of a success to `FILE` (mode 0600)")
	return cmd
}

func (o *apiOptions) check() error {
	switch {
	case o.MaxPages < 1:
		return usagef("--max-pages takes a number from 1 on")
	case o.Capped && !o.Paginate:
		return usagef("--max-pages goes with --paginate")
	case o.Paginate && o.Include:
		return usagef("--include shows one answer; leave it out with --paginate")
	case o.Paginate && o.Input != "":
		return usagef("--paginate reads lists; leave --input out")
	case o.Silent && (o.Select != "" || o.Output != ""):
		return usagef("--silent prints no body; leave --select and --output out")
	}
	return nil
}

func runAPI(ctx context.Context, g *globals, opts apiOptions) error {
	if err := opts.check(); err != nil {
		return err
	}
	var selection *apicall.Selection
	if opts.Select != "" {
		var err error
		if selection, err = apicall.ParseSelection(opts.Select); err != nil {
			return err
		}
	}
	ws, err := g.workspace()
	if err != nil {
		return err
	}
	from, err := ws.origin(opts.Name)
	if err != nil {
		return err
	}
	access, err := from.token(ctx, opts.Name, connection.Option{})
	if err != nil {
		return err
	}
	pins := &access.Header.Pins
	def, err := ws.catalogue.Get(access.Header.Provider)
	if err != nil {
		def = nil // a discovered issuer: nothing more is known of its API
	}
	request, err := ws.apiRequest(&opts, pins, def)
	if err != nil {
		return err
	}
	caller, err := ws.caller(ctx, access)
	if err != nil {
		return err
	}
	var answers callCount
	caller.Answered = func(status int) { answers.add(status) }
	defer func() {
		if answers != (callCount{}) {
			from.log.calls(ctx, opts.Name, access, answers)
		}
	}()
	out := &apiOutput{ws: ws, opts: &opts, selection: selection}
	defer out.discard()
	if opts.Paginate {
		err = ws.apiPages(ctx, caller, request, def, out)
	} else {
		err = out.answer(ctx, caller, request)
	}
	if err != nil {
		return err
	}
	return out.finish()
}

// caller sends with the token of a connection.
func (ws *workspace) caller(ctx context.Context, access connection.Access) (*apicall.Caller, error) {
	client, err := ws.apiClient(ctx, access)
	if err != nil {
		return nil, err
	}
	return &apicall.Caller{
		Pins:   &access.Header.Pins,
		Client: client,
		Token: func(ctx context.Context, refresh bool) (secret.Text, error) {
			if !refresh {
				return access.Token, nil
			}
			a, err := ws.token(ctx, access.Name, connection.Option{Refresh: true})
			return a.Token, err
		},
		Renewable: access.Header.CanRenew(),
		UserAgent: "apiauth/" + ws.app.Version.Number,
		Now:       ws.app.Now,
		Sleep:     ws.app.Sleep,
		Waiting: func(d time.Duration, why string) {
			ws.warn("%s; trying again in %s", why, d)
		},
	}, nil
}

// apiRequest builds the request from the flags.
func (ws *workspace) apiRequest(opts *apiOptions, pins *providers.Pins, def *providers.Definition) (apicall.Request, error) {
	target, err := apicall.Address(pins, opts.Path)
	if err != nil {
		return apicall.Request{}, err
	}
	headers, err := apicall.ParseHeaders(opts.Headers, pins.APIAuth)
	if err != nil {
		return apicall.Request{}, err
	}
	fields, err := ws.apiFields(opts)
	if err != nil {
		return apicall.Request{}, err
	}
	r := apicall.Request{Method: strings.ToUpper(opts.Method), URL: target, Header: headers}
	if r.Method == "" {
		r.Method = http.MethodGet
		if opts.Input != "" || len(fields) > 0 && !opts.Paginate {
			r.Method = http.MethodPost
		}
	}
	switch {
	case len(fields) == 0:
	case r.Method == http.MethodGet || r.Method == http.MethodHead || opts.Input != "":
		q := target.Query()
		for name, values := range apicall.Values(fields) {
			q[name] = append(q[name], values...)
		}
		target.RawQuery = q.Encode()
	case def != nil && def.API.Body == "form":
		setType(headers, pins, "application/x-www-form-urlencoded")
		r.Body, err = apicall.NewBody(strings.NewReader(apicall.Values(fields).Encode()))
	default:
		setType(headers, pins, "application/json")
		var doc []byte
		if doc, err = apicall.JSONBody(fields); err == nil {
			r.Body, err = apicall.NewBody(bytes.NewReader(doc))
		}
	}
	if err != nil || opts.Input == "" {
		return r, err
	}
	input, err := openInput(ws.app.Stdin, ws.dir, opts.Input)
	if err != nil {
		return r, err
	}
	r.Body, err = apicall.NewBody(input)
	return r, err
}

// setType sets the type of a body, unless a flag or the definition has.
func setType(h http.Header, pins *providers.Pins, mime string) {
	if h.Get("Content-Type") != "" {
		return
	}
	for name := range pins.APIHeaders {
		if strings.EqualFold(name, "Content-Type") {
			return
		}
	}
	h.Set("Content-Type", mime)
}

// maxFieldFile is the largest file that a field takes: 1 MiB.
const maxFieldFile = 1 << 20

func (ws *workspace) apiFields(opts *apiOptions) ([]apicall.Field, error) {
	var fields []apicall.Field
	for _, s := range opts.Fields {
		f, err := apicall.ParseField(s)
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	for _, s := range opts.Typed {
		f, err := apicall.ParseTyped(s, func(name string) ([]byte, error) {
			input, err := openInput(ws.app.Stdin, ws.dir, name)
			if err != nil || input == nil {
				return nil, err
			}
			doc, err := io.ReadAll(io.LimitReader(input, maxFieldFile+1))
			if err == nil && len(doc) > maxFieldFile {
				return nil, usagef("--typed-field: %s is larger than 1 MiB; send it with --input", oauth.Clean(name))
			}
			return doc, err
		})
		if err != nil {
			return nil, err
		}
		fields = append(fields, f)
	}
	return fields, nil
}

// apiClient follows no redirect: a token must not travel along.
func (ws *workspace) apiClient(ctx context.Context, access connection.Access) (*http.Client, error) {
	issuer, err := ws.issuer()
	if err != nil {
		return nil, err
	}
	transport, err := issuer.RoundTripper()
	if access.Header.Pins.APICertificate {
		from, ferr := ws.origin(access.Name)
		if ferr != nil {
			return nil, ferr
		}
		as, ferr := from.src.APIClient(ctx, &access.Header)
		if ferr != nil {
			return nil, ferr
		}
		transport, err = issuer.RoundTripperAs(as)
	}
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// apiPages prints the items of all pages as one array.
func (ws *workspace) apiPages(ctx context.Context, c *apicall.Caller, r apicall.Request, def *providers.Definition, out *apiOutput) error {
	if r.Method != http.MethodGet {
		return usagef("--paginate reads lists: leave --method out")
	}
	var rules []providers.Pagination
	if def != nil {
		rules = def.API.Pagination
	}
	more := false
	err := c.Pages(ctx, r, rules, out.opts.MaxPages, func(p apicall.Page) error {
		if p.Items == nil {
			return out.refusal(p.Response, p.Body)
		}
		more = p.More
		return out.items(p.Items)
	})
	if err != nil {
		return err
	}
	if out.status/100 == 2 {
		if err := out.closeList(); err != nil {
			return err
		}
	}
	if !more || out.status/100 != 2 {
		return nil
	}
	if out.opts.Capped {
		ws.warn("more pages follow after the %s that --max-pages allows", plural(out.opts.MaxPages, "page"))
		return nil
	}
	out.late = failf(exitFailure, "ask for more with --max-pages", "more pages follow after the first %d", out.opts.MaxPages)
	return nil
}

// location is where --output leads.
func (ws *workspace) location(name string) (string, error) {
	if !filepath.IsAbs(name) {
		name = filepath.Join(ws.dir, name)
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return "", failf(exitUsage, "name a file, or leave --output away to print the answer", "write %s: it is no regular file", oauth.Clean(name))
	}
	return name, nil
}

// line writes a selected value: text as it is, all else as JSON.
func line(value json.RawMessage) []byte {
	var text string
	if json.Unmarshal(value, &text) == nil && string(value) != "null" {
		return append([]byte(text), '\n')
	}
	return append(value, '\n')
}

// isJSON reports whether an answer says that it is JSON.
func isJSON(h http.Header) bool {
	mime, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	mime = strings.ToLower(strings.TrimSpace(mime))
	return strings.HasSuffix(mime, "/json") || strings.HasSuffix(mime, "+json")
}
