package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/apiauth/apiauth/internal/inject"
	"github.com/apiauth/apiauth/internal/secret"
)

// demo walks through the life of a connection. Each step runs a real command
// line inside the sandbox and then looks at the result from outside.
func (r *sandboxRun) demo(ctx context.Context) error {
	say := func(step, format string, a ...any) {
		fmt.Fprintf(r.g.app.Stdout, "%-12s %s\n", step, fmt.Sprintf(format, a...))
	}
	say("start", "issuer and API on %s, tokens live %s, refresh tokens rotate", r.server.Issuer(), r.opts.TokenTTL)

	if _, err := r.step(ctx, "connect", sandboxName); err != nil {
		return err
	}
	status, err := r.demoStatus(ctx)
	if err != nil {
		return err
	}
	say("connect", "authorization code with PKCE over loopback; signed in as %s", status.Account)
	say("", "the grant lies in the %s store, scopes: %s", status.Store, strings.Join(status.ScopesGranted, " "))

	first, err := r.demoToken(ctx)
	if err != nil {
		return err
	}
	code, who := r.callMe(ctx, first)
	say("use", "GET /api/me with the token: %d, %s", code, who)
	if code != http.StatusOK {
		return failf(exitFailure, "", "the API of the sandbox refused a fresh token")
	}

	if err := r.awaitExpiry(ctx, first); err != nil {
		return err
	}
	code, _ = r.callMe(ctx, first)
	say("expire", "after %s the same token: %d", r.opts.TokenTTL, code)
	if code != http.StatusUnauthorized {
		return failf(exitFailure, "", "the API of the sandbox accepted an expired token")
	}

	before := r.server.Stats()
	second, err := r.demoToken(ctx)
	if err != nil {
		return err
	}
	after := r.server.Stats()
	code, who = r.callMe(ctx, second)
	say("refresh", "'apiauth token' fetched another one with %d request, refresh token rotated: %d, %s", after.Refreshes-before.Refreshes, code, who)
	if code != http.StatusOK || second.Equal(first) {
		return failf(exitFailure, "", "the refreshed token is of no use")
	}

	out, err := r.step(ctx, "exec", "-c", sandboxName+"=SANDBOX_ACCESS_TOKEN", "--", r.g.app.Executable, "sandbox", "--as-child")
	if err != nil {
		return err
	}
	say("hand over", "a child of 'apiauth exec' %s", strings.TrimSpace(out))

	if _, err := r.step(ctx, "disconnect", sandboxName); err != nil {
		return err
	}
	if r.server.Active(second) {
		return failf(exitFailure, "", "the token outlived its disconnect")
	}
	say("disconnect", "forgotten here and revoked at the issuer: the token is dead")
	gone := *r.inner
	gone.Stdout, gone.Stderr = io.Discard, io.Discard
	if code := Main(ctx, &gone, []string{"token", sandboxName}); code != exitNeedsConnect {
		return failf(exitFailure, "", "'apiauth token' ended with %d after disconnect, not with %d", code, exitNeedsConnect)
	}
	say("end", "'apiauth token' now ends with status %d; nothing is left behind", exitNeedsConnect)
	return nil
}

// step runs one command line inside and returns what it printed.
func (r *sandboxRun) step(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	inner := *r.inner
	inner.Stdout, inner.Stderr = &stdout, &stderr
	inner.Exec = func(argv, env []string) error {
		return ended(inject.Run(ctx, inject.Child{
			Argv: argv, Env: r.withPrivate(env), Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr,
			Stop: func(p *os.Process) { _ = p.Kill() },
		}))
	}
	if code := Main(ctx, &inner, args); code != exitOK {
		_, _ = io.Copy(r.g.app.Stderr, &stderr)
		return "", &silentError{code}
	}
	return stdout.String(), nil
}

// withPrivate adds where the API is to a child's environment.
func (r *sandboxRun) withPrivate(env []string) []string {
	return append(env, "SANDBOX_API="+r.server.APIBase())
}

func (r *sandboxRun) demoToken(ctx context.Context) (secret.Text, error) {
	out, err := r.step(ctx, "token", sandboxName, "--min-ttl", "0s")
	return secret.New(strings.TrimSpace(out)), err
}

func (r *sandboxRun) demoStatus(ctx context.Context) (statusJSON, error) {
	out, err := r.step(ctx, "status", "--json")
	if err != nil {
		return statusJSON{}, err
	}
	var list []statusJSON
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		return statusJSON{}, failf(exitFailure, "", "'apiauth status --json' printed something else than one connection")
	}
	return list[0], nil
}

// awaitExpiry waits until the issuer no longer accepts the token.
func (r *sandboxRun) awaitExpiry(ctx context.Context, token secret.Text) error {
	deadline := r.g.app.Now().Add(r.opts.TokenTTL + 10*time.Second)
	for r.server.Active(token) {
		if r.g.app.Now().After(deadline) {
			return failf(exitFailure, "", "the token does not expire")
		}
		if err := r.g.app.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (r *sandboxRun) callMe(ctx context.Context, token secret.Text) (int, string) {
	return callSandbox(ctx, r.server.APIBase(), token)
}

// callSandbox asks the sandbox's API who the token belongs to.
func callSandbox(ctx context.Context, base string, token secret.Text) (int, string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/me", nil)
	if err != nil {
		return 0, ""
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, "no answer"
	}
	defer func() { _ = resp.Body.Close() }()
	var me struct {
		Name string `json:"name"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<16)).Decode(&me); err != nil {
		return resp.StatusCode, ""
	}
	return resp.StatusCode, me.Name
}

// sandboxChild is the child of the demo: a program that knows nothing but its
// environment.
func sandboxChild(ctx context.Context, app *App) error {
	token, base := secret.New(app.env("SANDBOX_ACCESS_TOKEN")), app.env("SANDBOX_API")
	if token.IsZero() || base == "" {
		return usagef("--as-child needs SANDBOX_ACCESS_TOKEN and SANDBOX_API")
	}
	code, who := callSandbox(ctx, base, token)
	if code != http.StatusOK {
		return failf(exitFailure, "", "the API answered HTTP status %d", code)
	}
	fmt.Fprintf(app.Stdout, "found it in SANDBOX_ACCESS_TOKEN and called the API: %d, %s\n", code, who)
	return nil
}
